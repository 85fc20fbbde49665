"""Energy of programs: measured on the core's gates, or modelled where nothing was simulated.

Measured, logic, clock and leakage are those of the netlist under the activity that the RTL had in
windows of the run (`evaluators.meter`); SRAM and DRAM are accesses times a table's figure. There
are no glitches and no clock tree in it.

Modelled, counts of operations are multiplied with documented figures. The registers that are
clocked and the logic between the operators are not in it: on the baseline two thirds of the energy
are missing (docs/power.md). It ranks designs by what they move and compute, and by how long they
leak. Every product counts in full, those with padding included.
"""

from typing import Self

from evaluators.silicon.core_power import CorePower
from evaluators.silicon.memory import SramFlavour, SramMacro, sram_macro
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
    """Energy by part, in joules."""

    logic_j: float
    """Combinational cells, flip-flops away from the clock, their loads; modelled: products, scaled
    sums and vector results."""

    clock_j: float
    """Flip-flops at clock edges, and their clock pins; modelled: nothing."""

    sram_j: float
    """Reads and writes of both memories and of the channel tables (CACTI 7)."""

    leakage_j: float
    """Leakage of SRAM (CACTI 7) and of the mapped cells (Liberty) over the latency."""

    dram_j: float
    """Bytes over the DRAM interface (target)."""

    @property
    def total_j(self) -> float:
        """All parts."""
        return sum(self.model_dump().values(), 0.0)

    def __add__(self, other: Self) -> Self:
        ours, theirs = self.model_dump(), other.model_dump()
        return type(self)(**{name: ours[name] + theirs[name] for name in ours})


def measured_energy(
    power: CorePower,
    cycles: int,
    clock_hz: float,
    latency_s: float,
    dram_bytes: float,
    target: Target,
) -> Energy:
    """Energy of one inference.

    Args:
        power: Mean power of the core while it runs.
        cycles: How many cycles it runs for.
        clock_hz: The clock of both.
        latency_s: How long it leaks for, waiting for DRAM included.
        dram_bytes: Bytes that it moves.
        target: Gives the energy of a DRAM byte.
    """
    run_s = cycles / clock_hz
    return Energy(
        logic_j=power.logic_w * run_s,
        clock_j=power.clock_w * run_s,
        sram_j=power.sram_w * run_s,
        leakage_j=(power.logic_leakage_w + power.sram_leakage_w) * latency_s,
        dram_j=dram_bytes * target.dram_figures.energy_j_per_byte,
    )


def modelled_energy(
    traffic: Traffic,
    config: CoreConfig,
    target: Target,
    latency_s: float,
    cell_leakage_w: float,
) -> Energy:
    """Energy of programs with these counts.

    Args:
        traffic: What the programs move and compute, for example of one question.
        config: The core's knobs, for the size of its memories.
        target: Gives the energy of a DRAM byte, and the devices of the SRAM.
        latency_s: How long the core runs for them.
        cell_leakage_w: Leakage of the logic cells (`Synthesis.leakage_w`).
    """
    memories = (config.activation_memory, config.weight_memory, config.channel_tables)
    sram_leakage_w = sum(
        memory.banks * _macro(memory, target.sram).leakage_w for memory in memories
    )
    return Energy(
        logic_j=traffic.element_cycles * ELEMENT_J
        + traffic.rescaled * RESCALE_J
        + traffic.vector_results * VECTOR_J,
        clock_j=0.0,
        sram_j=sram_energy_j(traffic, config, target.sram),
        leakage_j=(sram_leakage_w + cell_leakage_w) * latency_s,
        dram_j=traffic.dram_bytes * target.dram_figures.energy_j_per_byte,
    )


def sram_energy_j(traffic: Traffic, config: CoreConfig, flavour: SramFlavour) -> float:
    """Energy of all reads and writes of both memories and of the channel tables, J (CACTI 7)."""
    memories = (config.activation_memory, config.weight_memory, config.channel_tables)
    activations, weights, channels = (_macro(memory, flavour) for memory in memories)
    return (
        traffic.activation_reads * activations.read_energy_j
        + traffic.activation_writes * activations.write_energy_j
        + traffic.weight_reads * weights.read_energy_j
        + traffic.weight_writes * weights.write_energy_j
        + traffic.channel_reads * channels.read_energy_j
        + traffic.channel_writes * channels.write_energy_j
    )


def _macro(memory: Banks, flavour: SramFlavour) -> SramMacro:
    return sram_macro(f"sram_{memory.words}x{memory.bits}", flavour)
