"""Mapping to cells: what comes out computes what went in, and depends on nothing else."""

import contextlib
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Instance, Module, Signal

from evaluators.silicon import synthesis, yosys
from evaluators.silicon.liberty import default_liberty_path, load_library
from evaluators.silicon.linking import LinkError, link
from evaluators.silicon.synthesis import SynthesisError, SynthesisTimeout, synthesize
from evaluators.silicon.yosys import YosysError, run_yosys
from hwlib.config import CoreConfig
from hwlib.elaborate import elaborate_core

pytestmark = pytest.mark.eda

LIBERTY = default_liberty_path()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def library(cache_dir):
    return load_library(LIBERTY, cache_dir / "silicon")


def convert(module, ports, name):
    return rtlil.convert(module, ports=ports, name=name, emit_src=False)


def multiply_add(name="leaf"):
    """y = a * b + c, combinational."""
    a, b, c, y = Signal(3), Signal(3), Signal(2), Signal(6)
    a.name, b.name, c.name, y.name = "abcy"
    m = Module()
    m.d.comb += y.eq(a * b + c)
    return convert(m, [a, b, c, y], name)


def two_leaves(first="leaf", second="leaf"):
    """A register behind each of two instances."""
    a, b, q = Signal(3), Signal(3), Signal(12)
    m = Module()
    for k, leaf in enumerate((first, second)):
        y = Signal(6, name=f"y{k}")
        m.submodules[f"u{k}"] = Instance(leaf, i_a=a, i_b=b, i_c=a[:2], o_y=y)
        m.d.sync += q[6 * k : 6 * k + 6].eq(y)
    return convert(m, [a, b, q], "top")


def evaluate(module, library, inputs, count):
    """Values of the output ports for `count` inputs at once, by the library's own functions."""
    every = (1 << count) - 1  # bit n of each value belongs to input n
    value = {"0": 0, "1": every}
    for port in module.ports:
        if port.direction == "input":
            for k, bit in enumerate(port.bits):
                value[bit] = sum((inputs[port.name][n] >> k & 1) << n for n in range(count))
    waiting = list(module.cells)
    while waiting:
        cell = waiting.pop(0)
        pins = library.cell(cell.type).pins
        names = {p: b[0] for p, b in cell.connections.items() if pins[p].direction == "input"}
        if not set(names.values()) <= set(value):
            waiting.append(cell)
            continue
        for pin, bits in cell.connections.items():
            if pins[pin].function:
                text = pins[pin].function.replace("!", "~")
                value[bits[0]] = every & eval(text, {}, {p: value[b] for p, b in names.items()})
    return {
        port.name: [
            sum((value[bit] >> n & 1) << k for k, bit in enumerate(port.bits)) for n in range(count)
        ]
        for port in module.ports
        if port.direction == "output"
    }


def test_mapped_cells_compute_what_the_netlist_says_for_every_input(library, cache):
    module = synthesize(multiply_add(), library, LIBERTY, cache, "leaf").modules["leaf"]
    a, b, c = ([n >> shift & mask for n in range(256)] for shift, mask in ((0, 7), (3, 7), (6, 3)))
    found = evaluate(module, library, {"a": a, "b": b, "c": c}, 256)
    assert found == {"y": [x * y + z for x, y, z in zip(a, b, c, strict=True)]}


def test_equal_modules_are_one_and_areas_add_up(library, cache):
    text = two_leaves("leaf", "twin") + multiply_add() + multiply_add("twin")
    result = synthesize(text, library, LIBERTY, cache, "top")
    assert result.counts == {"top": 1, "leaf": 2}
    leaf = result.modules["leaf"]
    by_hand = sum(library.cell(cell.type).area_um2 for cell in leaf.cells)
    assert leaf.area_um2 == pytest.approx(by_hand)
    assert result.area_by_module_um2["leaf"] == pytest.approx(2 * by_hand)
    assert result.cell_area_um2 == pytest.approx(2 * by_hand + result.modules["top"].area_um2)
    # Synchronous resets cost gates: flip-flops alone are not the area of `top`.
    assert result.modules["top"].area_um2 > 12 * library.cell("DFF_X1").area_um2


def test_result_is_the_same_alone_together_cold_and_warm(library, cache, tmp_path):
    text = two_leaves() + multiply_add()
    cold = synthesize(text, library, LIBERTY, tmp_path, "top")
    assert synthesize(text, library, LIBERTY, tmp_path, "top") == cold
    assert synthesize(multiply_add() + two_leaves(), library, LIBERTY, cache, "top") == cold
    alone = synthesize(multiply_add(), library, LIBERTY, tmp_path / "other", "leaf")
    assert alone.modules["leaf"] == cold.modules["leaf"]


def test_a_changed_child_is_mapped_and_its_parent_is_not(library, tmp_path):
    text = two_leaves() + multiply_add()
    synthesize(text, library, LIBERTY, tmp_path, "top")
    before = set((tmp_path / "mapped").iterdir())
    changed = text.replace("cell $add", "cell $sub")
    assert changed != text
    synthesize(changed, library, LIBERTY, tmp_path, "top")
    assert len(set((tmp_path / "mapped").iterdir()) - before) == 1


def test_a_module_of_a_core_has_the_same_text_whatever_stands_beside_it():
    eight, sixteen = (
        link(elaborate_core(CoreConfig(columns=columns, queue_depth=depth)), "core").modules
        for columns, depth in ((8, 4), (16, 3))
    )
    # Of its own ports, setup has two without a name, and writes has its data in parts.
    for name in ("setup", "writes"):
        assert eight[f"\\core.vector.{name}"].body == sixteen[f"\\core.vector.{name}"].body
    assert eight["\\core.load"].body != sixteen["\\core.load"].body


def test_sram_modules_are_macros_and_their_insides_are_not_looked_at(library, cache):
    memory = "module \\sram_64x8\n  wire width 8 input 0 \\d\n  wire width 8 output 1 \\q\n"
    memory += "  cell \\nowhere \\x\n  end\nend\n"
    d, q = Signal(8), Signal(8)
    m = Module()
    m.submodules.bank = Instance("sram_64x8", i_d=d, o_q=q)
    text = convert(m, [d, q], "top") + memory
    result = synthesize(text, library, LIBERTY, cache, "top")
    assert list(result.modules) == ["top"]
    assert [port.width for port in result.macros["sram_64x8"]] == [8, 8]
    assert [cell.type for cell in result.modules["top"].instances] == ["sram_64x8"]


HEAD = "module \\top\n  wire width 1 input 0 \\a\n  wire width 1 output 1 \\y\n"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("  cell \\mystery \\u\n    connect \\A \\a\n  end\n", "mystery is instantiated"),
        ("  wire \\open\n  cell $not \\u\n    parameter \\A_SIGNED 0\n    parameter \\A_WIDTH 1\n"
         "    parameter \\Y_WIDTH 1\n    connect \\A \\open\n    connect \\Y \\y\n  end\n",
         "no driver"),
        ("  cell $_DLATCH_P_ \\u\n    connect \\E \\a\n    connect \\D \\a\n    connect \\Q \\y\n"
         "  end\n", "top failed"),
        ("  nonsense\n", "top failed"),
    ],
)  # fmt: skip
def test_what_is_no_circuit_of_known_cells_is_refused_with_the_last_words(
    body, words, library, cache
):
    with pytest.raises(SynthesisError, match=words):
        synthesize(HEAD + body + "end\n", library, LIBERTY, cache, "top")


def test_a_hang_ends_at_the_deadline(library, tmp_path):
    with pytest.raises(SynthesisTimeout, match="stopped after"):
        synthesize(multiply_add(), library, LIBERTY, tmp_path, "leaf", deadline_s=0.01)
    assert not list(tmp_path.glob("mapped/*"))


def test_a_crash_of_the_tool_is_an_error_with_its_last_words(tmp_path):
    with pytest.raises(YosysError, match="No such command: nonsense"):
        run_yosys(["nonsense"], tmp_path, tmp_path, 30.0)


def test_linking_names_what_is_missing_doubled_or_recursive():
    with pytest.raises(LinkError, match="not defined"):
        link("module \\a\n  cell \\b \\u\n  end\nend\n", "a")
    with pytest.raises(LinkError, match="contains itself"):
        link("module \\a\n  cell \\a \\u\n  end\nend\n", "a")
    with pytest.raises(LinkError, match="twice"):
        link("module \\a\nend\nmodule \\a\n  wire \\x\nend\n", "a")
    with pytest.raises(LinkError, match="neither input nor output"):
        link("module \\a\n  wire width 1 inout 0 \\x\nend\n", "a")


def test_an_interruption_ends_yosys_and_what_it_started(tmp_path):
    before, ended = set(yosys._running), []

    def long():
        try:
            # A child of its own, as abc is one behind a shell.
            yosys.run_yosys(["exec -- sleep 600"], tmp_path, tmp_path / "tmp", 600.0)
        except yosys.YosysDied as error:
            ended.append(str(error))

    with (
        pytest.raises(KeyboardInterrupt),
        synthesis._interruptible(ThreadPoolExecutor(1)) as pool,
    ):
        pool.submit(long)
        while not (started := yosys._running - before):
            time.sleep(0.05)
        while len(living(*started)) < 2:  # the child, too
            time.sleep(0.05)
        raise KeyboardInterrupt
    (group,) = started
    assert len(ended) == 1 and "died of SIGKILL" in ended[0]
    assert gone(group)


def test_an_interruption_of_the_one_who_waits_ends_yosys_too(tmp_path):
    before, groups = set(yosys._running), []

    def interrupt():
        while not (started := yosys._running - before):
            time.sleep(0.05)
        groups.extend(started)
        while len(living(*started)) < 2:
            time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    with ThreadPoolExecutor(1) as pool, pytest.raises(KeyboardInterrupt):
        pool.submit(interrupt)
        yosys.run_yosys(["exec -- sleep 600"], tmp_path, tmp_path / "tmp", 600.0)
    assert groups and gone(*groups)


def test_the_end_of_its_processor_time_is_a_timeout(tmp_path, monkeypatch):
    ended = ["sh", "-c", "echo counting cells; kill -XCPU $$"]
    monkeypatch.setattr(yosys, "confined", lambda *_: ended)
    with pytest.raises(yosys.YosysTimeout, match=r"up its 7 s of a processor.*counting cells"):
        yosys.run_yosys([], tmp_path, tmp_path / "tmp", 7.0)


def gone(group):
    """Whether a group that was killed is dead; of a killed process that may take a moment."""
    end = time.monotonic() + 10
    while left := living(group):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return not left


def living(group):
    """Processes of a group, those left out that are dead and that nobody has asked after."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, of, *_ = path.read_text().rpartition(")")[2].split()
            if int(of) == group and state != "Z":
                found.append(path)
    return found
