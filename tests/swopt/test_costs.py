"""The cost of a pass in blocks, by hand and for arrays; and the passes that are chosen by it."""

import numpy as np
import pytest

from hwlib.config import CoreConfig
from hwlib.timeline import timeline
from swopt.compiler.costs import Cost, Phase
from swopt.compiler.host import Inputs
from swopt.compiler.integer_model import integer_model
from swopt.compiler.mapping import alternatives
from swopt.compiler.memory_map import place
from swopt.compiler.network import Network
from swopt.compiler.program import Program, lower
from swopt.compiler.schedule import DRAM
from swopt.plan import CompressionPlan
from swopt.techniques.quantization import QuantizationKnobs
from swopt.workloads.workload import Workload

CORE = CoreConfig(rows=8, columns=8, weight_bytes=16384, dma_bytes=8)
"""1024 words of weights."""


def greatest(*cycles: float) -> float:
    return float(np.linalg.norm(cycles, 6))


def test_weights_that_do_not_stay_are_loaded_once_a_block() -> None:
    stay = Cost(groups=10, block_bytes=800, block_beats=7, once_bytes=80, weight_words=1024)
    assert stay.cycles(CORE, 4, 1) == pytest.approx(10 + 100 + 7)
    stay.weight_words += 1
    assert stay.cycles(CORE, 4, 1) == pytest.approx(10 + 3 * (100 + 7))


def test_a_layer_of_whose_tiles_one_fits_is_waited_for() -> None:
    cost = Cost(groups=10, block_bytes=800, layers=[(512, 400), (513, 400)])
    assert cost.cycles(CORE, 10, 1) == pytest.approx(100 + 50)


def test_a_thread_alone_does_one_step_after_the_other() -> None:
    cost = Cost(10, [Phase(vector=60, thread=60), Phase(array=90, thread=90)])
    assert cost.cycles(CORE, 10, 1) == pytest.approx((150 + greatest(90, 60, 150)) / 2)


@pytest.mark.parametrize(
    "groups, ways, share", [(4, 2, 0.6), (4, 3, 0.4), (3, 2, 0.6), (3, 3, 0.4), (1 << 16, 1, 1.0)]
)
def test_threads_share_the_groups_and_the_first_has_the_most(
    groups: int, ways: int, share: float
) -> None:
    """Ten groups: in fours 4 + 2 and 4, in threes 3 + 3 and 3 + 1 or 3 + 1, 3 and 3."""
    cost = Cost(10, [Phase(vector=60, thread=100)])
    together = max(60, 100 * share)
    expected = (together + greatest(60, 100 * share)) / 2
    assert cost.cycles(CORE, groups, ways) == pytest.approx(expected)


def test_what_begins_a_block_counts_for_each() -> None:
    cost = Cost(10, [Phase(thread=100, begun=7)])
    assert cost.cycles(CORE, 4, 1) == pytest.approx(100 + 3 * 7)


def test_weights_among_the_activations_are_loaded_for_every_block() -> None:
    """Three pieces of 80 beats and two of overhead; 30 cycles a group, in blocks of 4, 4 and 2."""
    cost = Cost(10, exchanged=[(3, 30, 640)])
    array, link = 3 * (120 + 120 + 82), 3 * 3 * 82
    expected = (greatest(array, link, array) + greatest(array, link)) / 2
    assert cost.cycles(CORE, 4, 1) == pytest.approx(expected)


def test_engines_that_are_equally_busy_take_a_little_longer_than_one() -> None:
    link = Cost(1, once_bytes=4000)
    assert link.cycles(CORE, 1, 1) == pytest.approx(500)
    link.exchanged = [(1, 500, 0)]
    assert 500 * 2 ** (1 / 6) < link.cycles(CORE, 1, 1) < 500 * 3 ** (1 / 6)


def test_arrays_cost_what_each_value_costs() -> None:
    phases = [Phase(9000, 8000, 12000, 90), Phase(20, 3000, 3000)]
    cost = Cost(13, phases, [(6, 70, 4096)], 12000, 50, 640, 1500, [(900, 8000)])
    groups, ways, dma_bytes = np.array([1, 4, 13]), np.array([1, 2, 3]), np.array([[4], [16]])
    found = cost.cycles_of(dma_bytes, np.array([[1024], [2048]]), groups, ways)
    expected = [
        [
            cost.cycles(
                CORE.model_copy(update={"dma_bytes": width, "weight_bytes": 16 * capacity}), g, w
            )
            for g, w in zip(groups.tolist(), ways.tolist(), strict=True)
        ]
        for width, capacity in ((4, 1024), (16, 2048))
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


CORES = [
    CoreConfig(rows=rows, columns=columns, dma_bytes=dma_bytes, composable=composable)
    for rows, columns, dma_bytes, composable in (
        (8, 8, 8, False),
        (8, 8, 16, False),
        (8, 8, 8, True),
        (8, 16, 16, False),
        (16, 16, 16, True),
    )
]


@pytest.fixture(scope="module")
def models(workload: Workload) -> list[tuple[Network, Inputs]]:
    """`tiny-vlm` at 8, 4 and 2 bits, with the same question."""
    knobs = [QuantizationKnobs(), QuantizationKnobs(bits=4), QuantizationKnobs(bits=2)]
    made = [integer_model(workload, CompressionPlan(quantization=each)) for each in knobs]
    question = workload.validation().take([0])
    return [(each.network, each.host.inputs(question)[0]) for each in made]


def cycles_of(program: Program) -> int:
    return timeline(program.commands, program.config, DRAM).total_cycles


@pytest.mark.parametrize("config", CORES, ids=str)
def test_fewer_bits_of_weights_take_no_more_cycles(
    models: list[tuple[Network, Inputs]], config: CoreConfig
) -> None:
    """Half a percent is what the order of commands alone may change, in the same passes too."""
    cycles = [cycles_of(lower(network, inputs, config)) for network, inputs in models]
    assert cycles[1] < 1.005 * cycles[0], cycles
    assert cycles[2] < 1.005 * cycles[1], cycles


def test_of_near_estimates_the_fastest_program_is_taken(
    models: list[tuple[Network, Inputs]],
) -> None:
    network, inputs = models[2]
    config = CORES[-1]
    mappings = alternatives(network, place(network, inputs, config.rows), config)
    programs = [lower(network, inputs, config, each) for each in mappings]
    first, *others = map(cycles_of, programs)
    assert min(others) < first
    fastest = min(programs, key=cycles_of)
    assert lower(network, inputs, config).commands == fastest.commands
    assert lower(network, inputs, config, trace=True).mapping == fastest.mapping
