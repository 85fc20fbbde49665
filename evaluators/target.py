"""The target: the technology and the limits that every design of a run shares."""

from typing import Annotated, Literal

from pydantic import Field

from hwlib.frozen import Frozen

Technology = Literal["nangate45"]
"""Technologies that a netlist is synthesized and timed on."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Target(Frozen):
    """What the board gives and what it allows."""

    name: Technology = "nangate45"
    """Name of the technology."""

    area_limit_um2: Positive = 1_000_000.0
    """Largest area of a feasible design: logic and SRAM macros, before layout."""

    clock_hz: Annotated[float, Field(ge=1e6, le=1e10, allow_inf_nan=False)] | None = None
    """Clock that every design has to reach and runs at; None takes the fastest of each netlist."""

    dram_bytes_per_s: Annotated[float, Field(ge=1e8, le=1e13, allow_inf_nan=False)] = 12.8e9
    """Bandwidth of the DRAM (LPDDR4-3200, 32 bits), reads and writes together."""

    dram_latency_s: Annotated[float, Field(ge=0, le=1e-3, allow_inf_nan=False)] = 100e-9
    """From a request that the core sends to the first byte of its answer."""

    dram_energy_j_per_byte: Positive = 40e-12
    """Energy of one byte over the DRAM interface (LPDDR4, about 5 pJ a bit)."""
