"""Cycles of GEMMs and of a DeiT-tiny block on our core: RTL, and what our analytic model says.

    python benchmarks/peers/core_side.py --out core.json

A GEMM begins and ends in DRAM, as zigzag and scalesim count it: int8 activations, int8 weights and
channel entries come in, int8 results go out. Its program keeps all activations in the memory and
streams the tiles of weights past them, as `swopt.compiler` does within a pass; its results on the
netlist in Verilator are compared with numpy's. The block is a program of `swopt.compiler.program`.
Also times the batch of `evaluators.analytic`. Needs g++; times are CPU seconds of one core.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import numpy as np
from gemms import GEMMS, name_of

from evaluators import cache
from evaluators.analytic import Analytic
from evaluators.silicon.simulation import Dram, simulate_core
from hwlib.commands import AnyCommand, Load, Matmul, Store, Waits
from hwlib.config import CoreConfig
from hwlib.elaborate import elaborate_core
from swopt.compiler import costs, mapping
from swopt.compiler import network as net
from swopt.compiler.memory_map import Layout, Placed, place
from swopt.compiler.passes import Pass
from swopt.compiler.program import lower
from swopt.workloads.blocks import deit_tiny, integer_block
from tests.evaluators.test_analytic import random_configs

CORE = CoreConfig(
    rows=16,
    columns=16,
    activation_bytes=229376,
    activation_banks=8,
    weight_bytes=32768,
    dma_bytes=16,
    queue_depth=16,
)
"""That of `benchmarks/deit_block.py`: 224 + 32 KiB of scratchpad."""

ATTENTION_BLOCK = 208
"""Keys of one block of the online softmax: all 197."""

ENTRY_TILES = 8
"""Tiles whose channel entries are loaded, and whose results are stored, together."""

T = TypeVar("T")


def main() -> None:
    """Writes the JSON and prints the speed of the analytic model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON to write")
    parser.add_argument("--designs", type=int, default=10_000, help="of the batch")
    chosen = parser.parse_args()
    netlist = elaborate_core(CORE)
    workloads = {}
    for gemm in GEMMS:
        cycles = measured(gemm, netlist)
        layer = layer_of(gemm)
        seconds, estimate = timed(lambda gemm=gemm, layer=layer: estimated(gemm, layer))
        workloads[name_of(gemm)] = {"rtl": cycles, "ours": estimate, "seconds": seconds}
        print(name_of(gemm), workloads[name_of(gemm)], flush=True)
    block, speed = deit_block(netlist, chosen.designs)
    workloads["DeiT-tiny block"] = block
    tools = {name: version(name) for name in ("amaranth", "verilator", "numpy")}
    result = {
        "tools": tools,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "workloads": workloads,
        "speed": speed,
    }
    chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(block, speed)


def timed(call: Callable[[], T], times: int = 5) -> tuple[float, T]:
    """The least CPU seconds of some calls, and what one gave."""
    best, result = float("inf"), None
    for _ in range(times):
        start = time.process_time()
        result = call()
        best = min(best, time.process_time() - start)
    assert result is not None
    return best, result


def layer_of(gemm: tuple[int, int, int], seed: int = 0) -> net.Linear:
    """A linear layer of random integers whose results fill int8."""
    _, inputs, outputs = gemm
    rng = np.random.default_rng(seed)
    spread = 73 * 73 * inputs**0.5
    return net.Linear(
        name="layer",
        x="x",
        y="y",
        weight=rng.integers(-127, 128, (outputs, inputs)).astype(np.int8),
        bias=rng.integers(-1000, 1000, outputs).astype(np.int32),
        multiplier=rng.integers(1 << 14, 1 << 15, outputs),
        shift=np.full(outputs, round(np.log2(spread / 60)) + 15),
        zero=3,
        output="int8",
        weight_bits=8,
    )


def estimated(gemm: tuple[int, int, int], layer: net.Linear) -> float:
    """Cycles by `swopt.compiler.costs`, in one block, with the activations' way in."""
    (tokens, inputs, outputs), rows = gemm, CORE.rows
    x, y = (Layout("int8", tokens, channels, rows) for channels in (inputs, outputs))
    network = net.Network((layer,), ATTENTION_BLOCK, CORE.exponential_entries)
    taken = Pass(0, 1, y.groups)
    cost = costs.of(network, taken, {"x": Placed(x, "x"), "y": Placed(y, "y")}, CORE)
    cost.once_bytes += x.words * 2 * rows
    return cost.cycles(CORE, taken.groups, taken.ways)


def measured(gemm: tuple[int, int, int], netlist: str) -> int:
    """Cycles on the netlist from the first command to the last one's end.

    Raises:
        AssertionError: What it stored is not what numpy computes.
    """
    tokens, inputs, outputs = gemm
    layer = layer_of(gemm)
    x = np.random.default_rng(1).integers(-128, 128, (tokens, inputs)).astype(np.int8)
    commands, dram, stored = gemm_program(layer, x)
    simulators = cache.root() / "simulators"
    run = simulate_core(netlist, commands, dram, CORE, simulators, Dram())
    y = Layout("int8", tokens, outputs, CORE.rows)
    words = np.zeros((y.words, y.rows), np.int16)
    found = np.frombuffer(run.dram, np.uint8)
    for word, count, address in stored:
        piece = found[address : address + 2 * y.rows * count].view("<i2")
        words[word : word + count] = piece.reshape(count, y.rows)
    sums = x.astype(np.int64) @ layer.weight.T.astype(np.int64) + layer.bias
    scaled = (sums * layer.multiplier + (1 << (layer.shift - 1))) >> layer.shift
    expected = np.clip(scaled + layer.zero, -128, 127)
    assert np.array_equal(y.unpack(words), expected), f"{name_of(gemm)} differs"
    return run.total_cycles


def gemm_program(
    layer: net.Linear, x: np.ndarray
) -> tuple[list[AnyCommand], np.ndarray, list[tuple[int, int, int]]]:
    """Commands, bytes of DRAM, and each piece of the result: first word, words, DRAM address."""
    return _GemmProgram(layer, x).made()


class _GemmProgram:
    """Tile after tile of weights past all token groups; the next tiles' loads go before."""

    def __init__(self, layer: net.Linear, x: np.ndarray) -> None:
        self.layer, self.x = layer, x
        outputs, inputs = layer.weight.shape
        self.rows, self.width = CORE.rows, CORE.columns
        self.x_layout = Layout("int8", len(x), inputs, self.rows)
        self.y_layout = Layout("int8", len(x), outputs, self.rows)
        self.groups = self.x_layout.groups
        self.depth = self.x_layout.group_words
        self.tiles = -(-outputs // self.width)
        self.slots = min(CORE.weight_words // self.depth, self.tiles)
        self.commands: list[AnyCommand] = []
        self.dram = bytearray()
        self.stored: list[tuple[int, int, int]] = []
        self.loads = 0
        self.loaded: dict[object, int] = {}

    def made(self) -> tuple[list[AnyCommand], np.ndarray, list[tuple[int, int, int]]]:
        """All of it."""
        ahead = min(self.slots - 1, 3)
        for tile in range(min(ahead, self.tiles)):
            self._weights(tile)
        for tile in range(self.tiles):
            if tile + ahead < self.tiles:
                self._weights(tile + ahead)
            for group in range(self.groups):
                if tile == 0:
                    self._activations(group)
                self._product(tile, group)
            if (tile + 1) % ENTRY_TILES == 0 or tile + 1 == self.tiles:
                self._results(tile // ENTRY_TILES * ENTRY_TILES, tile + 1)
        return self.commands, np.frombuffer(bytes(self.dram), np.uint8), self.stored

    def _reserve(self, data: bytes) -> int:
        """Puts bytes into DRAM, in whole beats; the first one's address."""
        at = len(self.dram)
        self.dram += data + bytes(-len(data) % CORE.dma_bytes)
        return at

    def _load(self, key: object, data: bytes, **fields: object) -> None:
        address = self._reserve(data)
        self.commands.append(Load(dram_address=address, **fields))  # type: ignore[arg-type]
        self.loads += 1
        self.loaded[key] = self.loads

    def _activations(self, group: int) -> None:
        mine = self.x[group * self.rows : (group + 1) * self.rows]
        words = Layout("int8", len(mine), mine.shape[1], self.rows).pack(mine)
        self._load(
            ("x", group),
            words.astype("<i2").tobytes(),
            target="activations",
            address=group * self.depth,
            words=self.depth,
        )

    def _weights(self, tile: int) -> None:
        first = tile * self.width
        rows = self.layer.weight[first : first + self.width]
        spare = ((0, self.width - len(rows)), (0, 2 * self.depth - rows.shape[1]))
        words = np.pad(rows, spare).reshape(self.width, self.depth, 2).transpose(1, 0, 2)
        before = (tile - self.slots + 1) * self.groups
        self._load(
            ("weights", tile),
            np.ascontiguousarray(words).tobytes(),
            target="weights",
            address=tile % self.slots * self.depth,
            words=self.depth,
            waits=Waits(matmul=before) if before > 0 else Waits(),
        )
        if tile % ENTRY_TILES == 0:
            self._entries(tile)

    def _entries(self, tile: int) -> None:
        """Those of some tiles, in one of the two halves of what they take of the table."""
        span = ENTRY_TILES * self.width
        start = tile * self.width
        end = min(start + span, len(self.layer.bias))
        entries = np.zeros(end - start, [("bias", "<i4"), ("multiplier", "<u2"), ("shift", "<u2")])
        for field in ("bias", "multiplier", "shift"):
            entries[field] = getattr(self.layer, field)[start:end]
        before = (tile - ENTRY_TILES) * self.groups
        self._load(
            ("entries", tile // ENTRY_TILES),
            entries.tobytes(),
            target="matmul_channels",
            address=start % (2 * span),
            words=end - start,
            waits=Waits(matmul=before) if before > 0 else Waits(),
        )

    def _product(self, tile: int, group: int) -> None:
        outputs, first = len(self.layer.bias), tile * self.width
        needed = (("weights", tile), ("entries", tile // ENTRY_TILES), ("x", group))
        self.commands.append(
            Matmul(
                activation_address=group * self.depth,
                weight_address=tile % self.slots * self.depth,
                depth=self.depth,
                columns=min(self.width, outputs - first),
                channel=first % (2 * ENTRY_TILES * self.width),
                output="int8",
                out=self._result_address(group) + first // 2,
                zero_point=self.layer.zero,
                waits=Waits(load=max(self.loaded[key] for key in needed)),
            )
        )

    def _result_address(self, group: int) -> int:
        return self.x_layout.words + group * self.y_layout.group_words

    def _results(self, start: int, end: int) -> None:
        """Stores what some tiles made, group by group."""
        first = start * self.width // 2
        words = min(end * self.width // 2, self.y_layout.group_words) - first
        done = (end - 1) * self.groups
        for group in range(self.groups):
            address = self._reserve(bytes(2 * self.rows * words))
            self.stored.append((group * self.y_layout.group_words + first, words, address))
            self.commands.append(
                Store(
                    address=self._result_address(group) + first,
                    words=words,
                    dram_address=address,
                    waits=Waits(matmul=done + group + 1),
                )
            )


def deit_block(netlist: str, designs: int) -> tuple[dict[str, float], dict[str, float]]:
    """The block as a whole, and the speed of the analytic model on it."""
    made = integer_block(deit_tiny(seed=0), attention_block=ATTENTION_BLOCK)
    program = lower(made.network, made.inputs, CORE)
    simulators = cache.root() / "simulators"
    run = simulate_core(netlist, program.commands, program.dram, CORE, simulators, Dram())

    def cost() -> float:
        placed = place(made.network, made.inputs, CORE.rows)
        passes = mapping.choose(made.network, placed, CORE)
        return mapping.estimate(made.network, placed, CORE, passes)

    one, estimate = timed(cost)
    configs = random_configs(designs, seed=0)
    analytic = Analytic(made.network, made.inputs)
    start = time.process_time()
    cycles = analytic.cycles(configs)
    cold = time.process_time() - start
    again, _ = timed(lambda: analytic.cycles(configs))
    speed = {
        "designs": designs,
        "designs_that_fit": int(np.isfinite(cycles).sum()),
        "designs_per_second": designs / cold,
        "designs_per_second_of_known_shapes": designs / again,
        "one_design_with_mapping_ms": 1e3 * one,
    }
    return {"rtl": run.total_cycles, "ours": estimate, "seconds": one}, speed


if __name__ == "__main__":
    main()
