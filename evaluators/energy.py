"""Modelled energy of programs: counts times documented figures per operation.

Not measured on the netlist: no switching activity, no clock tree, no registers and no wires
beyond what the per-operation figures hold. It ranks designs by what they move and compute, and by
how long they leak. Every product counts in full, those with padding included, so it does not reward
zeros that the core still clocks through.
"""

from evaluators.silicon.memory import DEFAULT_FLAVOUR, SramFlavour, SramMacro, sram_macro
from evaluators.target import Target
from evaluators.traffic import Traffic
from hwlib.config import Banks, CoreConfig
from hwlib.frozen import Frozen

INT8_MULTIPLY_J = 0.2e-12
"""M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014, figure
1.1.9: 45 nm, 0.9 V."""

INT32_ADD_J = 0.1e-12
"""Horowitz, ISSCC 2014, figure 1.1.9."""

INT32_MULTIPLY_J = 3.1e-12
"""Horowitz, ISSCC 2014, figure 1.1.9; stands for a 32 x 16 product, from above."""

ELEMENT_J = INT8_MULTIPLY_J + INT32_ADD_J
"""One cycle of an array element: an int8 product, or the 4-bit products that the same adders give,
and its addition to a 32-bit accumulator."""

RESCALE_J = INT32_MULTIPLY_J + 3 * INT32_ADD_J
"""One scaled sum: bias, product, rounding and zero point."""

VECTOR_J = 2 * INT32_MULTIPLY_J + 3 * INT32_ADD_J
"""One result of a vector lane: a product of its own (norm, gate, rotation, division) and the
scale's."""


class Energy(Frozen):
    """Modelled energy by part, in joules."""

    products_j: float
    """Multiply and accumulate, padding included."""

    rescaling_j: float
    """Scaling of sums in the drain."""

    vector_j: float
    """Norms, softmax, activations, rotations, additions."""

    sram_j: float
    """Reads and writes of both memories and of the channel tables (CACTI 7)."""

    dram_j: float
    """Bytes over the DRAM interface (target)."""

    leakage_j: float
    """Leakage of SRAM (CACTI 7) and of the mapped cells (Liberty) over the latency."""

    @property
    def total_j(self) -> float:
        """All parts."""
        return sum(self.model_dump().values(), 0.0)


def modelled_energy(
    traffic: Traffic,
    config: CoreConfig,
    target: Target,
    latency_s: float,
    cell_leakage_w: float,
    flavour: SramFlavour = DEFAULT_FLAVOUR,
) -> Energy:
    """Energy of programs with these counts.

    Args:
        traffic: What the programs move and compute, for example of one question.
        config: The core's knobs, for the size of its memories.
        target: Gives the energy of a DRAM byte.
        latency_s: How long the core runs for them.
        cell_leakage_w: Leakage of the logic cells (`Synthesis.leakage_w`).
        flavour: Device flavour of the SRAM.
    """
    memories = (config.activation_memory, config.weight_memory, config.channel_tables)
    activations, weights, channels = (_macro(memory, flavour) for memory in memories)
    sram_j = (
        traffic.activation_reads * activations.read_energy_j
        + traffic.activation_writes * activations.write_energy_j
        + traffic.weight_reads * weights.read_energy_j
        + traffic.weight_writes * weights.write_energy_j
        + traffic.channel_reads * channels.read_energy_j
        + traffic.channel_writes * channels.write_energy_j
    )
    sram_leakage_w = sum(
        memory.banks * macro.leakage_w
        for memory, macro in zip(memories, (activations, weights, channels), strict=True)
    )
    return Energy(
        products_j=traffic.element_cycles * ELEMENT_J,
        rescaling_j=traffic.rescaled * RESCALE_J,
        vector_j=traffic.vector_results * VECTOR_J,
        sram_j=sram_j,
        dram_j=traffic.dram_bytes * target.dram_energy_j_per_byte,
        leakage_j=(sram_leakage_w + cell_leakage_w) * latency_s,
    )


def _macro(memory: Banks, flavour: SramFlavour) -> SramMacro:
    return sram_macro(f"sram_{memory.words}x{memory.bits}", flavour)
