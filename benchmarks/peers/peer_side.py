"""What zigzag-dse and scalesim say of the same GEMMs; runs in their environment, not in ours.

    python -m venv ~/.cache/dovetail/peers
    ~/.cache/dovetail/peers/bin/pip install -r benchmarks/peers/requirements.txt
    ~/.cache/dovetail/peers/bin/python benchmarks/peers/peer_side.py --out peers.json

zigzag: `zigzag_core.yaml`, rows unrolled over tokens and columns over output channels, temporal
mappings searched by LOMA for least latency with its defaults; cycles are `latency_total2`, with
loading and offloading. scalesim: `scalesim_core.cfg`, output stationary, twice: with its bandwidth
("Total Cycles (incl. prefetch)"), and with bandwidth as it takes, so without stalls ("Total
Cycles"). Times are CPU seconds of one evaluation each; one that exceeds the limit is given up.
"""

import argparse
import contextlib
import csv
import io
import json
import logging
import platform
import signal
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

from gemms import GEMMS, name_of
from scalesim.scale_sim import scalesim
from zigzag.api import get_hardware_performance_zigzag

HERE = Path(__file__).parent

Gemm = tuple[int, int, int]
"""Tokens, inputs, outputs."""


def main() -> None:
    """Writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    parser.add_argument("--limit", type=float, default=60, help="CPU seconds of an evaluation")
    chosen = parser.parse_args()
    logging.disable(logging.INFO)
    signal.signal(signal.SIGPROF, give_up)
    tools: dict[str, Callable[[Gemm, Path], int]] = {
        "zigzag-dse": zigzag_cycles,
        "scalesim": partial(scalesim_cycles, "USER", "Total Cycles (incl. prefetch)"),
        "scalesim without stalls": partial(scalesim_cycles, "CALC", "Total Cycles"),
    }
    workloads: dict[str, dict[str, dict[str, float | None]]] = {}
    for gemm in GEMMS:
        workloads[name_of(gemm)] = {
            tool: evaluate(cycles_of, gemm, chosen.limit) for tool, cycles_of in tools.items()
        }
        print(name_of(gemm), workloads[name_of(gemm)], flush=True)
    result = {
        "tools": {name: version(name) for name in ("zigzag-dse", "scalesim", "numpy")},
        "machine": platform.machine(),
        "python": platform.python_version(),
        "workloads": workloads,
    }
    chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def give_up(*_: object) -> None:
    """Ends an evaluation."""
    raise TimeoutError


def evaluate(
    cycles_of: Callable[[Gemm, Path], int], gemm: Gemm, limit: float
) -> dict[str, float | None]:
    """Cycles and CPU seconds; cycles are None where the limit was reached."""
    cycles, start = None, time.process_time()
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.suppress(TimeoutError),
    ):
        signal.setitimer(signal.ITIMER_PROF, limit)
        cycles = cycles_of(gemm, Path(folder))
    signal.setitimer(signal.ITIMER_PROF, 0)
    return {"cycles": cycles, "seconds": time.process_time() - start}


def zigzag_cycles(gemm: Gemm, folder: Path) -> int:
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
    return round(latency)


def scalesim_cycles(bandwidth: str, column: str, gemm: Gemm, folder: Path) -> int:
    """A column of scalesim's report, with the bandwidth given (USER) or as it takes (CALC)."""
    tokens, inputs, outputs = gemm
    topology, layout, config = (folder / name for name in ("gemm.csv", "layout.csv", "core.cfg"))
    given = (HERE / "scalesim_core.cfg").read_text(encoding="utf-8")
    config.write_text(given.replace("= USER", f"= {bandwidth}"), encoding="utf-8")
    topology.write_text(f"Layer,M,N,K,\ngemm,{tokens},{outputs},{inputs},\n", encoding="utf-8")
    # Read but without effect, as the core's memories have no custom layout.
    ones = ",".join(["1"] * 20)
    layout.write_text(f"Layer,{ones},\ngemm,{ones},\n", encoding="utf-8")
    simulator = scalesim(
        save_disk_space=True,
        verbose=False,
        config=str(config),
        topology=str(topology),
        layout=str(layout),
        input_type_gemm=True,
    )
    simulator.run_scale(top_path=str(folder))
    with (folder / "core" / "COMPUTE_REPORT.csv").open(encoding="utf-8", newline="") as report:
        row = next(csv.DictReader(report, skipinitialspace=True))
    return round(float(row[column]))


if __name__ == "__main__":
    main()
