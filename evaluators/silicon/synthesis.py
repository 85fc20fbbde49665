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
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from evaluators.cache import claimed, write_atomically
from evaluators.silicon.liberty import Library
from evaluators.silicon.linking import LinkedDesign, LinkError, Port, SourceModule, link, stub
from evaluators.silicon.memory import is_sram
from evaluators.silicon.yosys import (
    YosysError,
    YosysTimeout,
    run_yosys,
    stop_all,
    yosys_version,
)
from hwlib.frozen import Frozen

FORMAT = "mapped-6"
"""Goes into the key of the cache: a change of the stored form makes old entries unreachable."""

OUTPUT_LOAD_FF = 10.0
"""What abc takes to load each output of a module."""

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

STRONG = (
    "setattr -unset init w:*",  # cells have no power-up value; the core is reset before use
    "hierarchy -check -top module",
    "proc",
    "check -assert module",  # before synthesis takes what nobody drives for a free choice
    "synth -booth -noabc -encfile codes -top module",
    "dfflegalize -cell $_DFF_P_ x",  # no latch, no asynchronous reset, one clock edge
    "dfflibmap -liberty {liberty}",
    "opt",
    "abc -liberty {liberty} -constr constraints -script +{steps}",
    "opt_clean",
    "read_liberty -lib {liberty}",  # directions of the cells' pins, for the check
    "check -assert module",
    "select module",
    "write_json -selected mapped.json",
)
"""The recipe of every module of a core, in Yosys' words."""

Recipe = tuple[str, ...]
"""Commands that end with `mapped.json`; `{liberty}` and `{steps}` stand for the Liberty file and
`ABC_STEPS`."""

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


class CellGroup(Frozen):
    """Library cells of one type with the same pins connected, pin by pin.

    A core has a hundred thousand cells, and every evaluation reads them: a column is read and
    turned into an array at once.
    """

    type: str
    """Name of the library cell."""

    at: tuple[int, ...]
    """Places of the cells among those of the module."""

    nets: dict[str, tuple[Bit, ...]]
    """By pin, the net of each."""


class MappedModule(Frozen):
    """One distinct module after mapping."""

    name: str
    """Name of the distinct module, without backslash."""

    ports: tuple[MappedPort, ...]
    """Ports in order of declaration."""

    cell_names: tuple[str, ...]
    """Names of the library cells, sorted."""

    groups: tuple[CellGroup, ...]
    """What they are and how they are connected."""

    instances: tuple[MappedCell, ...]
    """Instances of other modules and of macros, sorted by name."""

    area_um2: float
    """Area of the library cells of this module alone."""

    leakage_w: float
    """Leakage of the library cells of this module alone."""

    registers: dict[str, tuple[Bit, ...]] = {}
    """Nets by signal of the source, least significant first, of every signal with a bit that a
    flip-flop gives: so a state of the RTL can be found in the mapped module."""

    codes: dict[str, dict[str, str]] = {}
    """For the registers whose states Yosys gave other codes, the code here of each code in the
    source; `-` for a bit that does not tell the state, which is 0."""

    @property
    def cells(self) -> tuple[MappedCell, ...]:
        """The library cells one by one, in the order of their names."""
        found = {
            at: MappedCell(
                name=self.cell_names[at],
                type=group.type,
                connections={pin: (nets[k],) for pin, nets in group.nets.items()},
            )
            for group in self.groups
            for k, at in enumerate(group.at)
        }
        return tuple(found[at] for at in range(len(self.cell_names)))


class Netlist(Frozen):
    """What is stored of a mapped module, whatever it and its children are called."""

    ports: tuple[MappedPort, ...]
    """Ports in order of declaration."""

    cell_names: tuple[str, ...]
    """Names of the library cells, sorted."""

    groups: tuple[CellGroup, ...]
    """What they are and how they are connected."""

    instances: dict[str, dict[str, tuple[Bit, ...]]]
    """Nets by pin of each instance of another module, sorted by name."""

    registers: dict[str, tuple[Bit, ...]]
    """Nets of the signals that flip-flops give, sorted by name."""

    codes: dict[str, dict[str, str]]
    """New codes of state machines, by register and code in the source."""


def grouped(cells: Iterable[tuple[str, Mapping[str, Sequence[Bit]]]]) -> tuple[CellGroup, ...]:
    """Cells in order, each its type and the net at each pin, as groups."""
    groups: dict[tuple[str, ...], list[tuple[int, Mapping[str, Sequence[Bit]]]]] = {}
    for at, (kind, connections) in enumerate(cells):
        groups.setdefault((kind, *sorted(connections)), []).append((at, connections))
    return tuple(
        CellGroup(
            type=kind,
            at=tuple(at for at, _ in found),
            nets={pin: tuple(nets[pin][0] for _, nets in found) for pin in pins},
        )
        for (kind, *pins), found in sorted(groups.items())
    )


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
    recipe: Recipe = STRONG,
) -> Synthesis:
    """Maps a linked design.

    Args:
        rtlil: linked RTLIL text.
        library: the parsed library.
        liberty: the Liberty file that `library` was read from.
        cache_dir: where mapped modules are kept, by content.
        top: name of the top module.
        deadline_s: wall time allowed for each module.
        recipe: how a module is mapped.

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
    mapper = _Mapper(design, library, liberty, cache_dir, recipe, deadline_s)
    mapped = mapper.map_all(modules.values())
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


def settings(recipe: Recipe, driver: str) -> tuple[str, ...]:
    """Everything fixed that a mapping depends on, for the keys of caches."""
    return (FORMAT, *recipe, *ABC_STEPS, driver, str(OUTPUT_LOAD_FF))


def _plain(name: str) -> str:
    return name.removeprefix("\\")


def _counts(design: LinkedDesign) -> dict[str, int]:
    counts = dict.fromkeys(design.modules, 0)
    counts[design.top] = 1
    for name in reversed(design.modules):  # parents before children
        for child in design.modules[name].instances.values():
            counts[child] += counts[name]
    return {_plain(name): count for name, count in counts.items()}


@dataclass(frozen=True)
class _Mapper:
    """Maps modules of one design, each at most once for all that share the cache."""

    design: LinkedDesign
    library: Library
    liberty: Path
    cache_dir: Path
    recipe: Recipe
    deadline_s: float

    def map_all(self, modules: Iterable[SourceModule]) -> dict[str, MappedModule]:
        """Mapped modules by name."""
        # Largest first, so that the last one to end is a short one.
        ordered = sorted(modules, key=lambda module: -len(module.body))
        with _interruptible(ThreadPoolExecutor(os.cpu_count() or 1)) as pool:
            done = list(pool.map(lambda module: self._map(module, False), ordered))
            # What other processes are mapping meanwhile comes from them.
            left = [module for module, mapped in zip(ordered, done, strict=True) if mapped is None]
            done += pool.map(lambda module: self._map(module, True), left)
        return {module.name: module for module in done if module is not None}

    def _map(self, module: SourceModule, wait: bool) -> MappedModule | None:
        """The mapped module; None where another process is mapping it and `wait` is false."""
        text = _self_contained(module, self.design)
        driver = self.library.roles.driver
        key = "\n".join(
            (yosys_version(), self.library.sha256, *settings(self.recipe, driver), text)
        )
        path = self.cache_dir / "mapped" / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
        netlist = _stored(path)
        if netlist is None:
            with claimed(path, wait) as mine:
                if not mine:
                    return None
                netlist = _stored(path)
                if netlist is None:
                    content, codes = self._run(module.name, text)
                    instances = {_plain(name) for name in module.instances}
                    mapped = json.loads(content)["modules"]["module"]
                    netlist = _essential(mapped, _codes(codes), instances, self.library)
                    write_atomically(path, netlist.model_dump_json().encode())
        return _read(module, netlist, self.library)

    def _run(self, name: str, text: str) -> tuple[bytes, str]:
        """What Yosys writes of one module, as JSON, and the new codes of its state machines."""
        steps = ";".join(step.replace(" ", ",") for step in ABC_STEPS)
        with tempfile.TemporaryDirectory(prefix="dovetail-map-") as folder:
            directory = Path(folder)
            (directory / "module.il").write_text(text)
            (directory / "constraints").write_text(
                f"set_driving_cell {self.library.roles.driver}\nset_load {OUTPUT_LOAD_FF}\n"
            )
            liberty = self.liberty.resolve()
            commands = [c.format(liberty=liberty, steps=steps) for c in self.recipe]
            try:
                output = run_yosys(
                    ["read_rtlil module.il", *commands],
                    directory,
                    # abc's digest of the Liberty file is shared between modules.
                    self.cache_dir / f"abc-{self.library.sha256[:16]}",
                    self.deadline_s,
                )
                codes = directory / "codes"
                return (
                    (directory / "mapped.json").read_bytes(),
                    codes.read_text() if codes.exists() else "",
                )
            except YosysTimeout as error:
                raise SynthesisTimeout(f"mapping {_plain(name)}: {error}") from error
            except YosysError as error:
                raise SynthesisError(f"mapping {_plain(name)} failed: {error}") from error
            except OSError:
                words = "\n".join(output.splitlines()[-4:])
                raise SynthesisError(
                    f"mapping {_plain(name)}: Yosys ended without a netlist; its last words: "
                    f"{words}"
                ) from None


@contextmanager
def _interruptible(pool: ThreadPoolExecutor) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads that wait for Yosys; Ctrl-C ends that, or leaving would wait for it."""
    with pool:
        try:
            yield pool
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            stop_all()
            raise


def _stored(path: Path) -> Netlist | None:
    try:
        return Netlist.model_validate_json(path.read_bytes())
    except (OSError, ValueError):  # absent, or torn: map again
        return None


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


def _codes(text: str) -> dict[str, dict[str, str]]:
    """Yosys' file of encodings: by register, the new code of each old one."""
    found: dict[str, dict[str, str]] = {}
    own: dict[str, str] = {}
    for line in text.splitlines():
        kind, *words = line.split()
        if kind == ".fsm":
            own = found.setdefault(words[1], {})
        elif kind == ".map":
            own[words[0]] = words[1]
    return found


def _essential(
    module: dict,  # type: ignore[type-arg]
    codes: dict[str, dict[str, str]],
    instances: Container[str],
    library: Library,
) -> Netlist:
    """What is kept of Yosys' JSON: ports, connections and registers."""
    cells = sorted(
        # What is connected to nothing is written with no bits.
        (name, c["type"], {pin: bits for pin, bits in c["connections"].items() if bits})
        for name, c in module["cells"].items()
    )
    own = [cell for cell in cells if cell[0] not in instances]
    return Netlist(
        ports=tuple(
            MappedPort(name=name, direction=port["direction"], bits=port["bits"])
            for name, port in module["ports"].items()
        ),
        cell_names=tuple(name for name, _, _ in own),
        groups=grouped((kind, connections) for _, kind, connections in own),
        instances={name: connections for name, _, connections in cells if name in instances},
        registers=_registers(module["netnames"], own, library),
        codes=codes,
    )


def _registers(
    names: dict,  # type: ignore[type-arg]
    cells: Iterable[tuple[str, str, Mapping[str, Sequence[Bit]]]],
    library: Library,
) -> dict[str, tuple[Bit, ...]]:
    states = set()
    for _, kind, connections in cells:
        cell = library.cells.get(kind)
        if cell is not None and cell.sequential:
            states |= {
                connections[pin][0] for pin in connections if cell.pins[pin].direction == "output"
            }
    return {
        # Yosys drops bits that nothing reads, from below with an offset.
        name: ("x",) * found.get("offset", 0) + tuple(found["bits"])
        for name, found in sorted(names.items())
        if not found["hide_name"] and not states.isdisjoint(found["bits"])
    }


def _read(module: SourceModule, netlist: Netlist, library: Library) -> MappedModule:
    for group in netlist.groups:
        if group.type not in library.cells:
            raise SynthesisError(
                f"module {_plain(module.name)}: cell {netlist.cell_names[group.at[0]]} is a "
                f"{group.type}, which library {library.name} does not know"
            )
    children = {_plain(name): _plain(child) for name, child in module.instances.items()}
    kinds = [library.cells[group.type] for group in netlist.groups for _ in group.at]
    return MappedModule(
        name=_plain(module.name),
        ports=netlist.ports,
        cell_names=netlist.cell_names,
        groups=netlist.groups,
        instances=tuple(
            MappedCell(name=name, type=children[name], connections=connections)
            for name, connections in netlist.instances.items()
        ),
        area_um2=math.fsum(kind.area_um2 for kind in kinds),
        leakage_w=math.fsum(kind.leakage_w for kind in kinds),
        registers=netlist.registers,
        codes=netlist.codes,
    )
