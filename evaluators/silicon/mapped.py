"""A netlist that is already mapped: structural Verilog of library cells, read by Yosys."""

import json
import math
import tempfile
from pathlib import Path

from evaluators.silicon.liberty import Library
from evaluators.silicon.synthesis import (
    MappedModule,
    MappedPort,
    Synthesis,
    SynthesisError,
    grouped,
)
from evaluators.silicon.yosys import YosysError, run_yosys


def read_mapped(
    verilog: str, top: str, library: Library, liberty: Path, temporary: Path
) -> Synthesis:
    """One flat module of library cells, as `synthesize` would give it.

    Args:
        verilog: the netlist.
        top: name of the module.
        library: the parsed library.
        liberty: the Liberty file that `library` was read from.
        temporary: where Yosys puts temporary files.

    Raises:
        SynthesisError: Yosys cannot read it, or a cell is unknown to the library.
    """
    with tempfile.TemporaryDirectory(prefix="dovetail-read-") as folder:
        directory = Path(folder)
        (directory / "netlist.v").write_text(verilog)
        commands = [
            f"read_liberty -lib {liberty.resolve()}",
            "read_verilog netlist.v",
            f"hierarchy -check -top {top}",
            f"check -assert {top}",
            f"select {top}",
            "write_json -selected netlist.json",
        ]
        try:
            run_yosys(commands, directory, temporary, deadline_s=120.0)
            netlist = json.loads((directory / "netlist.json").read_bytes())["modules"][top]
        except YosysError as error:
            raise SynthesisError(f"reading {top} failed: {error}") from error
    cells = sorted((name, c["type"], c["connections"]) for name, c in netlist["cells"].items())
    for name, kind, _ in cells:
        if kind not in library.cells:
            raise SynthesisError(
                f"{top}: cell {name} is a {kind}, which library {library.name} does not know"
            )
    kinds = [library.cells[kind] for _, kind, _ in cells]
    module = MappedModule(
        name=top,
        ports=tuple(
            MappedPort(name=name, direction=port["direction"], bits=port["bits"])
            for name, port in netlist["ports"].items()
        ),
        cell_names=tuple(name for name, _, _ in cells),
        groups=grouped((kind, connections) for _, kind, connections in cells),
        instances=(),
        area_um2=math.fsum(kind.area_um2 for kind in kinds),
        leakage_w=math.fsum(kind.leakage_w for kind in kinds),
    )
    return Synthesis(
        top=top,
        modules={top: module},
        macros={},
        counts={top: 1},
        area_by_module_um2={top: module.area_um2},
        cell_area_um2=module.area_um2,
        leakage_w=module.leakage_w,
    )
