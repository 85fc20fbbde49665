"""An encoder block of DeiT-tiny's shape on the RTL of a 16 x 16 core, at 8 and 4 bits.

    python benchmarks/deit_block.py

197 tokens, 192 channels, 3 heads, MLP of 768, drawn weights; 256 KiB of scratchpad (activations and
weights together), DRAM of 16 bytes a cycle. For each precision: the cycles of the whole block on
the netlist in Verilator, and of its linear layers alone (the output layer reads the queries). Each
tensor of a run that stores them all is compared with the integer model's. Prints Markdown.
"""

import argparse
import platform
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version

import numpy as np

from evaluators import cache
from evaluators.silicon.simulation import Dram, simulate_core
from hwlib.config import CoreConfig
from hwlib.elaborate import elaborate_core
from swopt.compiler import network as net
from swopt.compiler import twin
from swopt.compiler.host import Inputs
from swopt.compiler.program import lower, unpack
from swopt.workloads.blocks import deit_tiny, integer_block

CORE = CoreConfig(
    rows=16,
    columns=16,
    activation_bytes=229376,
    activation_banks=8,
    weight_bytes=32768,
    dma_bytes=16,
    queue_depth=16,
)
"""224 + 32 KiB of scratchpad."""

ATTENTION_BLOCK = 208
"""Keys of one block of the online softmax: all, so that nothing is rescaled."""

PLANS: Mapping[str, tuple[bool, dict[str, int]]] = {
    "w8a8": (False, {}),
    "w4a8": (True, {"weight_bits": 4}),
    "w4a4": (True, {"weight_bits": 4, "activation_bits": 4}),
}
"""Composable elements or not, and bits; what attention multiplies has 8 bits always."""


def main() -> None:
    """Prints the table."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    tools = ", ".join(f"{name} {version(name)}" for name in ("torch", "amaranth", "verilator"))
    print(f"{CORE.rows} x {CORE.columns}, {tools}, {platform.machine()}\n")
    print("| precision | cycles | useful products a cycle and element | faster | ", end="")
    print("linear layers alone, cycles | faster | tensors equal |")
    print("|---|---|---|---|---|---|---|")
    baseline: tuple[int, int] | None = None
    block = deit_tiny(seed=0)
    for name, (composable, bits) in PLANS.items():
        config = CORE.model_copy(update={"composable": composable})
        made = integer_block(block, attention_block=ATTENTION_BLOCK, **bits)  # type: ignore[arg-type]
        netlist = elaborate_core(config)
        whole = cycles_of(made.network, made.inputs, config, netlist)
        linear = cycles_of(linear_layers(made.network), made.inputs, config, netlist)
        equal = compare(made.network, made.inputs, config, netlist)
        baseline = baseline or (whole, linear)
        used = products(made.network, len(made.inputs.words)) / whole / CORE.rows / CORE.columns
        print(
            f"| {name} | {whole:,} | {used:.3f} | {baseline[0] / whole:.2f} | {linear:,} | "
            f"{baseline[1] / linear:.2f} | {equal} |"
        )


def products(network: net.Network, tokens: int) -> int:
    """Products that the block's layers and its attention need, without padding."""
    count = 0
    for operator in network.operators:
        if isinstance(operator, net.Linear):
            count += tokens * operator.weight.size
        if isinstance(operator, net.Attention):
            count += 2 * tokens * tokens * operator.heads * operator.head_dim
    return count


def linear_layers(network: net.Network) -> net.Network:
    """The block without attention: its output layer reads what the queries' layer reads."""
    attention = next(op for op in network.operators if isinstance(op, net.Attention))
    operators: list[net.Operator] = []
    for operator in network.operators:
        if isinstance(operator, net.Linear):
            query = next(op for op in network.operators if op.y == attention.q)
            assert isinstance(query, net.Linear)
            x = query.x if operator.x == attention.y else operator.x
            operators.append(replace(operator, x=x, across=False))
        elif not isinstance(operator, net.Attention):
            operators.append(operator)
    return replace(network, operators=tuple(operators))


def cycles_of(network: net.Network, inputs: Inputs, config: CoreConfig, netlist: str) -> int:
    """Cycles on the netlist, from the first command to the last one's end."""
    program = lower(network, inputs, config)
    simulators = cache.root() / "simulators"
    run = simulate_core(netlist, program.commands, program.dram, config, simulators, Dram())
    return run.total_cycles


def compare(network: net.Network, inputs: Inputs, config: CoreConfig, netlist: str) -> int:
    """How many tensors were compared, all equal.

    Raises:
        AssertionError: One on the RTL is not the integer model's.
    """
    program = lower(network, inputs, config, trace=True)
    simulators = cache.root() / "simulators"
    run = simulate_core(netlist, program.commands, program.dram, config, simulators, Dram())
    found = unpack(program, np.frombuffer(run.dram, np.uint8))
    expected = twin.tensors(network, inputs)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert np.array_equal(tensor, expected[name]), f"{name} differs"
    return len(found)


if __name__ == "__main__":
    main()
