"""`dovetail compile`: what it writes can be run by somebody else, and what it refuses."""

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dovetail import compiling
from dovetail.cli import main
from dovetail.compiling import Case, Compiled, compile_case, hold_to_model
from dovetail.errors import BadInput, Differs, ExitCode, FolderRefused
from dovetail.testing import ToyWorkshop
from evaluators.design import DesignPoint
from evaluators.pipeline import Pipeline
from evaluators.silicon import verilator
from hwlib.commands import encode
from hwlib.config import CoreConfig
from hwlib.edit import RtlEdit
from hwlib.reference.core import execute
from swopt.compiler import network as net
from swopt.compiler.program import lower
from tests.swopt.plain_network import evaluate, tiny_inputs, tiny_model

ROOT = Path(__file__).parents[2]

SMALL = CoreConfig(rows=4, columns=4, channel_entries=256)

NAMES = [
    "program.bin", "program.txt", "dram.bin", "core.v", "roofline.svg", "report.md",
    "manifest.json",
]  # fmt: skip


@dataclass(frozen=True)
class ToyCompiler(ToyWorkshop):
    """Compiles the drawn model."""

    def case(
        self,
        design: DesignPoint,
        question: int,
        data_dir: Path | None,
        checkpoint: Path | None = None,
    ) -> Case:
        about = {"index": question, "text": "what?", "set": "drawn"}
        return Case(design, "drawn integers", {}, about, tiny_model(3), tiny_inputs(3, 9), {})


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments, ToyCompiler())
    return int(ended.value.code or 0)


def toy(config: CoreConfig = SMALL) -> Case:
    """A model of drawn integers."""
    return ToyCompiler().case(DesignPoint(hardware=config), 0, None)


@pytest.fixture(scope="module")
def compiled() -> Compiled:
    return compile_case(toy())


@pytest.fixture(scope="module")
def manifest(compiled: Compiled) -> Any:
    return json.loads(compiled.files["manifest.json"])


@pytest.mark.parametrize(
    "check", [False, pytest.param(True, marks=[pytest.mark.slow, pytest.mark.eda])]
)
def test_the_command_writes_what_was_compiled_and_equal_designs_give_equal_bytes(
    compiled: Compiled, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, check: bool,
) -> None:  # fmt: skip
    if check and (missing := verilator.available()):
        pytest.skip(missing)
    monkeypatch.delenv("DOVETAIL_DATA_DIR", raising=False)
    monkeypatch.setenv("DOVETAIL_CACHE_DIR", str(tmp_path / "cache"))
    design, out = tmp_path / "design.json", tmp_path / "deep" / "out"
    design.write_text(toy().design.canonical_json())
    flags = ["--check"] * check
    assert call("compile", str(design), "-o", str(out), *flags) == 0
    said = capsys.readouterr().out
    written = {path.name: path.read_bytes() for path in out.iterdir()}
    same = {"program.bin", "program.txt", "dram.bin", "core.v"} if check else set(NAMES)
    assert set(written) == set(NAMES) == set(compiled.files)
    assert all(written[name] == compiled.files[name] for name in same)
    assert said.startswith("question 0 of validation; drawn integers\n")
    assert ("40 logits on the RTL equal the integer model's" in said) == check
    assert ("| measured |" in written["report.md"].decode()) == check
    answer = json.loads(written["manifest.json"])["check"]
    if check:
        inputs = toy().inputs
        assert answer["token"] == evaluate(tiny_model(3), inputs)[-1][0].argmax()
    else:
        assert answer is None
    assert call("compile", str(design), "-o", str(out)) == ExitCode.FOLDER


def test_the_manifest_holds_the_hash_of_every_other_file(compiled: Compiled, manifest: Any) -> None:
    for name, content in compiled.files.items():
        if name != compiling.MANIFEST:
            found = manifest["files"][name]
            assert found == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert manifest["design_id"] == toy().design.id
    assert DesignPoint.model_validate(manifest["design"]) == toy().design


def test_the_files_alone_give_the_models_answer(compiled: Compiled, manifest: Any) -> None:
    """Inputs, logits and token are where the manifest says, in the formats that it states."""
    case = toy()
    program = lower(case.network, case.inputs, SMALL)
    image = np.frombuffer(compiled.files["dram.bin"], np.uint8)
    words = np.frombuffer(compiled.files["program.bin"], "<u8").reshape(-1, 4)
    assert len(words) == manifest["commands"] == sum(manifest["commands_of"].values())
    for row, command in zip(words[::97], program.commands[::97], strict=True):
        assert sum(int(part) << 64 * at for at, part in enumerate(row)) == encode(command)
    for brought in manifest["inputs"]:
        tensor = case.inputs.of(brought["source"])
        rows, channels = brought["rows"], brought["channels"]
        for group, at in enumerate(brought["dram_addresses"]):
            stored = image[at : at + 2 * rows * channels].view("<i2").reshape(channels, rows).T
            there = tensor[group * rows : (group + 1) * rows]
            np.testing.assert_array_equal(stored[: len(there)], there)
    after = execute(program.commands, image, SMALL)
    logits, answered = manifest["results"]["logits"], manifest["results"]["token"]
    expected = evaluate(case.network, case.inputs)[-1][0]
    stored = after[logits["dram_address"] :][: 4 * 4 * logits["channels"]].view("<u2")
    lane = stored.reshape(-1, 2, 4)[:, :, logits["lane"]].astype(np.int64)
    found = (lane[:, 0] + (lane[:, 1] << 16)).astype(np.int32)
    np.testing.assert_array_equal(found, expected)
    word = after[answered["dram_address"] :][:8].view("<u2")
    assert word[answered["lane"]] == expected.argmax()


def test_another_logit_or_token_on_the_rtl_is_refused() -> None:
    case = toy()
    program = lower(case.network, case.inputs, SMALL)
    dram = execute(program.commands, program.dram, SMALL)
    hold_to_model(case, program, dram)
    assert program.logits is not None
    for address, said in (
        (program.logits.dram_address, "tensor logits: the core gives .* 1 of 40 values differ"),
        (program.logits.token_address, r"the core's token is \d+, the integer model's \d+"),
    ):
        other = dram.copy()
        other[address + 2 * program.logits.lane] ^= 1
        with pytest.raises(Differs, match=said):
            hold_to_model(case, program, other)


def test_the_listing_has_a_line_a_command(compiled: Compiled, manifest: Any) -> None:
    lines = compiled.files["program.txt"].decode().splitlines()
    assert len(lines) == manifest["commands"]
    assert re.match(
        r" +0 load +target=activations address=\d+ words=\d+ dram_address=\d+", lines[0]
    )
    head = next(line for line in lines if "output=argmax" in line)
    assert head.endswith(" for: logits from last")
    assert any(re.search(r" waits: load \d+, vector \d+  for: ", line) for line in lines)
    assert not any("zero_point=0 " in line or "unsigned=False" in line for line in lines)


def test_the_verilog_holds_every_module_and_its_memories(compiled: Compiled) -> None:
    text = compiled.files["core.v"].decode()
    defined = set(re.findall(r"^module (\w+)", text, re.MULTILINE))
    used = set(re.findall(r"^  (\w+) \\?\S+ \(", text, re.MULTILINE))
    assert used and used <= defined and "core" in defined
    words = SMALL.activation_words // SMALL.activation_banks
    assert re.search(rf"reg \[\d+:0\] \S+ \[{words - 1}:0\];", text)
    assert "/work" not in text and "/tmp" not in text


@pytest.mark.eda
@pytest.mark.skipif(bool(verilator.available()), reason=verilator.available() or "there")
def test_verilator_accepts_the_verilog(compiled: Compiled, tmp_path: Path) -> None:
    (tmp_path / "core.v").write_bytes(compiled.files["core.v"])
    root = verilator._verilator_root()
    done = subprocess.run(
        [root / "bin" / "verilator_bin", "--lint-only", "-Wno-fatal", "-Wno-lint", "-Wno-style",
         "--top-module", "core", "core.v"],
        cwd=tmp_path, env={"VERILATOR_ROOT": str(root)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_report_shows_the_picture_and_every_layer(compiled: Compiled) -> None:
    report = compiled.files["report.md"].decode()
    assert "![The roofline of its layers](roofline.svg)" in report
    assert "| attended |" in report and "measured" not in report
    # Every operator but Shuffle and Concatenate, each in both tables; several make one tensor.
    by_layer = report[report.index("## Roof, layer by layer") :]
    moved = [op for op in toy().network.operators if not isinstance(op, net.Shuffle)]
    rows = [line for line in by_layer.splitlines() if re.match(r"\| [^|]+ \| [\d–]", line)]
    assert len(rows) == 2 * (len(moved) - 1)
    drawn = compiled.files["roofline.svg"].decode()
    layers = [op for op in toy().network.operators if isinstance(op, net.Linear | net.Attention)]
    assert drawn.count("<title>") == len(layers) == 17
    assert "DMA: 8 bytes a cycle" in drawn and "array, 8x8: 16 a cycle" in drawn


def test_a_model_that_does_not_fit_is_refused() -> None:
    words = np.zeros((600, 24), np.int16)
    case = toy(config=SMALL.model_copy(update={"activation_bytes": 8192}))
    large = replace(case, inputs=replace(case.inputs, words=words))
    with pytest.raises(BadInput, match=r"does not fit: .*; use a larger activation memory"):
        compile_case(large)
    other = CoreConfig(rows=4, columns=4, exponential_entries=8)
    with pytest.raises(BadInput, match="table of 16 entries, the core's has 8"):
        compile_case(toy(config=other))


class TestRefuses:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("{", "line 1: this is no JSON"),
            ("[]", "must hold keys|valid dictionary"),
            ('{"edit": []}', "edit: there is no such knob"),
            ('{"hardware": {"row": 4}}', "hardware.row: there is no such knob"),
            ('{"hardware": {"rows": 5}}', r"hardware.rows: must be 4, 8, 16 or 32"),
            ('{"hardware": {"rows": 4, "columns": 32}}', "may be at most 4 times the other"),
            (
                '{"compression": {"attention": {"block": 7}}}',
                "block: must be 16, 32, 64, 128 or 256",
            ),
            ('{"hardware": {"queue_depth": true}}', "queue_depth: must be a whole number"),
        ],
    )
    def test_what_is_no_design(
        self, text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        design = tmp_path / "design.json"
        design.write_text(text)
        assert call("compile", str(design), "-o", str(tmp_path / "out")) == ExitCode.BAD_INPUT
        self.one_sentence(said, capsys)
        assert not (tmp_path / "out").exists()

    def test_an_edit_that_the_gate_refuses(self, tmp_path: Path) -> None:
        edit = RtlEdit(unit="mac", source="raise SystemExit('ran')", latency=2)
        with pytest.raises(BadInput, match="edit of mac refused"):
            compiling.case_of(DesignPoint(edits=(edit,)), 0, Pipeline(data_dir=tmp_path))

    def test_what_is_not_there(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = str(tmp_path / "out")
        assert call("compile", str(tmp_path / "none.json"), "-o", out) == ExitCode.BAD_INPUT
        self.one_sentence("none.json cannot be read", capsys)
        design = self.design(tmp_path)
        assert call("compile", design) == ExitCode.USAGE
        self.one_sentence("Missing option '--out'", capsys)
        assert call("compile", design, "-o", out, "--question", "-1") == ExitCode.USAGE
        capsys.readouterr()
        absent = str(tmp_path / "absent")
        assert call("compile", design, "-o", out, "--data-dir", absent) == ExitCode.MISSING
        self.one_sentence("data folder .*absent does not exist", capsys)

    def test_a_folder_that_is_none_or_holds_something(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        design = self.design(tmp_path)
        assert call("compile", design, "-o", design) == ExitCode.FOLDER
        self.one_sentence("is a file, not a folder; name a folder with -o", capsys)
        assert call("compile", design, "-o", f"{design}/out") == ExitCode.FOLDER
        self.one_sentence("design.json", capsys)
        assert call("compile", design, "-o", str(tmp_path)) == ExitCode.FOLDER
        self.one_sentence("is not an empty folder; name another one with -o", capsys)

    @pytest.mark.skipif(
        not Path("/proc/self/root").exists(), reason="there is no folder that even root cannot fill"
    )
    def test_a_folder_that_cannot_be_written(self) -> None:
        with pytest.raises(FolderRefused, match="cannot write in /proc/none"):
            compiling.write(Path("/proc/none"), {"a": b""})

    def test_a_check_without_a_compiler(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CXX", "no-such-compiler")
        monkeypatch.delenv("DOVETAIL_DATA_DIR", raising=False)
        design = self.design(tmp_path)
        out = str(tmp_path / "out")
        assert call("compile", design, "-o", out, "--check") == ExitCode.MISSING
        self.one_sentence("no C.. compiler .*: install .*; or leave --check out", capsys)

    @staticmethod
    def design(folder: Path) -> str:
        path = folder / "design.json"
        path.write_text("{}")
        return str(path)

    @staticmethod
    def one_sentence(said: str, capsys: pytest.CaptureFixture[str]) -> None:
        captured = capsys.readouterr()
        assert re.search(said, captured.err), captured.err
        assert captured.err.count("\n") == 1 and "Traceback" not in captured.err


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(FolderRefused, match=r"cannot write in .*out"):
        compiling.write(out, {"a": b"1", "a/b": b"2"})
    assert [path.name for path in out.rglob("*") if path.is_file()] == []
    compiling.write(out / "deep", {"a": b"1"})
    assert (out / "deep" / "a").read_bytes() == b"1"


@pytest.mark.slow
@pytest.mark.eda
@pytest.mark.skipif(bool(verilator.available()), reason=verilator.available() or "there")
def test_tiny_vlm_is_compiled_and_checked_twice_the_same(tmp_path: Path) -> None:
    design = tmp_path / "design.json"
    design.write_text('{"hardware": {"rows": 4, "columns": 4}}')
    found = []
    for seed in ("1", "2"):
        out = tmp_path / seed
        done = subprocess.run(
            [sys.executable, "-c", "from dovetail.cli import main; main()", "compile", str(design),
             "-o", str(out), "--check", "--question", "7"],
            cwd=ROOT, check=True, capture_output=True, text=True,
            env={"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed, "HOME": str(tmp_path),
                 "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        said = "question 7 of validation; tiny-vlm on the synthetic set alone"
        assert said in done.stdout and "logits on the RTL equal the integer model's" in done.stdout
        found.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert found[0] == found[1]
    manifest = json.loads(found[0]["manifest.json"])
    assert manifest["check"]["cycles"] > 1_000_000
    assert "| vision.0.mlp.up |" in found[0]["report.md"].decode()
