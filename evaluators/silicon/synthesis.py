"""Area: linked RTLIL, mapped module by module to a Liberty library by Yosys and abc.

Each distinct module is mapped alone, in a process of its own, with one fixed recipe, and kept
under the digest of its body, its children's ports, the recipe, the Liberty file and the tool's
version. So a mapping depends on nothing but its own module: not on the rest of the design, not on
the order, not on what a cache holds. Modules named `sram_<words>x<bits>` are macros and are not
mapped. No cell passes that the Liberty file does not know.
"""

import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from evaluators.cache import write_atomically
from evaluators.silicon.liberty import Library
from evaluators.silicon.linking import LinkedDesign, LinkError, Port, SourceModule, link, stub
from evaluators.silicon.memory import is_sram
from evaluators.silicon.yosys import YosysError, YosysTimeout, run_yosys, yosys_version
from hwlib.frozen import Frozen

FORMAT = "mapped-3"
"""Goes into the key of the cache: a change of the stored form makes old entries unreachable."""

DRIVING_CELL, OUTPUT_LOAD_FF = "BUF_X2", 10.0
"""What abc takes to drive each input of a module and to load each output."""

ABC_STEPS = (
    "strash",
    "&get -n",
    "&fraig -x",
    "&put",
    "dch -f",
    "map -B 0.9",
    "strash",
    "dch -f",
    "map -B 0.9",
    "topo",
    "buffer -c",
    "topo",
    "upsize",
    "dnsize",
)
"""Structural choices, delay-first mapping twice, buffering, then sizing on the library's tables.

Without the `dc2` of Yosys' own script, which takes the structure of Booth rows apart: with it the
shipped element came out at the same area and 20 % slower."""

RECIPE = (
    "setattr -unset init w:*",  # cells have no power-up value; the core is reset before use
    "hierarchy -check -top module",
    "proc",
    "check -assert module",  # before synthesis takes what nobody drives for a free choice
    "synth -booth -noabc -top module",
    "dfflegalize -cell $_DFF_P_ x",  # no latch, no asynchronous reset, one clock edge
    "dfflibmap -liberty {liberty}",
    "opt",
    "abc -liberty {liberty} -constr constraints -script +{steps}",
    "opt_clean -purge",
    "read_liberty -lib {liberty}",  # directions of the cells' pins, for the check
    "check -assert module",
    "select module",
    "write_json -selected mapped.json",
)
"""The recipe of every module, in Yosys' words."""

Bit = int | str
"""A net of a module by number, or a constant: "0", "1" or "x"."""


class SynthesisError(RuntimeError):
    """A netlist that cannot be mapped, with the tool's last words."""


class SynthesisTimeout(SynthesisError):
    """Mapping did not end before the deadline."""


class MappedPort(Frozen):
    """A port of a mapped module."""

    name: str
    """Its name, without backslash."""

    direction: str
    """`input` or `output`."""

    bits: tuple[Bit, ...]
    """Its nets, least significant first."""


class MappedCell(Frozen):
    """A library cell, or an instance of another module."""

    name: str
    """Instance name."""

    type: str
    """Name of the library cell; of a distinct module for an instance."""

    connections: dict[str, tuple[Bit, ...]]
    """Nets by pin."""


class MappedModule(Frozen):
    """One distinct module after mapping."""

    name: str
    """Name of the distinct module, without backslash."""

    ports: tuple[MappedPort, ...]
    """Ports in order of declaration."""

    cells: tuple[MappedCell, ...]
    """Library cells, sorted by name."""

    instances: tuple[MappedCell, ...]
    """Instances of other modules and of macros, sorted by name."""

    area_um2: float
    """Area of the library cells of this module alone."""

    leakage_w: float
    """Leakage of the library cells of this module alone."""


class Synthesis(Frozen):
    """A mapped design."""

    top: str
    """Name of the top module."""

    modules: dict[str, MappedModule]
    """Distinct modules by name, macros left out."""

    macros: dict[str, tuple[Port, ...]]
    """Ports of each SRAM macro, by module name without backslash."""

    counts: dict[str, int]
    """How often each module and macro stands in the design."""

    area_by_module_um2: dict[str, float]
    """Cell area by distinct module, all its instances together."""

    cell_area_um2: float
    """Area of all library cells, before the buffers of global nets."""

    leakage_w: float
    """Leakage of all library cells, from the library's mean over each cell's states."""


def synthesize(
    rtlil: str,
    library: Library,
    liberty: Path,
    cache_dir: Path,
    top: str = "core",
    deadline_s: float = 120.0,
) -> Synthesis:
    """Maps a linked design.

    Args:
        rtlil: linked RTLIL text.
        library: the parsed library.
        liberty: the Liberty file that `library` was read from.
        cache_dir: where mapped modules are kept, by content.
        top: name of the top module.
        deadline_s: wall time allowed for each module.

    Raises:
        SynthesisError: the text does not link, Yosys fails, or a cell is unknown to the library.
        SynthesisTimeout: a module was not mapped in time.
    """
    for path in (liberty.resolve(), cache_dir):
        if re.search(r"\s", str(path)):
            raise SynthesisError(f"abc takes no path with a space: {str(path)!r}; choose another")
    try:
        design = link(rtlil, top)
    except LinkError as error:
        raise SynthesisError(str(error)) from error
    modules = {n: m for n, m in design.modules.items() if not is_sram(_plain(n))}
    mapped = _map_all(design, modules.values(), library, liberty, cache_dir, deadline_s)
    counts = _counts(design)
    areas = {name: counts[name] * module.area_um2 for name, module in sorted(mapped.items())}
    return Synthesis(
        top=_plain(design.top),
        modules=mapped,
        macros={_plain(n): m.ports for n, m in design.modules.items() if is_sram(_plain(n))},
        counts=counts,
        area_by_module_um2=areas,
        cell_area_um2=math.fsum(areas.values()),
        leakage_w=math.fsum(counts[name] * mapped[name].leakage_w for name in areas),
    )


def settings() -> tuple[str, ...]:
    """Everything fixed that a mapping depends on, for the keys of caches."""
    return (FORMAT, *RECIPE, *ABC_STEPS, DRIVING_CELL, str(OUTPUT_LOAD_FF))


def _plain(name: str) -> str:
    return name.removeprefix("\\")


def _counts(design: LinkedDesign) -> dict[str, int]:
    counts = dict.fromkeys(design.modules, 0)
    counts[design.top] = 1
    for name in reversed(design.modules):  # parents before children
        for child in design.modules[name].instances.values():
            counts[child] += counts[name]
    return {_plain(name): count for name, count in counts.items()}


def _map_all(
    design: LinkedDesign,
    modules: Iterable[SourceModule],
    library: Library,
    liberty: Path,
    cache_dir: Path,
    deadline_s: float,
) -> dict[str, MappedModule]:
    def one(module: SourceModule) -> MappedModule:
        return _map(module, design, library, liberty, cache_dir, deadline_s)

    # Largest first, so that the last one to end is a short one.
    ordered = sorted(modules, key=lambda module: -len(module.body))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        done = list(pool.map(one, ordered))
    return {module.name: module for module in done}


def _map(
    module: SourceModule,
    design: LinkedDesign,
    library: Library,
    liberty: Path,
    cache_dir: Path,
    deadline_s: float,
) -> MappedModule:
    text = _self_contained(module, design)
    key = "\n".join((yosys_version(), library.sha256, *settings(), text))
    kept = cache_dir / "mapped" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
    try:
        netlist = json.loads(kept.read_bytes())
    except (OSError, ValueError):  # absent, or torn: map again
        content = _run(module.name, text, liberty, cache_dir, library.sha256, deadline_s)
        netlist = _essential(json.loads(content))
        write_atomically(kept, json.dumps(netlist, separators=(",", ":")).encode())
    return _read(module, netlist, library)


def _self_contained(module: SourceModule, design: LinkedDesign) -> str:
    """RTLIL of one module, named `module`, with empty children whose names say only their ports.

    So the text is the same whatever the module and its children are called, and an edit inside
    a child leaves the mapping of its parent as it is.
    """
    stubs, alias = {}, {}
    for child in module.instances.values():
        ports = design.modules[child].ports
        digest = hashlib.sha256(stub("", ports).encode()).hexdigest()[:16]
        alias[child] = f"\\child_{digest}"
        stubs[alias[child]] = stub(alias[child], ports)
    body = re.sub(
        r"^(\s+cell )(\\\S+)( \S+)$",
        lambda match: f"{match[1]}{alias[match[2]]}{match[3]}",
        module.body,
        flags=re.MULTILINE,
    )
    return "".join(stubs[name] for name in sorted(stubs)) + f"module \\module\n{body}\nend\n"


def _run(
    name: str, text: str, liberty: Path, cache_dir: Path, liberty_sha256: str, deadline_s: float
) -> bytes:
    steps = ";".join(step.replace(" ", ",") for step in ABC_STEPS)
    with tempfile.TemporaryDirectory(prefix="dovetail-map-") as folder:
        directory = Path(folder)
        (directory / "module.il").write_text(text)
        (directory / "constraints").write_text(
            f"set_driving_cell {DRIVING_CELL}\nset_load {OUTPUT_LOAD_FF}\n"
        )
        commands = [c.format(liberty=liberty.resolve(), steps=steps) for c in RECIPE]
        try:
            output = run_yosys(
                ["read_rtlil module.il", *commands],
                directory,
                # abc's digest of the Liberty file is shared between modules.
                cache_dir / f"abc-{liberty_sha256[:16]}",
                deadline_s,
            )
            return (directory / "mapped.json").read_bytes()
        except YosysTimeout as error:
            raise SynthesisTimeout(f"mapping {_plain(name)}: {error}") from error
        except YosysError as error:
            raise SynthesisError(f"mapping {_plain(name)} failed: {error}") from error
        except OSError:
            words = "\n".join(output.splitlines()[-4:])
            raise SynthesisError(
                f"mapping {_plain(name)}: Yosys ended without a netlist; its last words: {words}"
            ) from None


def _essential(netlist: dict) -> dict:  # type: ignore[type-arg]
    """What is kept of Yosys' JSON: ports and connections."""
    module = netlist["modules"]["module"]
    return {
        "ports": [[n, p["direction"], p["bits"]] for n, p in module["ports"].items()],
        "cells": sorted([n, c["type"], c["connections"]] for n, c in module["cells"].items()),
    }


def _read(module: SourceModule, netlist: dict, library: Library) -> MappedModule:  # type: ignore[type-arg]
    instances = {_plain(name): _plain(child) for name, child in module.instances.items()}
    cells, children = [], []
    for name, kind, connections in netlist["cells"]:
        if name in instances:
            children.append(MappedCell(name=name, type=instances[name], connections=connections))
        elif kind in library.cells:
            cells.append(MappedCell(name=name, type=kind, connections=connections))
        else:
            raise SynthesisError(
                f"module {_plain(module.name)}: cell {name} is a {kind}, "
                f"which library {library.name} does not know"
            )
    return MappedModule(
        name=_plain(module.name),
        ports=tuple(MappedPort(name=n, direction=d, bits=b) for n, d, b in netlist["ports"]),
        cells=tuple(cells),
        instances=tuple(children),
        area_um2=math.fsum(library.cells[cell.type].area_um2 for cell in cells),
        leakage_w=math.fsum(library.cells[cell.type].leakage_w for cell in cells),
    )
