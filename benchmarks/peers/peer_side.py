"""What zigzag-dse and scalesim say of the same GEMMs; runs in their environment, not in ours.

    python -m venv ~/.cache/dovetail/peers
    ~/.cache/dovetail/peers/bin/pip install -r benchmarks/peers/requirements.txt
    ~/.cache/dovetail/peers/bin/python benchmarks/peers/peer_side.py --out peers.json

zigzag: `zigzag_core.yaml`, rows unrolled over tokens and columns over output channels, temporal
mappings searched by LOMA for least latency with its defaults; cycles are `latency_total2`, with
loading and offloading. scalesim: `scalesim_core.cfg`, output stationary, bandwidth as given; cycles
are "Total Cycles (incl. prefetch)", and without stalls "Total Cycles" less "Stall Cycles" of the
same run. Times are CPU seconds of one evaluation each.
"""

import argparse
import contextlib
import csv
import io
import json
import logging
import platform
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from gemms import GEMMS, name_of
from scalesim.scale_sim import scalesim
from zigzag.api import get_hardware_performance_zigzag

HERE = Path(__file__).parent


def main() -> None:
    """Writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    chosen = parser.parse_args()
    logging.disable(logging.INFO)
    tools: tuple[Callable[[tuple[int, int, int], Path], dict[str, int]], ...]
    tools = (zigzag_cycles, scalesim_cycles)
    workloads: dict[str, dict[str, dict[str, float]]] = {}
    for gemm in GEMMS:
        mine = workloads[name_of(gemm)] = {}
        for cycles_of in tools:
            with tempfile.TemporaryDirectory() as folder:
                start = time.process_time()
                with (
                    contextlib.redirect_stdout(io.StringIO()),
                    contextlib.redirect_stderr(io.StringIO()),
                ):
                    found = cycles_of(gemm, Path(folder))
                seconds = time.process_time() - start
                mine |= {said: {"cycles": n, "seconds": seconds} for said, n in found.items()}
        print(name_of(gemm), mine, flush=True)
    result = {
        "tools": {name: version(name) for name in ("zigzag-dse", "scalesim", "numpy")},
        "machine": platform.machine(),
        "python": platform.python_version(),
        "workloads": workloads,
    }
    chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def zigzag_cycles(gemm: tuple[int, int, int], folder: Path) -> dict[str, int]:
    """Latency of the best mapping that zigzag finds."""
    tokens, inputs, outputs = gemm
    layer = {
        "id": 0,
        "operator_type": "Gemm",
        "equation": "O[b][k]+=I[b][c]*W[c][k]",
        "loop_dims": ["B", "K", "C"],
        "loop_sizes": [tokens, outputs, inputs],
        "operand_precision": {"I": 8, "W": 8, "O": 32, "O_final": 8},
    }
    _, latency, _ = get_hardware_performance_zigzag(
        [layer],
        str(HERE / "zigzag_core.yaml"),
        str(HERE / "zigzag_mapping.yaml"),
        opt="latency",
        dump_folder=str(folder),
        loma_show_progress_bar=False,
    )
    return {"zigzag-dse": round(latency)}


def scalesim_cycles(gemm: tuple[int, int, int], folder: Path) -> dict[str, int]:
    """Cycles with prefetch, and without stalls, out of scalesim's report."""
    tokens, inputs, outputs = gemm
    topology, layout = folder / "gemm.csv", folder / "layout.csv"
    topology.write_text(f"Layer,M,N,K,\ngemm,{tokens},{outputs},{inputs},\n", encoding="utf-8")
    # Read but without effect, as the core's memories have no custom layout.
    ones = ",".join(["1"] * 20)
    layout.write_text(f"Layer,{ones},\ngemm,{ones},\n", encoding="utf-8")
    simulator = scalesim(
        save_disk_space=True,
        verbose=False,
        config=str(HERE / "scalesim_core.cfg"),
        topology=str(topology),
        layout=str(layout),
        input_type_gemm=True,
    )
    simulator.run_scale(top_path=str(folder))
    with (folder / "core" / "COMPUTE_REPORT.csv").open(encoding="utf-8", newline="") as report:
        row = next(csv.DictReader(report, skipinitialspace=True))
    stalled = round(float(row["Stall Cycles"]))
    return {
        "scalesim": round(float(row["Total Cycles (incl. prefetch)"])),
        "scalesim without stalls": round(float(row["Total Cycles"])) - stalled,
    }


if __name__ == "__main__":
    main()
