"""The target: the technology and the limits that every design of a run shares."""

from typing import Annotated

from pydantic import Field

from hwlib.frozen import Frozen


class Target(Frozen):
    """What the board gives and what it allows."""

    name: str = "nangate45"
    """Name of the technology."""

    area_limit_um2: Annotated[float, Field(gt=0)] = 400_000.0
    """Largest area of a feasible design: logic and SRAM macros, before layout."""

    dram_bytes_per_s: Annotated[float, Field(gt=0)] = 12.8e9
    """Bandwidth of the DRAM (LPDDR4-3200, 32 bits); no clock is faster than this link."""

    dram_energy_j_per_byte: Annotated[float, Field(gt=0)] = 40e-12
    """Energy of one byte over the DRAM interface (LPDDR4, about 5 pJ a bit)."""
