"""`dovetail compile`: a design as files that somebody can take away and check.

Everything is made before the first file is written, so that a refusal leaves nothing behind. Equal
designs give equal bytes: no file holds a time, a path or a name of the machine.
"""

import json
import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from dovetail.errors import BadInput, Differs, EvaluatorBroken, FolderRefused, Missing, NoSpace
from dovetail.journal import FULL
from dovetail.viewer import compile_report
from dovetail.viewer import roofline as drawing
from evaluators import cache, roofline
from evaluators.design import DesignPoint
from evaluators.latency import NotBitExact, hold_answer
from evaluators.pipeline import Pipeline
from evaluators.silicon import verilator
from evaluators.silicon.simulation import CoreRun, Dram, SimulationError, simulate_core
from evaluators.silicon.verilog import verilog
from evaluators.silicon.yosys import YosysError
from hwlib.assembler import encode_program
from hwlib.commands import COMMAND_BITS, queue_of
from hwlib.edit import CoreUnitName
from hwlib.elaborate import TOP, UnitNetlist, elaborate_core
from swopt.compiler import listing, twin
from swopt.compiler.dram import Bytes
from swopt.compiler.host import Inputs
from swopt.compiler.network import Network
from swopt.compiler.program import Brought, Program, lower, token

MANIFEST = "manifest.json"

TOOLS = ("dovetail", "amaranth", "numpy", "pyosys", "torch", "transformers")
"""Packages that shape a file; with `--check` also Verilator and the C++ compiler."""

FORMATS = {
    "program.bin": f"commands in the order in which they are sent, {COMMAND_BITS // 8} bytes each, "
    "little-endian; fields as hwlib/commands.py lays them out",
    "dram.bin": "the DRAM before the program, byte 0 first; results go into it",
    "input": "int16, little-endian: from the DRAM address of each token group one word of 2 x rows "
    "bytes a channel, whose lane r is token group x rows + r",
    "logits": "int32 in one lane of two words a channel, the low half first",
    "token": "uint16 in the same lane of one word: the index of the greatest logit, the lowest of "
    "equals",
}


@dataclass(frozen=True)
class Case:
    """A design, and one question for it.

    Attributes:
        design: The design.
        data: What the model was calibrated on, in words.
        data_sha256: File name -> SHA-256 of what was read.
        question: Its number, text and image set, for the manifest.
        network: The model in integers.
        inputs: The question's tensors.
        units: Netlists of the design's edits, by unit.
    """

    design: DesignPoint
    data: str
    data_sha256: Mapping[str, str]
    question: Mapping[str, str | int]
    network: Network
    inputs: Inputs
    units: Mapping[CoreUnitName, UnitNetlist]


@dataclass(frozen=True)
class Compiled:
    """What is written, and what is said of it.

    Attributes:
        files: Content by name, the manifest last.
        summary: One line each.
    """

    files: Mapping[str, bytes]
    summary: Sequence[str]


def check_folder(folder: Path) -> None:
    """Refuses a folder that files cannot go into, before anything is made.

    Raises:
        FolderRefused: it is a file, holds something, or cannot be written.
    """
    try:
        if folder.exists():
            if not folder.is_dir():
                raise FolderRefused(f"{folder} is a file, not a folder; name a folder with -o")
            if any(folder.iterdir()):
                raise FolderRefused(f"{folder} is not an empty folder; name another one with -o")
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        if not there.is_dir():
            raise FolderRefused(f"{there} is a file, so {folder} cannot be made; name another one")
        if not os.access(there, os.W_OK | os.X_OK):
            raise FolderRefused(f"cannot write in {there}; name another folder with -o")
    except OSError as error:
        raise _refusal(error, folder) from None


def case_of(design: DesignPoint, index: int, pipeline: Pipeline) -> Case:
    """The design's model in integers, and a validation question.

    Raises:
        Missing: data or the checkpoint is not there or not whole.
        BadInput: the design breaks a law of the model, the gate refuses an edit of it, or there is
            no such question.
    """
    from swopt.workloads.checkpoint import CheckpointError

    try:
        workload = pipeline.workload()
    except (CheckpointError, FileNotFoundError, ValueError) as error:
        raise Missing(str(error)) from None
    questions = workload.validation()
    if index >= len(questions):
        raise BadInput(f"there is no question {index}; there are 0 to {len(questions) - 1}")
    try:
        units = pipeline.units(design)
        model = pipeline.model(workload, design, units)
    except CheckpointError as error:
        raise Missing(str(error)) from None
    except ValueError as error:
        raise BadInput(f"the design: {error}") from None
    question = questions.take([index])
    about: dict[str, str | int] = {
        "index": index,
        "text": question.texts[0],
        "set": question.sets[0],
    }
    (inputs,) = model.host.inputs(question)
    data = workload.describe()
    return Case(design, data, workload.data_sha256, about, model.network, inputs, units)


def compile_case(case: Case, simulators: Path | None = None) -> Compiled:
    """Every file of a compiled design.

    Args:
        case: What is compiled.
        simulators: Where built simulators are kept, if the program is to be run on the RTL and
            compared with the integer model.

    Raises:
        BadInput: the model does not fit the core.
        Missing: a tool is not installed.
        EvaluatorBroken: a tool failed on the netlist.
        Differs: the RTL gives another token or other logits than the integer model.
    """
    config, network = case.design.hardware, case.network
    try:
        choices = case.design.compression.choices
        program = lower(network, case.inputs, config, choices=choices)
    except ValueError as error:
        raise BadInput(f"the design does not fit: {error}") from None
    rtlil = elaborate_core(config, case.units)
    run = None if simulators is None else _checked(case, program, rtlil, simulators)
    works = roofline.work(program, network)
    measured = None if run is None else roofline.completed_cycles(program, network, run.completed)
    summary = _summary(case, program, roofline.total(works), run)
    title = f"Design {case.design.id}, compiled"
    facts = [f"{line[0].upper()}{line[1:]}." for line in summary]
    try:
        core = verilog(rtlil, TOP)
    except YosysError as error:
        raise EvaluatorBroken(f"the netlist could not be written as Verilog: {error}") from None
    files = {
        "program.bin": encode_program(program.commands, config).astype("<u8").tobytes(),
        "program.txt": "".join(f"{line}\n" for line in listing.lines(program, network)).encode(),
        "dram.bin": program.dram.tobytes(),
        "core.v": core.encode(),
        compile_report.PICTURE: drawing.picture(program, network, works, measured).encode(),
        "report.md": compile_report.page(title, facts, network, works, config, measured).encode(),
    }
    manifest = _manifest(case, program, files, run)
    return Compiled({**files, MANIFEST: (json.dumps(manifest, indent=2) + "\n").encode()}, summary)


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes the files in their order, each whole or not at all; after a fault none stays.

    Raises:
        FolderRefused: the folder cannot be written, or got a file of that name meanwhile.
        NoSpace: the disk is full.
    """
    written: list[Path] = []
    try:
        check_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            cache.write_atomically(folder / name, content)
            written.append(folder / name)
    except BaseException as error:
        for path in written:
            path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _refusal(error, folder) from None
        raise


def _refusal(error: OSError, folder: Path) -> FolderRefused | NoSpace:
    if error.errno in FULL:
        return NoSpace(f"no room in {folder} ({error.strerror}); make room and compile again")
    return FolderRefused(
        f"cannot write in {folder} ({error.strerror}); name another folder with -o"
    )


def _checked(case: Case, program: Program, rtlil: str, simulators: Path) -> CoreRun:
    """Runs the program on the RTL and holds its answer to the integer model's."""
    config = case.design.hardware
    try:
        run = simulate_core(rtlil, program.commands, program.dram, config, simulators)
    except verilator.ToolMissing as error:
        raise Missing(str(error)) from None
    except (verilator.ToolFailed, SimulationError) as error:
        raise EvaluatorBroken(f"the program could not be run on the RTL: {error}") from None
    hold_to_model(case, program, np.frombuffer(run.dram, np.uint8))
    return run


def hold_to_model(case: Case, program: Program, dram: Bytes) -> None:
    """Compares the answer in the DRAM after a program with the integer model's.

    Raises:
        Differs: A logit or the token is another one.
    """
    try:
        hold_answer(twin.tensors(case.network, case.inputs), program, dram)
    except NotBitExact as error:
        raise Differs(str(error)) from None


def _summary(case: Case, program: Program, whole: roofline.Work, run: CoreRun | None) -> list[str]:
    config = case.design.hardware
    lines = [
        f"question {case.question['index']} of validation; {case.data}",
        f"{len(program.commands):,} commands; they cannot take fewer than "
        f"{whole.roof_cycles:,} cycles, and no program of this model on this core fewer than "
        f"{whole.least_cycles(config):,}",
        f"{whole.dram_bytes:,} bytes of DRAM traffic; {whole.least_bytes:,} have to be moved",
    ]
    if run is not None:
        assert program.logits is not None
        answered = token(program, np.frombuffer(run.dram, np.uint8))
        lines.append(
            f"token {answered} and {program.logits.channels} logits on the RTL equal the integer "
            f"model's; {run.total_cycles:,} cycles, DRAM latency {Dram().latency_cycles}"
        )
    return lines


def _manifest(
    case: Case, program: Program, files: Mapping[str, bytes], run: CoreRun | None
) -> dict[str, Any]:
    versions = {"python": platform.python_version()} | {name: version(name) for name in TOOLS}
    checked = None
    if run is not None:
        versions |= verilator.versions()
        checked = {
            "token": token(program, np.frombuffer(run.dram, np.uint8)),
            "cycles": run.total_cycles,
            "dram": Dram().model_dump(),
        }
    command = f"dovetail compile DESIGN.json -o DIR --question {case.question['index']}"
    return {
        "design": case.design.model_dump(mode="json"),
        "design_id": case.design.id,
        "command": command + (" --check" if run else ""),
        "versions": versions,
        "code_sha256": cache.code_sha256(),
        "data": case.data,
        "data_sha256": dict(case.data_sha256),
        "question": dict(case.question),
        "formats": FORMATS,
        "commands": len(program.commands),
        "commands_of": dict(sorted(Counter(map(queue_of, program.commands)).items())),
        "top_module": TOP,
        "dram_bytes": len(program.dram),
        "inputs": [_input(brought) for brought in program.inputs],
        "results": _results(case, program),
        "check": checked,
        "files": {
            name: {"bytes": len(content), "sha256": cache.sha256(content)}
            for name, content in files.items()
        },
    }


def _input(brought: Brought) -> dict[str, Any]:
    layout = brought.layout
    return {
        "name": brought.name,
        "source": brought.source,
        "tokens": layout.tokens,
        "channels": layout.channels,
        "rows": layout.rows,
        "dram_addresses": list(brought.dram_addresses),
    }


def _results(case: Case, program: Program) -> dict[str, Any] | None:
    logits = program.logits
    if logits is None:
        return None
    return {
        "logits": {
            "dram_address": logits.dram_address,
            "channels": logits.channels,
            "lane": logits.lane,
            "nats_per_step": case.network.logit_scale,
        },
        "token": {"dram_address": logits.token_address, "lane": logits.lane},
    }
