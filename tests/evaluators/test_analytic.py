"""Many cores costed at once are each costed as the compiler costs one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from evaluators.analytic import Analytic, block_cycles
from hwlib.config import CoreConfig, MemoryBytes, Side
from swopt.compiler import mapping
from swopt.compiler.host import Inputs
from swopt.compiler.lowering import LoweringError
from swopt.compiler.memory_map import place
from swopt.compiler.network import Network
from swopt.workloads.blocks import deit_tiny_block
from tests.swopt.plain_network import few_bit_weights, narrowed, tiny_inputs, tiny_model

BLOCKS = (32, 80)
"""Keys of a block of the online softmax: of 77, some or all."""


def random_configs(count: int, seed: int) -> list[CoreConfig]:
    """Lawful cores, every knob drawn that the cost knows of."""
    rng = np.random.default_rng(seed)
    sides, sizes = get_args(Side), get_args(MemoryBytes)
    configs: list[CoreConfig] = []
    while len(configs) < count:
        rows, columns = (int(side) for side in rng.choice(sides, 2))
        if max(rows, columns) <= 4 * min(rows, columns):
            configs.append(
                CoreConfig(
                    rows=rows,
                    columns=columns,
                    activation_bytes=int(rng.choice(sizes)),
                    weight_bytes=int(rng.choice(sizes)),
                    dma_bytes=int(rng.choice([4, 8, 16, 32])),
                    composable=bool(rng.integers(2)),
                    mac_stages=int(rng.choice([2, 3])),
                )
            )
    return configs


def one_by_one(
    network: Network, inputs: Inputs, config: CoreConfig, attention_block: int
) -> float | str:
    """Cycles as the compiler chooses and costs passes, or its refusal."""
    model = replace(network, attention_block=attention_block)
    try:
        placed = place(model, inputs, config.rows)
        passes = mapping.choose(model, placed, config)
    except LoweringError as error:
        return str(error)
    return mapping.estimate(model, placed, config, passes)


def assert_equal_one_by_one(
    network: Network, inputs: Inputs, configs: Sequence[CoreConfig], blocks: Sequence[int]
) -> int:
    """Design by design; how many are refused."""
    analytic = Analytic(network, inputs)
    cycles = analytic.cycles(configs, blocks)
    for config, block, found in zip(configs, blocks, cycles, strict=True):
        expected = one_by_one(network, inputs, config, block)
        if isinstance(expected, str):
            assert found == np.inf, expected
        else:
            assert found == pytest.approx(expected, rel=1e-12)
    return int(np.isinf(cycles).sum())


def test_a_block_on_random_cores_costs_what_the_compiler_says_of_each() -> None:
    network, inputs = deit_tiny_block(0, tokens=77)
    configs = random_configs(200, seed=1)
    blocks = [int(block) for block in np.random.default_rng(2).choice(BLOCKS, 200)]
    refused = assert_equal_one_by_one(network, inputs, configs, blocks)
    assert 20 < refused < 180


@pytest.mark.parametrize("narrow", [False, True])
def test_every_operator_on_random_cores_costs_what_the_compiler_says(narrow: bool) -> None:
    """Pixel shuffle refuses some rows; 4-bit activations refuse elements that are not composed."""
    network = narrowed(few_bit_weights(tiny_model(3))) if narrow else tiny_model(3)
    configs = random_configs(60, seed=3 + narrow)
    refused = assert_equal_one_by_one(network, tiny_inputs(3, 9), configs, [8] * 60)
    assert 0 < refused < 60


def test_the_order_of_designs_does_not_matter() -> None:
    network, inputs = tiny_model(0), tiny_inputs(0, 9)
    configs = random_configs(50, seed=5)
    there = block_cycles(network, inputs, configs)
    np.testing.assert_array_equal(there, block_cycles(network, inputs, configs[::-1])[::-1])


def test_a_design_that_does_not_fit_is_refused_in_the_compilers_words() -> None:
    network, inputs = tiny_model(0), tiny_inputs(0, 90)
    small = CoreConfig(rows=16, columns=16, activation_bytes=8192)
    analytic = Analytic(network, inputs)
    assert analytic.cycles([small]) == [np.inf]
    with pytest.raises(LoweringError, match="use a larger activation memory"):
        analytic.mapping(small)
