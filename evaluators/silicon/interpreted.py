"""Runs a program on the core in Amaranth's simulator: slow, but needs no compiler.

It simulates the Amaranth sources, not the linked netlist, so it serves where Verilator cannot be
had and as a second opinion on small programs; no metric comes from it.
"""

from collections.abc import Mapping, Sequence

from amaranth.sim import Simulator, SimulatorContext

from evaluators.silicon.simulation import SimulationError, SimulationResult
from hwlib.config import AcceleratorConfig
from hwlib.edit import UnitName, UnitTiming
from hwlib.elaborate import simulatable
from hwlib.isa import Command, encode_program


def simulate_interpreted(
    config: AcceleratorConfig,
    commands: Sequence[Command],
    load: bytes,
    store_bytes: int,
    sources: Mapping[UnitName, str] | None = None,
    timings: Mapping[UnitName, UnitTiming] | None = None,
    cycle_limit: int = 20_000,
) -> SimulationResult:
    """Runs a program from reset, without stalls; a few hundred cycles a second.

    Args:
        config: The core's knobs.
        commands: The program.
        load: The whole load stream, whole beats.
        store_bytes: Bytes that the program sends, whole beats.
        sources: Trusted texts that replace shipped units.
        timings: Their schedules.
        cycle_limit: Cycles after which it gives up.

    Raises:
        SimulationError: The program did not end within `cycle_limit`.
        ValueError: A command breaks a law of the core.
    """
    words = [int(word) for word in encode_program(commands, config)]
    beat_bytes = config.dma.bytes_per_cycle
    beats = [
        int.from_bytes(load[at : at + beat_bytes], "little")
        for at in range(0, len(load), beat_bytes)
    ]
    dut = simulatable(config, sources, timings)
    taken: list[int] = []  # cycle in which each command was taken
    ended: list[int] = []
    store = bytearray()
    end = 0

    async def testbench(ctx: SimulatorContext) -> None:
        nonlocal end
        ctx.set(dut.store.ready, 1)
        next_beat = 0
        for cycle in range(cycle_limit):
            ctx.set(dut.command.valid, len(taken) < len(words))
            ctx.set(dut.command.payload, words[len(taken)] if len(taken) < len(words) else 0)
            ctx.set(dut.load.valid, next_beat < len(beats))
            ctx.set(dut.load.payload, beats[next_beat] if next_beat < len(beats) else 0)
            if ctx.get(dut.command.ready) and len(ended) < len(taken):
                ended.append(cycle)
            if len(ended) == len(words) and len(store) >= store_bytes and not ctx.get(dut.busy):
                end = cycle
                return
            if ctx.get(dut.command.ready) and len(taken) < len(words):
                taken.append(cycle)
            if ctx.get(dut.load.ready) and next_beat < len(beats):
                next_beat += 1
            if ctx.get(dut.store.valid):
                store.extend(ctx.get(dut.store.payload).to_bytes(beat_bytes, "little"))
            await ctx.tick()
        at = len(ended)
        where = f"command {at}, {commands[at]!r}" if at < len(commands) else "the end"
        raise SimulationError(f"{cycle_limit} cycles were not enough: the core stood at {where}")

    simulator = Simulator(dut)
    simulator.add_clock(1e-9)
    simulator.add_testbench(testbench)
    simulator.run()
    return SimulationResult(
        store=bytes(store),
        cycles=tuple(after - before for before, after in zip(taken, ended, strict=True)),
        total_cycles=end - taken[0],
        engine="amaranth",
    )
