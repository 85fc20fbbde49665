"""Joins what `core_side.py` and `peer_side.py` wrote into Markdown.

    python benchmarks/peers/table.py core.json peers.json

An error is a tool's cycles over the RTL's, less one. The block's cycles of zigzag and scalesim are
sums over its GEMMs, as neither has norms, softmax or GELU; so are their seconds, each shape once.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from gemms import DEIT_TINY_BLOCK, name_of

BLOCK = "DeiT-tiny block"


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("core", type=Path, help="JSON of core_side.py")
    parser.add_argument("peers", type=Path, help="JSON of peer_side.py")
    chosen = parser.parse_args()
    core, peers = (json.loads(file.read_text("utf-8")) for file in (chosen.core, chosen.peers))
    for side in (core, peers):
        tools = ", ".join(f"{name} {number}" for name, number in side["tools"].items())
        print(f"{tools}; Python {side['python']}, {side['machine']}")
    peers["workloads"][BLOCK] = block_of(peers["workloads"])
    tools = list(peers["workloads"][BLOCK])
    print_cycles(core["workloads"], peers["workloads"], tools)
    print_seconds(core["workloads"], peers["workloads"], tools)
    print("\n| speed of our analytic model on the block | |\n|---|---|")
    for name, value in core["speed"].items():
        print(f"| {name.replace('_', ' ')} | {value:,.{0 if value >= 100 else 1}f} |")


def block_of(workloads: dict[str, Any]) -> dict[str, dict[str, float]]:
    """What each tool says of the block's GEMMs together."""
    names = {name_of(gemm): times for gemm, times in DEIT_TINY_BLOCK.items()}
    block = {}
    for tool in workloads[next(iter(names))]:
        mine = {name: workloads[name][tool] for name in names}
        block[tool] = {
            "cycles": sum(times * mine[name]["cycles"] for name, times in names.items()),
            "seconds": sum(each["seconds"] for each in mine.values()),
        }
    return block


def print_cycles(core: dict[str, Any], peers: dict[str, Any], tools: list[str]) -> None:
    """Cycles, and errors against the RTL; the least error is bold."""
    print(f"\n| workload | RTL | ours | {' | '.join(tools)} |")
    print("|---" * (3 + len(tools)) + "|")
    errors: dict[str, list[float]] = {tool: [] for tool in ("ours", *tools)}
    for name, mine in core.items():
        said = {"ours": mine["ours"]} | {tool: peers[name][tool]["cycles"] for tool in tools}
        error = {tool: cycles / mine["rtl"] - 1 for tool, cycles in said.items() if cycles}
        least = min(map(abs, error.values()))
        cells = []
        for tool, cycles in said.items():
            if cycles is None:
                cells.append("not finished")
                continue
            cell = f"{cycles:,.0f} ({100 * error[tool]:+.1f} %)"
            cells.append(f"**{cell}**" if abs(error[tool]) == least else cell)
            if name != BLOCK:
                errors[tool].append(abs(error[tool]))
        print(f"| {name} | {mine['rtl']:,} | {' | '.join(cells)} |")
    means = [
        f"{100 * sum(each) / len(each):.1f} %" + f" of {len(each)}" * (len(each) < len(core) - 1)
        for each in errors.values()
    ]
    print(f"| mean absolute error of the GEMMs | | {' | '.join(means)} |")


def print_seconds(core: dict[str, Any], peers: dict[str, Any], tools: list[str]) -> None:
    """CPU seconds of one evaluation, or of what was given up."""
    print(f"\n| workload | ours, s | {' | '.join(f'{tool}, s' for tool in tools)} |")
    print("|---" * (2 + len(tools)) + "|")
    for name, mine in core.items():
        seconds = [mine["seconds"], *(peers[name][tool]["seconds"] for tool in tools)]
        print(f"| {name} | {' | '.join(f'{each:.2g}' for each in seconds)} |")


if __name__ == "__main__":
    main()
