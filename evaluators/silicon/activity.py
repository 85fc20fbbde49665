"""Switching activity of a core's modules in a run of the RTL.

Ports of some instances of each distinct module are recorded in windows of the run, and the mapped
netlist of the module is evaluated under them, gate by gate. Which windows, is drawn by whoever
evaluates, so that a netlist cannot behave in them alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluators.silicon.assembly import Assembly
from evaluators.silicon.core_power import Signals, signals
from evaluators.silicon.gates import Activity, Bits, evaluate_traced, register_bits, stimulus
from evaluators.silicon.liberty import Library
from evaluators.silicon.simulation import CoreRun, Probe, Recording
from evaluators.silicon.synthesis import Synthesis

INSTANCES = 4
"""Instances of a module that are recorded, spread over all of them."""

WINDOWS = 64
"""Windows of a run."""

CYCLES = 32
"""Cycles of a window."""

Samples = NDArray[np.uint8]


@dataclass(frozen=True)
class Watch:
    """What is recorded of a core.

    Attributes:
        recording: For the simulator.
        sampled: By distinct module, its recorded instances.
        signals: By distinct module, their ports.
    """

    recording: Recording
    sampled: Mapping[str, tuple[str, ...]]
    signals: Mapping[str, Signals]


def watch(synthesis: Synthesis, assembly: Assembly, cycles: int, rng: np.random.Generator) -> Watch:
    """Chooses instances and windows.

    Args:
        synthesis: The mapped core.
        assembly: The same, assembled.
        cycles: How long the run will take, more or less.
        rng: Draws a window in each of `WINDOWS` equal parts of the run.
    """
    instances: dict[str, list[str]] = {}
    for instance, module in assembly.names.instances:
        instances.setdefault(module, []).append(instance)
    with_cells = [name for name, module in synthesis.modules.items() if module.cell_names]
    sampled = {name: _spread(instances[name]) for name in with_cells}
    seen = {name: signals(synthesis, name) for name in with_cells}
    probes = dict.fromkeys(
        probe for name in with_cells for one in sampled[name] for probe in _probes(one, seen[name])
    )
    part = max(cycles // WINDOWS, CYCLES)
    count = max(1, min(WINDOWS, cycles // part))
    starts = [k * part + int(rng.integers(part - CYCLES + 1)) for k in range(count)]
    return Watch(Recording(tuple(probes), starts, CYCLES), sampled, seen)


def activities(
    watched: Watch, run: CoreRun, synthesis: Synthesis, library: Library
) -> dict[str, Activity]:
    """The mean activity of each distinct module with cells, over instances and windows.

    In every cycle the mapped netlist stands in the recorded state of the RTL, and must give the
    recorded output ports and the recorded state of the next cycle.

    Raises:
        GatesError: A module cannot be evaluated, or gives something else.
    """
    rows = _Rows(watched.recording, run)
    found = {}
    for name, instances in watched.sampled.items():
        seen, module = watched.signals[name], synthesis.modules[name]
        inside = {
            child: {
                port: rows.lanes([_below(one, child) for one in instances], port, width)
                for port, width in outputs.items()
            }
            for child, outputs in seen.instances.items()
        }
        given = stimulus(module, rows.group(instances, seen.ports), inside)
        found[name] = evaluate_traced(
            module,
            library,
            given,
            register_bits(module, rows.group(instances, seen.registers)),
            expected=stimulus(module, rows.group(instances, seen.outputs)),
        )
    return found


def _spread(instances: Sequence[str]) -> tuple[str, ...]:
    places = np.linspace(0, len(instances) - 1, min(INSTANCES, len(instances)))
    return tuple(instances[round(place)] for place in places)


def _below(instance: str, child: str) -> str:
    return f"{instance}.{child}".lstrip(".")


def _probes(instance: str, seen: Signals) -> Iterator[Probe]:
    for name, width in (seen.ports | seen.outputs | seen.registers).items():
        yield Probe(instance=instance, name=name, width=width)
    for child, outputs in seen.instances.items():
        for name, width in outputs.items():
            yield Probe(instance=_below(instance, child), name=name, width=width)


class _Rows:
    """Recorded bytes as bits of ports."""

    def __init__(self, recording: Recording, run: CoreRun) -> None:
        probes = recording.probes
        self._missing = {(probes[k].instance, probes[k].name) for k in run.missing}
        self._at: dict[tuple[str, str], int] = {}
        end = 0
        for probe in recording.probes:
            self._at[probe.instance, probe.name] = end
            end += probe.bytes
        self._rows = np.frombuffer(run.samples, np.uint8).reshape(-1, recording.cycles, end)

    def group(self, instances: Sequence[str], widths: Mapping[str, int]) -> dict[str, Bits]:
        """Those signals of instances of one module that the simulator knew."""
        return {
            name: self.lanes(instances, name, width)
            for name, width in widths.items()
            if not self._missing & {(one, name) for one in instances}
        }

    def lanes(self, instances: Sequence[str], port: str, width: int) -> Bits:
        """[cycles, windows * instances, width] of a port of instances of one module."""
        return np.concatenate([self._port(one, port, width) for one in instances], axis=1)

    def _port(self, instance: str, port: str, width: int) -> Bits:
        at = self._at[instance, port]
        raw = self._rows[:, :, at : at + -(-width // 8)]
        bits = np.unpackbits(raw, axis=2, count=width, bitorder="little")
        return bits.astype(np.bool_).transpose(1, 0, 2)
