"""Energy of a language model's prompt and tokens, from the power of what of it ran on the RTL."""

from collections.abc import Sequence

from evaluators.energy import Energy, measured_energy, sram_energy_j
from evaluators.language_cost import LanguageCost, PartCost, Phase
from evaluators.language_parts import HEAD
from evaluators.silicon.core_power import CorePower
from evaluators.target import Target
from evaluators.traffic import Traffic
from hwlib.config import CoreConfig
from hwlib.frozen import Frozen


class PartOnRtl(Frozen):
    """What a program of one part did on the RTL, and what was expected of it."""

    part: str
    """Name of the block, or `language_parts.HEAD`."""

    phase: Phase
    """A piece of the prompt, or a token after it."""

    weight_bits: float
    """Mean bits of a weight."""

    cycles: int
    """On the RTL."""

    predicted_cycles: int
    """As `hwlib.timeline` has them."""

    compared_values: int
    """Values of tensors that were compared with the integer model, all equal."""

    power: CorePower
    """Mean power of the core meanwhile."""

    traffic: Traffic
    """What the program moved and computed."""


class OnRtl(Frozen):
    """What of a model was run on the RTL."""

    parts: tuple[PartOnRtl, ...]
    """Every program."""

    kinds: int
    """Kinds of blocks that the model has."""


def energy_on_rtl(
    cost: LanguageCost, ran: OnRtl, target: Target, config: CoreConfig, clock_hz: float
) -> Energy:
    """Energy of prompt and tokens: mean power of what was run, over the cycles of all there is.

    A kind of blocks that was not run draws what that of the nearest mean bits draws. Reads, writes
    and DRAM's bytes are counted of every program.

    Args:
        cost: Cycles and traffic by part.
        ran: What was run on the RTL.
        target: Gives the energy of a DRAM byte, and the devices of the SRAM.
        config: The core's knobs.
        clock_hz: Of both.
    """
    shares = [
        measured_energy(
            _power(part, ran.parts),
            part.cycles,
            clock_hz,
            cost.latency_s * part.cycles / cost.cycles,
            part.traffic.dram_bytes,
            target,
        ).model_copy(update={"sram_j": sram_energy_j(part.traffic, config, target.sram)})
        for part in cost.parts
    ]
    first, *others = shares
    return sum(others, first)


def _power(part: PartCost, ran: Sequence[PartOnRtl]) -> CorePower:
    """Of what was run that is nearest: the head, or a block of that phase."""

    def distance(each: PartOnRtl) -> tuple[bool, bool, float]:
        head = (each.part == HEAD) != (part.part == HEAD)
        return head, each.phase != part.phase, abs(each.weight_bits - part.weight_bits)

    return min(ran, key=distance).power
