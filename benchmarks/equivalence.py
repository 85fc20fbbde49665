"""Whether a netlist that the gate accepts is equivalent to the one that it was made from.

Equivalent within the contract: for whatever the core may drive, wherever the contract looks. What
is not shown to be equivalent may be a bug that the gate lets through. On purpose nothing here is
the gate's: neither its proofs nor its protocols.
"""

import subprocess
import tempfile
from pathlib import Path

import pyosys
from amaranth.back import rtlil
from amaranth.hdl import (
    Cat,
    ClockDomain,
    ClockSignal,
    Const,
    Instance,
    Module,
    Mux,
    Signal,
)

from evaluators.silicon.yosys import YosysError, run_yosys
from hwlib.contracts.contract import UnitContract

PROOF_DEADLINE_S = 60.0
"""Longest time that a proof may take."""

TOOL_DEADLINE_S = 120.0
"""Longest time that Yosys may take."""

_ABC = Path(pyosys.__file__).parent / "yosys-abc"

_READ = (
    "read_rtlil {name}.il", "hierarchy -top {unit}", "proc -norom", "flatten",
    "setattr -unset init w:*", "opt_clean",
)  # fmt: skip
"""A unit as one module; what its registers hold before a reset is anything."""

_RESET = ("sim -q -clock clk -reset rst -rstlen 1 -n 1 -w", "formalff -clk2ff -ff2anyinit")
"""It begins as a cycle of reset leaves it: a register that no reset reaches holds anything."""

_MAPPED = (
    "flatten", "formalff -clk2ff", "opt -full", "simplemap t:$ff", "opt -full", "wreduce",
    "opt -full", "techmap", "opt -full", "formalff -anyinit2ff -fine", "aigmap", "opt_clean",
    "write_aiger -zinit miter.aig",
)  # fmt: skip


def equivalence(contract: UnitContract, latency: int, shipped: str, mutant: str) -> str:
    """How two netlists are shown to be equivalent; empty where they are not.

    Args:
        contract: Of the unit.
        latency: Of both, in cycles.
        shipped: RTLIL of what the mutant was made from.
        mutant: RTLIL that the gate has accepted.
    """
    if shipped == mutant:
        return "same netlist"
    with tempfile.TemporaryDirectory(prefix="equivalence-") as folder:
        work = Path(folder)
        (work / "gold.il").write_text(shipped)
        (work / "gate.il").write_text(mutant)
        if contract.handshake:
            return "proved register by register" if _matched(contract.unit, work) else ""
        return "proved" if _proved(contract, latency, work) else ""


def _matched(unit: str, work: Path) -> bool:
    """Whether registers of the same names and all outputs get the same values, whatever comes."""
    commands = []
    for name in ("gold", "gate"):
        commands += [c.format(name=name, unit=unit) for c in _READ]
        commands += [f"rename {unit} {name}", f"design -stash {name}"]
    commands += [f"design -copy-from {name} {name}" for name in ("gold", "gate")]
    commands += ["equiv_make gold gate both", "hierarchy -top both", "opt -full"]
    commands += ["equiv_simple -undef", "equiv_induct -undef", "equiv_status -assert"]
    try:
        run_yosys(commands, work, work / "tmp", TOOL_DEADLINE_S)
    except YosysError:
        return False
    return True


def _proved(contract: UnitContract, latency: int, work: Path) -> bool:
    """Whether no run that the contract allows tells the two apart, by induction (ABC)."""
    (work / "miter.il").write_text(_Miter(contract, latency).rtlil())
    commands = []
    for name in ("gold", "gate"):
        commands += [c.format(name=name, unit=contract.unit) for c in (*_READ, *_RESET)]
        commands += [f"rename {contract.unit} {name}", f"design -stash {name}"]
    commands += [f"design -copy-from {name} {name}" for name in ("gold", "gate")]
    commands += ["read_rtlil miter.il", "hierarchy -top miter", "proc -norom", *_MAPPED]
    run_yosys(commands, work, work / "tmp", TOOL_DEADLINE_S)
    # `scorr` often leaves nothing for `pdr`; that this is no difference is what `iprove` says.
    script = f"read_aiger miter.aig; scorr; pdr -T {PROOF_DEADLINE_S:.0f}; iprove"
    try:
        done = subprocess.run(
            [str(_ABC), "-c", script],
            cwd=work,
            capture_output=True,
            text=True,
            timeout=2 * PROOF_DEADLINE_S,
        )
    except subprocess.TimeoutExpired:
        return False
    return "UNSATISFIABLE" in done.stdout or "Property proved" in done.stdout


class _Miter:
    """Two units side by side, driven as the core may drive them after a reset.

    `differ` is high where the contract looks at the outputs and they are not the same.
    """

    def __init__(self, contract: UnitContract, latency: int) -> None:
        self.contract = contract
        self.latency = latency
        self.free = {port.name: Signal(port.width, name=port.name) for port in contract.inputs}
        self.idle = Signal()
        self.differ = Signal()

    def rtlil(self) -> str:
        """Its text; the units are the modules `gold` and `gate`."""
        ports = [*self.free.values(), self.idle, self.differ]
        m = self._built()
        m.domains.sync = domain = ClockDomain(reset_less=True)
        return rtlil.convert(m, name="miter", ports=[*ports, domain.clk], emit_src=False)

    def _built(self) -> Module:
        m = Module()
        driven = dict(self.free)
        looks = _PROTOCOLS.get(self.contract.unit, _every_cycle)(self, m, driven)
        (port,) = self.contract.outputs
        results = [Signal(port.width, name=f"of_{name}") for name in ("gold", "gate")]
        for name, result in zip(("gold", "gate"), results, strict=True):
            m.submodules[name] = Instance(
                name,
                i_clk=ClockSignal(),
                i_rst=Const(0),
                **{f"i_{each}": signal for each, signal in driven.items()},
                **{f"o_{port.name}": result},
            )
        m.d.comb += self.differ.eq(looks & (results[0] != results[1]))
        return m

    def full(self, m: Module, step: Signal | Const) -> Signal:
        """Whether `latency` cycles with `step` lie behind."""
        count, full = Signal(range(self.latency + 1)), Signal()
        m.d.comb += full.eq(count == self.latency)
        with m.If(step & ~full):
            m.d.sync += count.eq(count + 1)
        return full


def _every_cycle(miter: _Miter, m: Module, driven: dict[str, Signal]) -> Signal:
    """A unit that takes a value in every cycle."""
    return miter.full(m, Const(1))


def _enabled(miter: _Miter, m: Module, driven: dict[str, Signal]) -> Signal:
    """The rescaler: shifts of 1 to 47 where it is enabled."""
    given, shift = driven["shift"], Signal(6, name="legal_shift")
    illegal = driven["enable"] & ((given == 0) | (given > 47))
    m.d.comb += shift.eq(Mux(illegal, 1, given))
    driven["shift"] = shift
    return miter.full(m, driven["enable"])


def _element(miter: _Miter, m: Module, driven: dict[str, Signal]) -> Signal:
    """An element: `capture` once a sum may be there, `shift` from two cycles after one on."""
    capture, shift = Signal(name="legal_capture"), Signal(name="legal_shift")
    seen, after = Signal(), Signal()
    full = miter.full(m, Const(1))
    m.d.comb += [
        capture.eq(driven["capture"] & full),
        shift.eq(driven["shift"] & seen & ~after & ~capture),
    ]
    m.d.sync += [seen.eq(seen | capture), after.eq(capture)]
    driven |= {"capture": capture, "shift": shift}
    return shift


def _composable_element(miter: _Miter, m: Module, driven: dict[str, Signal]) -> Signal:
    """As `_element`, with the words of each mode; `a` is 0 beside anything where it is idle."""
    a, w, mode = (driven[name] for name in ("a", "w", "mode"))
    legal_a, legal_w = Signal(16, name="legal_a"), Signal(16, name="legal_w")
    twice = Cat(w[:4], w[:4], w[8:12], w[8:12])
    m.d.comb += [
        legal_a.eq(Mux(miter.idle, 0, Mux(mode[1], a, Cat(a[:8], a[:8])))),
        legal_w.eq(Mux(miter.idle | (mode == 3), w, twice)),
    ]
    driven |= {"a": legal_a, "w": legal_w}
    return _element(miter, m, driven)


def _mantissa(miter: _Miter, m: Module, driven: dict[str, Signal]) -> Signal:
    """A unit of mantissas: it has no result for one whose upper bits are 0."""
    bits = {"inverse_sqrt": 2, "reciprocal": 1}[miter.contract.unit]
    looks = driven["v"][-bits:] != 0
    for stage in range(miter.latency):
        before, looks = looks, Signal(name=f"looks_{stage}")
        m.d.sync += looks.eq(before)
    return looks


_PROTOCOLS = {
    "mac": _element,
    "composable_mac": _composable_element,
    "rescaler": _enabled,
    "inverse_sqrt": _mantissa,
    "reciprocal": _mantissa,
}
"""Unit -> what makes legal inputs of any, in `driven`, and says where the contract looks."""
