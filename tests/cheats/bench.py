"""Judges many edits of one unit at once: one netlist, one build, one simulation for all."""

from dataclasses import replace
from functools import cache
from pathlib import Path

from evaluators.gate.loops import check_loops
from evaluators.gate.netlist import check_netlist, without_start_values
from evaluators.gate.stimuli import Stimulus, stimuli
from evaluators.gate.vectors import first_difference, simulate, simulator
from hwlib.config import CoreConfig
from hwlib.contracts.contract import Port, Trace, UnitContract
from hwlib.contracts.table import contract_of, shipped_latency
from hwlib.edit import UnitName
from hwlib.unit_source import source_to_rtlil
from tests.cheats.cheats import SIMULATED

TWIN = ", twin"

DRAWN_SEED = 2024
"""In the place of the netlist's digest, as one simulation serves many netlists."""


@cache
def netlist(unit: UnitName, config: CoreConfig, source: str) -> str:
    """The text of an edit, held to the laws of netlists.

    Raises:
        ValueError: The gate refuses it.
    """
    text = source_to_rtlil(unit, source, config)
    check_netlist(unit, config, text)
    return text


def mismatch(name: str, cache_dir: Path, unseen: str | None = None) -> str:
    """What the simulation says of one of `SIMULATED`, or of its twin: its name with `TWIN`.

    Args:
        name: Whose.
        cache_dir: Where simulators are kept.
        unseen: Sequences of which a reason says this are not looked at; None for all.

    Returns:
        The first difference in words; empty where there is none.
    """
    cheat = SIMULATED[name.removesuffix(TWIN)]
    driven, outputs = _outputs(cheat.unit, cheat.config, cache_dir)
    looked_at = [
        at for at, stimulus in enumerate(driven) if not (unseen and unseen in stimulus.where)
    ]
    contract = contract_of(cheat.unit, cheat.config)
    own = [outputs[name][at] for at in looked_at]
    return first_difference(contract, cheat.latency, [driven[at] for at in looked_at], own)


@cache
def _outputs(
    unit: UnitName, config: CoreConfig, cache_dir: Path
) -> tuple[list[Stimulus], dict[str, list[Trace]]]:
    """What drives all of `SIMULATED` of a unit and their twins, and by name what each gives."""
    texts = {}
    for name, cheat in SIMULATED.items():
        if (cheat.unit, cheat.config) == (unit, config):
            texts[name] = netlist(unit, config, cheat.source)
            texts[name + TWIN] = netlist(unit, config, cheat.twin)
    contract = contract_of(unit, config)
    among, text = _beside(contract, list(texts.values()))
    check_loops(unit, text)
    driven = list(stimuli(contract, shipped_latency(unit, config), DRAWN_SEED))
    given = simulate(among, simulator(among, without_start_values(text), cache_dir), driven)
    (port,) = contract.outputs
    return driven, {
        name: [{port.name: trace[f"{port.name}_{at}"]} for trace in given]
        for at, name in enumerate(texts)
    }


def _beside(contract: UnitContract, texts: list[str]) -> tuple[UnitContract, str]:
    """Units of one module each, which get the same inputs, each with an output of its own."""
    unit = contract.unit
    (port,) = contract.outputs
    outputs = [
        Port(f"{port.name}_{at}", "output", port.width, port.signed) for at in range(len(texts))
    ]
    inputs = [*((each.name, each.width) for each in contract.inputs), ("clk", 1), ("rst", 1)]
    ways = [("input", *each) for each in inputs] + [("output", o.name, o.width) for o in outputs]
    lines = [f"module \\{unit}"]
    lines += [
        f"  wire width {width} {way} {i}  \\{name}" for i, (way, name, width) in enumerate(ways)
    ]
    for at, output in enumerate(outputs):
        lines += [
            f"  cell \\{unit}_{at} \\unit_{at}",
            *(f"    connect \\{name} \\{name}" for name, _ in inputs),
            f"    connect \\{port.name} \\{output.name}",
            "  end",
        ]
    renamed = [
        text.replace(f"module \\{unit}\n", f"module \\{unit}_{at}\n")
        for at, text in enumerate(texts)
    ]
    together = replace(contract, ports=(*contract.inputs, *outputs))
    return together, "\n".join([*lines, "end", *renamed])
