"""Cycles of each command as a closed formula, equal to the RTL's.

Derived here from the schedules in `hwlib/blocks/`; counted from the cycle in which the core takes
a command up to, and without, the first cycle in which it offers to take the next one, with load
data always there and the store stream always ready.
"""

from collections.abc import Mapping, Sequence

from hwlib.config import AcceleratorConfig
from hwlib.edit import UnitName, UnitTiming
from hwlib.isa import Command, Matmul, load_word_bytes, row_beats

Timings = Mapping[UnitName, UnitTiming]
"""The schedule of each unit."""

SHIPPED_TIMINGS: dict[UnitName, UnitTiming] = {
    "element": UnitTiming(latency=1),
    "requantizer": UnitTiming(latency=4),
}
"""The schedules of the units in `hwlib/units/`."""


def command_cycles(
    command: Command, config: AcceleratorConfig, timings: Timings = SHIPPED_TIMINGS
) -> int:
    """Cycles of one command without stalls.

    A load takes 2 + words * max(1, word bytes / beat bytes): one cycle to take the command, one
    from the last beat to the bank, and one a word or, where words are wider, one a beat.

    A matmul takes 1 + depth, and with drain then: the skew of the last element's operands
    (rows + columns - 1) and the element's latency; one cycle for each row that is not sent; the
    bias adder; the requantizer's latency for int8; and the beats of the rows that are sent.
    """
    if not isinstance(command, Matmul):
        beats_a_word = load_word_bytes(command, config) / config.dma.bytes_per_cycle
        return 2 + int(command.words * max(1.0, beats_a_word))
    cycles = 1 + command.depth
    if command.drain:
        rows, columns = config.array.rows, config.array.columns
        cycles += rows + columns - 1 + timings["element"].latency
        cycles += rows - command.rows + 1
        cycles += timings["requantizer"].latency if command.output == "int8" else 0
        cycles += command.rows * row_beats(command.output, config)
    return cycles


def program_cycles(
    commands: Sequence[Command],
    config: AcceleratorConfig,
    timings: Timings = SHIPPED_TIMINGS,
) -> int:
    """Cycles of a whole program without stalls: commands do not overlap."""
    return sum(command_cycles(command, config, timings) for command in commands)
