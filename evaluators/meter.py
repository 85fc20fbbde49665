"""The power meter: what a core draws in a run of its RTL, from the switching of its own gates."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from evaluators.silicon.activity import Watch, activities, watch
from evaluators.silicon.core_power import CorePower, SramAccesses, core_power
from evaluators.silicon.cost import MappedCore
from evaluators.silicon.liberty_power import PowerLibrary
from evaluators.silicon.simulation import CoreRun
from evaluators.traffic import Traffic
from hwlib.config import Banks, CoreConfig


@dataclass(frozen=True)
class PowerMeter:
    """Measures runs of one core.

    Attributes:
        core: The mapped core.
        power: The power of its library's cells.
        config: Its knobs.
        clock_hz: The clock that it runs at.
        seed: Draws the windows that are looked at.
    """

    core: MappedCore
    power: PowerLibrary
    config: CoreConfig
    clock_hz: float
    seed: int

    def watch(self, cycles: int) -> Watch:
        """What is to be recorded of a run of about so many cycles."""
        rng = np.random.default_rng(self.seed)
        return watch(self.core.synthesis, self.core.assembly, cycles, rng)

    def read(self, watched: Watch, run: CoreRun, moved: Traffic) -> CorePower:
        """The mean power of a run.

        Args:
            watched: What was recorded.
            run: The run, with that recording.
            moved: What its program moves.

        Raises:
            evaluators.silicon.gates.GatesError: The mapped netlist does not do what the RTL did.
            evaluators.silicon.liberty.LibertyError: The library's power is of an unknown form.
        """
        core = self.core
        found = activities(watched, run, core.synthesis, core.library)
        accesses = sram_accesses(moved, self.config, run.total_cycles)
        return core_power(
            core.synthesis, core.assembly, core.transition_s, core.library, self.power, found,
            accesses, self.clock_hz,
        )  # fmt: skip


def seed_of(rtlil: str) -> int:
    """A seed that a netlist cannot choose: of its digest."""
    return int.from_bytes(hashlib.sha256(rtlil.encode()).digest()[:8], "big")


def sram_accesses(moved: Traffic, config: CoreConfig, cycles: int) -> Mapping[str, SramAccesses]:
    """Mean accesses a cycle of each macro of a core, of all its instances together."""
    counted: list[tuple[Banks, int, int]] = [
        (config.activation_memory, moved.activation_reads, moved.activation_writes),
        (config.weight_memory, moved.weight_reads, moved.weight_writes),
        (config.channel_tables, moved.channel_reads, moved.channel_writes),
    ]
    found: dict[str, SramAccesses] = {}
    for memory, reads, writes in counted:
        name = f"sram_{memory.words}x{memory.bits}"
        before = found.get(name, SramAccesses(reads=0, writes=0))
        found[name] = SramAccesses(
            reads=before.reads + reads / cycles, writes=before.writes + writes / cycles
        )
    return found
