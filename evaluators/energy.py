"""Modelled energy of programs: counts times documented figures per operation.

Not measured on the netlist: no switching activity, no clock tree, no registers and no wires
beyond what the per-operation figures hold. It ranks designs by what they move and multiply, and by
how long they leak. Every product counts in full, those with padding included, so it does not reward
zeros that the core still clocks through.
"""

from evaluators.silicon.memory import DEFAULT_FLAVOUR, SramFlavour, sram_macro
from evaluators.target import Target
from hwlib.config import AcceleratorConfig
from hwlib.frozen import Frozen
from hwlib.traffic import Traffic

INT8_MULTIPLY_J = 0.2e-12
"""M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014, figure
1.1.9: 45 nm, 0.9 V."""

INT32_ADD_J = 0.1e-12
"""Horowitz, ISSCC 2014, figure 1.1.9."""

INT32_MULTIPLY_J = 3.1e-12
"""Horowitz, ISSCC 2014, figure 1.1.9; stands for the requantizer's 32 x 16 product, from above."""

PRODUCT_J = INT8_MULTIPLY_J + INT32_ADD_J
"""One product and its addition to a 32-bit accumulator."""

REQUANTIZE_J = INT32_MULTIPLY_J + 3 * INT32_ADD_J
"""One requantized sum: bias, product, rounding and zero point."""


class Energy(Frozen):
    """Modelled energy by part, in joules."""

    products_j: float
    """Multiply and accumulate, padding included."""

    requantizer_j: float
    """Requantizing."""

    sram_j: float
    """Reads and writes of the two operand banks (CACTI 7)."""

    dram_j: float
    """Bytes over the DRAM interface (target)."""

    leakage_j: float
    """Leakage of SRAM (CACTI 7) and of the mapped cells (Liberty) over the latency."""

    @property
    def total_j(self) -> float:
        """All parts."""
        return self.products_j + self.requantizer_j + self.sram_j + self.dram_j + self.leakage_j


def modelled_energy(
    traffic: Traffic,
    config: AcceleratorConfig,
    target: Target,
    latency_s: float,
    cell_leakage_w: float,
    flavour: SramFlavour = DEFAULT_FLAVOUR,
) -> Energy:
    """Energy of programs with these counts.

    Args:
        traffic: what the programs move and multiply, for example of one question.
        config: the core's knobs, for the size of its banks.
        target: gives the energy of a DRAM byte.
        latency_s: how long the core runs for them.
        cell_leakage_w: leakage of the logic cells (`Synthesis.leakage_w`).
        flavour: device flavour of the SRAM.
    """
    activations = sram_macro(f"sram_{config.activation_words}x{8 * config.array.rows}", flavour)
    weights = sram_macro(f"sram_{config.weight_words}x{8 * config.array.columns}", flavour)
    sram_j = (
        traffic.activation_reads * activations.read_energy_j
        + traffic.activation_writes * activations.write_energy_j
        + traffic.weight_reads * weights.read_energy_j
        + traffic.weight_writes * weights.write_energy_j
    )
    leakage_w = activations.leakage_w + weights.leakage_w + cell_leakage_w
    moved_bytes = traffic.loaded_bytes + traffic.stored_bytes
    return Energy(
        products_j=traffic.products * PRODUCT_J,
        requantizer_j=traffic.requantized * REQUANTIZE_J,
        sram_j=sram_j,
        dram_j=moved_bytes * target.dram_energy_j_per_byte,
        leakage_j=leakage_w * latency_s,
    )
