"""Hostile netlists: whatever text an edit's process answers with, only a plain unit passes."""

import re
from collections.abc import Callable
from functools import cache

import pytest

from evaluators.gate.loops import check_loops
from evaluators.gate.netlist import check_netlist, without_start_values
from hwlib.config import CoreConfig
from hwlib.convert import convert_source
from hwlib.unit_source import shipped_source, source_to_rtlil

CORE = CoreConfig()
MAC = shipped_source("mac")


@cache
def honest() -> str:
    return source_to_rtlil("mac", MAC, CORE)


def into_module(lines: str) -> Callable[[str], str]:
    """Lines before the first cell of the module."""
    return lambda text: re.sub(
        r"^  cell ", lambda _: f"{lines}\n  cell ", text, count=1, flags=re.M
    )


def swapped(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


def everywhere(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new)


def behind(lines: str) -> Callable[[str], str]:
    return lambda text: text + lines


def at_the_end(line: str) -> Callable[[str], str]:
    """A connection before the end of the module."""
    return lambda text: f"{text.removesuffix(END)}{line}\n{END}"


END = "end\n"
CELL = "  cell {} $900\n  end"
FILLED = (
    "  wire width 1 $901\n  cell $not $900\n    parameter \\A_SIGNED 0\n    parameter \\A_WIDTH 1\n"
    "    parameter \\Y_WIDTH 1\n    connect \\A \\rst [0]\n    connect \\Y $901\n  end"
)
EMPTY_MODULE = "module \\mac.x\nend\n"

TEXTS: dict[str, tuple[Callable[[str], str], str]] = {
    "a name that closes the module": (
        swapped("\\product", "\\p\nend\nmodule \\evil"), "has no wire|no statement|no wire of"),
    "a name with a blank": (swapped("wire width 17 \\product", "wire width 17 \\p q"), "no wire"),
    "a name with a quote": (everywhere("\\product", '\\p"'), "is no wire"),
    "a name with a semicolon": (everywhere("\\product", "\\p;"), "is no wire"),
    "a name of 200 letters": (everywhere("\\product", "\\" + "p" * 200), "is no wire"),
    "a name in another script": (everywhere("\\product", "\\рroduct"), "may not stand"),
    "a reversing character": (everywhere("\\product", "\\p\u202e"), "may not stand"),
    "a carriage return": (everywhere("\n", "\r\n"), "may not stand"),
    "a lone carriage return": (everywhere("\\product", "\\p\rend"), "may not stand"),
    "a tab": (everywhere("  wire", "\twire"), "may not stand"),
    "a line separator": (everywhere("\\product", "\\p\u2028cell"), "may not stand"),
    "a vertical tab": (everywhere("\\product", "\\p\x0bend"), "may not stand"),
    "a form feed": (everywhere("\\product", "\\p\x0cend"), "may not stand"),
    "a file separator": (everywhere("\\product", "\\p\x1cend"), "may not stand"),
    "a next-line character": (everywhere("\\product", "\\p\x85end"), "may not stand"),
    "a null": (everywhere("\\product", "\\p\0"), "may not stand"),
    "an escape": (everywhere("\\product", "\\p\x1b[2J"), "may not stand"),
    "nothing": (lambda text: "", "breaks off"),
    "no last newline": (lambda text: text.rstrip("\n"), "breaks off"),
    "a missing end": (lambda text: text.removesuffix("end\n"), "breaks off"),
    "half a text": (lambda text: text[: len(text) // 2].rpartition("\n")[0] + "\n", "breaks off"),
    "an end too many": (behind("end\n"), "no module"),
    "a comment": (into_module("  # end"), "no statement"),
    "a blank line": (into_module(""), "no statement"),
    "another indentation": (swapped("  cell ", "   cell "), "no statement"),
    "a statement at the margin": (swapped("  cell ", "cell "), "no statement"),
    "autoidx": (lambda text: f"autoidx 4\n{text}", "no module"),
    "a black box": (lambda text: f"attribute \\blackbox 1\n{text}", "no module"),
    "a black box inside": (into_module("  attribute \\blackbox 1"), "blackbox 1 is not allowed"),
    "a white box": (into_module("  attribute \\whitebox 1"), "not allowed"),
    "kept hierarchy": (into_module("  attribute \\keep_hierarchy 1"), "not allowed"),
    "a kept wire": (into_module("  attribute \\keep 1\n  wire width 1 $9"), "not allowed"),
    "an own mapping": (into_module("  attribute \\techmap_celltype \"$mul\""), "not allowed"),
    "an own recipe": (into_module("  attribute \\abc9_box 1"), "not allowed"),
    "a source position": (into_module("  attribute \\src \"x.py:1\""), "not allowed"),
    "an attribute of a cell": (into_module("  attribute \\init 1'1"), "only wires"),
    "a second top": (lambda text: f"attribute \\top 1\n{text}", "no module"),
    "a second module of one name": (lambda text: text * 2, "a second module"),
    "the core's module": (behind("module \\core\nend\n"), "core is not used"),
    "a module that is not used": (behind(EMPTY_MODULE), "is not used"),
    "a cell of the core": (into_module(CELL.format("\\core")), "may not use a cell"),
    "a cell of another unit": (into_module(CELL.format("\\rescaler")), "may not use a cell"),
    "itself": (into_module(CELL.format("\\mac")), "used once, by the one around it"),
    "a module twice": (
        lambda text: into_module(f"{CELL.format(chr(92) + 'mac.x')}\n  cell \\mac.x $902\n  end")(
            text) + EMPTY_MODULE,
        "used once",
    ),
    "an instance with a parameter": (
        lambda text: into_module(
            "  cell \\mac.x $900\n    parameter \\WIDTH 4\n  end")(text) + EMPTY_MODULE,
        "connects other ports",
    ),
    "an instance with an unknown port": (
        lambda text: into_module("  cell \\mac.x $900\n    connect \\q \\rst [0]\n  end")(
            text) + EMPTY_MODULE,
        "connects other ports",
    ),
    **{
        f"a cell {kind}": (into_module(CELL.format(kind)), "may not use a cell")
        for kind in (
            "$print", "$check", "$assert", "$assume", "$cover", "$anyconst", "$anyseq", "$allconst",
            "$initstate", "$mem_v2", "$memrd_v2", "$memwr_v2", "$meminit_v2", "$adff", "$aldff",
            "$dlatch", "$sr", "$dffsr", "$ff", "$tribuf", "$lut", "$sop", "$fsm", "$specify2",
            "$scopeinfo", "$macc", "$alu", "$bmux", "$demux", "$pow", "$connect", "$slice", "$pmux",
        )
    },
    "a gate": (into_module(CELL.format("$_NOT_")), "may not use a cell"),
    "an abc cell": (into_module(CELL.format("$__ABC9_BOX")), "may not use a cell"),
    "a memory": (into_module("  memory width 8 size 4 \\m"), "may not hold a memory"),
    "a memory from a file": (
        into_module('  cell $not $900\n    parameter \\MEMID "\\\\m"\n  end'), "no parameter"),
    "a text as a parameter": (swapped("\\A_SIGNED 1", '\\A_SIGNED "1"'), "no parameter"),
    "a real parameter": (swapped("\\A_SIGNED 1", 'real \\A_SIGNED "1.0"'), "no parameter"),
    "a signed parameter": (swapped("\\A_SIGNED 1", "signed \\A_SIGNED 1'1"), "no parameter"),
    "an unknown parameter": (swapped("parameter \\A_SIGNED", "parameter \\T_SIGNED"), "other pins"),
    "a parameter twice": (
        swapped("parameter \\B_SIGNED", "parameter \\A_SIGNED"), "a second parameter"),
    "a width that lies": (swapped("\\A_WIDTH 9", "\\A_WIDTH 8"), "has not the width"),
    "a product of 100000 bits": (swapped("\\A_WIDTH 9", "\\A_WIDTH 100000"), "has not the width"),
    "a flag of 7": (swapped("\\A_SIGNED 1", "\\A_SIGNED 7"), "neither 0 nor 1"),
    "a falling edge": (swapped("CLK_POLARITY 1", "CLK_POLARITY 0"), "rising edge"),
    "another clock": (
        swapped("connect \\CLK \\clk [0]", "connect \\CLK \\shift [0]"), "clock pins"),
    "a constant clock": (swapped("connect \\CLK \\clk [0]", "connect \\CLK 1'1"), "clock pins"),
    "the clock as data": (swapped("\\shift [0]", "\\clk [0]"), "used as data"),
    "a driven clock": (at_the_end("connect \\clk 1'1"), "driven more than once"),
    "a pin twice": (swapped("connect \\B ", "connect \\A "), "a second connection"),
    "a pin too few": (swapped("    connect \\B \\w", "    connect \\C \\w"), "other pins"),
    "a wire twice": (into_module("  wire width 17 \\product"), "a second wire"),
    "a cell twice": (into_module(f"{FILLED}\n{CELL.format('$not')}"), "a second cell"),
    "a wire of 60000 bits": (into_module("  wire width 60000 $900"), "at most 4096"),
    "a wire of 4 billion bits": (into_module("  wire width 4294967296 $900"), "no wire"),
    "a wire with an offset": (into_module("  wire width 4 offset 2 $900"), "no wire"),
    "a wire that counts upwards": (into_module("  wire width 4 upto $900"), "no wire"),
    "a wire both ways": (into_module("  wire width 4 inout 9  \\io"), "no wire"),
    "a port too many": (into_module("  wire width 4 input 90  \\peek"), "port peek must be absent"),
    "an unknown wire": (swapped("connect \\A \\", "connect \\A \\nowhere"), "has no wire"),
    "bits beyond a wire": (swapped("\\clk [0]", "\\clk [1]"), "has no"),
    "bits that count down": (swapped("[8:0]", "[0:8]"), "has no"),
    "a constant of unknowns": (
        swapped("assign $", "assign $1 [0] 1'x\n    assign $"), "assignment"),
    "a constant of high impedance": (
        swapped("assign $", "assign $1 [0] 1'z\n    assign $"), "assignment"),
    "a constant that is too short": (
        lambda text: re.sub(r"assign (\S+ \[31:0\]) .*", r"assign \1 9'111111111", text, count=1),
        "9 bits are put on 32"),
    "a constant that is longer than it says": (
        lambda text: re.sub(r"assign (\S+ \[31:0\]) .*", r"assign \1 32'1", text, count=1),
        "not of the width"),
    "bits that nothing drives": (into_module("  wire width 4 $900"), "nothing drives"),
    "two drivers": (at_the_end("connect \\product 17'00000000000000000"), "more than once"),
    "a driven input": (at_the_end("connect \\rst 1'0"), "driven more than once"),
    "a driven constant": (at_the_end("connect 1'1 1'0"), "constant is driven"),
    "a start value of logic": (
        swapped("  wire width 17 \\product",
            "  attribute \\init 17'00000000000000001\n  wire width 17 \\product"),
        "a value before its driver's"),
    "a start value that is too short": (
        lambda text: re.sub(r"init 9'0+", "init 1'1", text, count=1), "value|width"),
    "a process with a clock": (
        into_module("  process $900\n    sync posedge \\clk\n      update \\product 17'0\n  end"),
        "no statement of a process"),
    "a process that is always awake": (
        into_module("  process $900\n    sync always\n  end"), "no statement of a process"),
    "a process that initialises": (
        into_module("  process $900\n    sync init\n  end"), "no statement of a process"),
    "deep switches": (
        into_module(
            "  process $900\n"
            + "".join(f"{'  ' * (2 + 2 * i)}switch \\rst [0]\n{'  ' * (3 + 2 * i)}case 1'1\n"
                      for i in range(100))),
        "inside one another"),
    "a pattern of another width": (
        lambda text: re.sub(r"case 1'1", "case 2'11", text, count=1), "pattern"),
    "a pattern of unknowns": (lambda text: re.sub(r"case 1'1", "case 1'x", text, count=1), "case"),
    "too many cells": (
        into_module("\n".join(
            f"  wire width 1 $1{i:05}\n" + FILLED.partition("\n")[2].replace("$900", f"$2{i:05}")
            .replace("$901", f"$1{i:05}") for i in range(20001))),
        "at most 20000"),
    "too many bits": (
        into_module("\n".join(f"  wire width 4096 input {i}  \\p{i}" for i in range(10, 60))),
        "at most 200000"),
    "a million wires in a line": (
        at_the_end("connect \\product { " + "$1 " * 10**6 + "}"), "bits are put on 17"),
    "a very long name": (at_the_end("connect \\product \\" + "a" * 10**6), "no connection"),
    "a very long constant": (at_the_end("connect \\product 9'" + "1" * 10**6), "not of the width"),
    "a hundred thousand attributes": (
        into_module("  attribute \\init 1'0\n" * 10**5 + "  process $1"), "only wires"),
    "too much work": (
        into_module("  wire width 4096 $900\n  cell $mul $901\n    parameter \\A_SIGNED 0\n"
            "    parameter \\B_SIGNED 0\n    parameter \\A_WIDTH 4096\n"
            "    parameter \\B_WIDTH 4096\n    parameter \\Y_WIDTH 4096\n"
            f"    connect \\A 4096'{'1' * 4096}\n    connect \\B 4096'{'1' * 4096}\n"
            "    connect \\Y $900\n  end"),
        "bit operations"),
    "a shift by 2^32": (
        into_module("  wire width 32 $900\n  cell $shl $901\n    parameter \\A_SIGNED 0\n"
            "    parameter \\B_SIGNED 0\n    parameter \\A_WIDTH 1\n"
            "    parameter \\B_WIDTH 32\n    parameter \\Y_WIDTH 32\n"
            "    connect \\A 1'1\n    connect \\B \\drain_in [31:0]\n    connect \\Y $900\n  end"),
        "a shift has 32 bits"),
    "unbalanced braces": (lambda text: text.replace(" }", "", 1), "is no"),
    "nested braces": (lambda text: text.replace("{ ", "{ { ", 1), "is no"),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_a_hostile_text_is_refused(name: str) -> None:
    change, reason = TEXTS[name]
    text = change(honest())
    assert text != honest()
    with pytest.raises(ValueError, match=reason) as caught:
        check_netlist("mac", CORE, text)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500


ODD = """
from amaranth.hdl import *
from amaranth.lib import data, wiring
from amaranth.lib import enum
from amaranth.lib.wiring import In, Out


class Kind(enum.Enum, shape=2):
    FAST = 1
    SLOW_ONE = 2


class Half(Elaboratable):
    def __init__(self, depth):
        self.depth, self.x, self.y = depth, Signal(8), Signal(8)

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.y.eq(self.x + 1)
        if self.depth:
            m.submodules.inner = inner = Half(self.depth - 1)
            m.d.comb += inner.x.eq(self.y[2:5])
        return m


class Mac(wiring.Component):
    def __init__(self, bits=32, stages=2):
        super().__init__({
            "a": In(signed(9)), "w": In(signed(8)), "capture": In(1), "shift": In(1),
            "drain_in": In(signed(32)), "drain_out": Out(signed(32)),
        })

    def elaborate(self, platform):
        m = Module()
        a, w, drain = self.a, self.w, self.drain_in.as_unsigned()
        kind = Signal(Kind, init=Kind.FAST)
        s = Signal(data.StructLayout({"p": 3, "q": signed(5), "r": data.ArrayLayout(2, 3)}))
        m.d.sync += [kind.eq(Kind.SLOW_ONE), s.p.eq(s.q), s.r[1].eq(2)]
        m.submodules.h = h = Half(3)
        m.submodules += Half(0)
        m.submodules.enabled = EnableInserter(w.any())(Half(1))
        m.submodules.cleared = ResetInserter(w.any())(Half(1))
        m.d.comb += h.x.eq(a)
        many = Array([Signal(4, name=f"t{i}") for i in range(5)])
        at = Signal(range(5))
        m.d.sync += [many[i].eq(a + i) for i in range(5)]
        m.d.sync += at.eq(Mux(at == 4, 0, at + 1))
        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.capture):
                    m.next = "GO-1"
            with m.State("GO-1"):
                m.next = "IDLE"
        kept = Signal(8, reset_less=True)
        m.d.sync += kept.eq(kept + many[at])
        out = Signal(signed(32))
        m.d.comb += out.eq(
            drain.word_select(a[:2], 8) + drain.bit_select(w[:5], 3) + a // (w | 1) + a % 3
            - (a << w[:4]) + (a >> 2) + h.y + s.q + kept + abs(w) + Cat(w, a).xor() + ~a + -w
            + w.as_unsigned().rotate_left(2) + (a <= w) + (a != 3) + kind.as_value()
        )
        with m.Switch(w):
            with m.Case("0---1000", 5):
                m.d.sync += self.drain_out.eq(out)
            with m.Default():
                m.d.sync += self.drain_out.eq(out >> 1)
        m.d.sync += self.drain_out.bit_select(a[:3], 2).eq(3)
        return m
"""
"""Most of what Amaranth's language can say of synchronous logic, in one honest unit."""


def test_honest_netlists_pass() -> None:
    text = convert_source("mac", ODD, "Mac", ())
    check_netlist("mac", CORE, text)
    check_loops("mac", text)
    assert "enum_value" in text and "\\mac.h.inner.inner" in text and "$divfloor" in text


@pytest.mark.parametrize(
    ("kind", "operand", "loops"),
    [
        ("$xor", "{ $900 [6:0] \\rst [0] }", False),  # each bit from the one below it
        ("$add", "{ $900 [6:0] \\rst [0] }", False),
        ("$add", "{ $900 [7:1] \\rst [0] }", True),
        ("$xor", "$900", True),
        ("$and", "{ $900 [0] $900 [7:1] }", True),
    ],
)
def test_a_loop_without_a_flip_flop_is_refused(kind: str, operand: str, loops: bool) -> None:
    text = into_module(
        f"  wire width 8 $900\n  cell {kind} $901\n    parameter \\A_SIGNED 0\n"
        "    parameter \\B_SIGNED 0\n    parameter \\A_WIDTH 8\n    parameter \\B_WIDTH 8\n"
        f"    parameter \\Y_WIDTH 8\n    connect \\A {operand}\n    connect \\B \\w [7:0]\n"
        "    connect \\Y $900\n  end"
    )(honest())
    check_netlist("mac", CORE, text)
    if not loops:
        return check_loops("mac", text)
    with pytest.raises(ValueError, match="logic loop"):
        check_loops("mac", text)
    return None


def test_start_values_are_dropped_and_nothing_else() -> None:
    assert honest().count("attribute \\init") > 0
    kept = [line for line in honest().splitlines() if "init" not in line]
    assert without_start_values(honest()).splitlines() == kept
    check_netlist("mac", CORE, without_start_values(honest()))
