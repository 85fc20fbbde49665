"""The target: the technology and the limits that every design of a run shares."""

from typing import Annotated, Literal

from pydantic import Field

from evaluators.silicon.memory import DEFAULT_FLAVOUR, SramFlavour
from evaluators.silicon.technology import Technology
from hwlib.frozen import Frozen

Shipped = Literal["nangate45"]
"""Technologies that need no file."""

Corner = Literal["typical"]
"""Corners of a library that are there: 25 degrees Celsius, 1.1 V, before layout."""

DramType = Literal["lpddr4", "lpddr5", "ddr3", "hbm2"]
"""DRAM interfaces."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class DramFigures(Frozen):
    """What a DRAM interface gives and takes."""

    bytes_per_s: Positive
    """Bandwidth, reads and writes together."""

    energy_j_per_byte: Positive
    """Energy of one byte over the interface."""


DRAM: dict[DramType, DramFigures] = {
    # 32 bits at 3,200 MT/s; about 5 pJ a bit.
    "lpddr4": DramFigures(bytes_per_s=12.8e9, energy_j_per_byte=40e-12),
    # 32 bits at 6,400 MT/s; about 4 pJ a bit.
    "lpddr5": DramFigures(bytes_per_s=25.6e9, energy_j_per_byte=32e-12),
    # 64 bits at 1,600 MT/s; 1.3 nJ for 64 bits (Horowitz, ISSCC 2014).
    "ddr3": DramFigures(bytes_per_s=12.8e9, energy_j_per_byte=162.5e-12),
    # One stack of 1,024 bits at 2,000 MT/s; about 3.9 pJ a bit.
    "hbm2": DramFigures(bytes_per_s=256e9, energy_j_per_byte=31.2e-12),
}
"""Peak bandwidths of the interfaces' standards, and energies from the literature."""


class Target(Frozen):
    """What the board gives and what it allows."""

    name: Shipped = "nangate45"
    """Name of the technology."""

    corner: Corner = "typical"
    """Corner of its library; 25 degrees, 1.1 V, before layout."""

    technology: Technology | None = None
    """Another cell library in its place, as docs/technology.md has it; null: none."""

    sram: SramFlavour = DEFAULT_FLAVOUR
    """Devices of the SRAM: high performance, low operating power or low standby power."""

    area_limit_um2: Positive = 1_000_000.0
    """Largest area of a feasible design: logic and SRAM macros, before layout."""

    power_limit_w: Positive | None = None
    """Largest mean power of an inference on a feasible design, DRAM included; null: none."""

    clock_hz: Annotated[float, Field(ge=1e6, le=1e10, allow_inf_nan=False)] | None = None
    """Clock that every design has to reach and runs at; None takes the fastest of each netlist."""

    dram: DramType = "lpddr4"
    """Type of the DRAM, which has a bandwidth and an energy."""

    dram_bytes_per_s: Annotated[float, Field(ge=1e8, le=1e13, allow_inf_nan=False)] | None = None
    """Bandwidth of the DRAM, reads and writes together; null: that of its type."""

    dram_latency_s: Annotated[float, Field(ge=0, le=1e-3, allow_inf_nan=False)] = 100e-9
    """From a request that the core sends to the first byte of its answer."""

    dram_energy_j_per_byte: Positive | None = None
    """Energy of one byte over the DRAM interface; null: that of its type."""

    @property
    def dram_figures(self) -> DramFigures:
        """Those of the type, where the target has none of its own."""
        usual = DRAM[self.dram]
        return DramFigures(
            bytes_per_s=self.dram_bytes_per_s or usual.bytes_per_s,
            energy_j_per_byte=self.dram_energy_j_per_byte or usual.energy_j_per_byte,
        )

    def resolved(self) -> "Target":
        """The same with the figures of its DRAM's type filled in."""
        found = self.dram_figures
        return self.model_copy(
            update={
                "dram_bytes_per_s": found.bytes_per_s,
                "dram_energy_j_per_byte": found.energy_j_per_byte,
            }
        )

    def violation(self, area_um2: float, mean_power_w: float) -> float:
        """By how much of a limit a design is over the one that it breaks most; 0 or less: by none.

        Args:
            area_um2: Its area.
            mean_power_w: Energy over latency of an inference.
        """
        area = area_um2 / self.area_limit_um2 - 1
        return (
            area if self.power_limit_w is None else max(area, mean_power_w / self.power_limit_w - 1)
        )
