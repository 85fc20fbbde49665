"""Other image sizes and joinings: transformers' own layers, closed forms, and equal integers."""

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from hwlib.config import CoreConfig
from hwlib.reference.core import execute
from swopt.compiler import twin
from swopt.compiler.integer_model import integer_model
from swopt.compiler.program import lower, unpack
from swopt.plan import CompressionPlan
from swopt.techniques.resolution import ResolutionKnobs, apply, worded
from swopt.workloads import image_grid, regridding, tiny_vlm
from swopt.workloads.image_grid import Grid, resized, triangle
from swopt.workloads.regridding import GridConnector, GridEmbeddings
from swopt.workloads.vqa import TASKS, shortest
from swopt.workloads.workload import Workload, load_workload


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    torch.set_num_threads(1)
    return load_workload(tmp_path_factory.mktemp("none"))


def regridded(workload: Workload, **knobs: Any) -> Any:
    model = deepcopy(workload.vlm.model)
    apply(model, ResolutionKnobs(**knobs))
    return model


def test_the_trained_grid_through_our_modules_is_transformers_own(workload: Workload) -> None:
    model = deepcopy(workload.vlm.model)
    regridding.regrid(model, tiny_vlm.TRAINED)
    assert isinstance(model.model.connector, GridConnector)  # type: ignore[union-attr]
    questions = workload.validation().take(list(range(6)))
    ours = tiny_vlm.next_token_logits(workload.vlm.tokenizer, model, questions)
    theirs = tiny_vlm.next_token_logits(workload.vlm.tokenizer, workload.vlm.model, questions)
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_the_default_leaves_the_model_alone(workload: Workload) -> None:
    model = regridded(workload)
    assert not isinstance(model.model.vision_model.embeddings, GridEmbeddings)


def test_larger_rectangles_average_the_trained_connector(workload: Workload) -> None:
    seen = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0))
    trained = deepcopy(workload.vlm.model).model.connector  # type: ignore[union-attr]
    expected = trained(seen).view(2, 4, 4, -1)  # [n, rows, columns, channels]
    model = regridded(workload, joined_columns=4)
    pooled = expected.view(2, 4, 2, 2, -1).mean(3).flatten(1, 2)
    assert torch.allclose(model.model.connector(seen), pooled, atol=1e-5)
    model = regridded(workload, joined_rows=4, joined_columns=4)
    pooled = expected.view(2, 2, 2, 2, 2, -1).mean((2, 4)).flatten(1, 2)
    assert torch.allclose(model.model.connector(seen), pooled, atol=1e-5)


def test_positions_of_half_the_pixels_lie_between_the_trained_ones(workload: Workload) -> None:
    table = regridding.positions_of(workload.vlm.model).view(8, 8, -1)
    halved = regridding.positions_of(regridded(workload, image_height=16)).view(4, 8, -1)
    assert torch.allclose(halved, table.view(4, 2, 8, -1).mean(1), atol=1e-6)


@pytest.mark.parametrize("size", [(24, 32), (16, 16), (16, 24)])
def test_smaller_images_are_torchs_antialiased_ones_to_a_step(size: tuple[int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 3), np.uint8)
    made = resized(images, *size)
    whole = torch.from_numpy(images).permute(0, 3, 1, 2).double()
    whole = functional.pad(whole, (2, 2, 2, 2), mode="reflect")
    expected = functional.interpolate(whole, size, mode="bilinear", antialias=True)
    assert np.abs(made - expected.permute(0, 2, 3, 1).numpy()).max() <= 1
    assert np.array_equal(made[1:2], resized(images[1:2], *size))
    assert all((triangle(n).sum(1) == 1 << image_grid.FRACTION_BITS).all() for n in size)


def test_a_flat_image_stays_flat() -> None:
    for value in (0, 77, 255):
        image = np.full((1, 28, 28, 3), value, np.uint8)
        assert (resized(image, 16, 24) == value).all()


def test_patches_that_do_not_join_are_refused_with_the_law() -> None:
    with pytest.raises(ValidationError, match=r"image_height 24 is 6 patches .* multiple of the 4"):
        ResolutionKnobs(image_height=24, joined_rows=4)


def test_the_knobs_law_is_that_of_the_shipped_model(workload: Workload) -> None:
    from swopt.techniques import resolution

    assert resolution.PATCH == tiny_vlm.PATCH_SIDE
    neutral = ResolutionKnobs()
    assert regridding.grid_of(workload.vlm.model) == Grid(
        neutral.image_height // resolution.PATCH,
        neutral.image_width // resolution.PATCH,
        neutral.joined_rows,
        neutral.joined_columns,
    )


def test_the_shortest_wording_is_one_of_the_same_task(workload: Workload) -> None:
    for tasks in TASKS.values():
        for task in tasks:
            for phrasing in task.phrasings:
                found = shortest(phrasing)
                assert found in task.phrasings
                assert len(found.split()) == min(len(each.split()) for each in task.phrasings)
    assert shortest("what is this ?") == "what is this ?"
    questions = workload.validation()
    assert worded(questions, ResolutionKnobs()) is questions
    short = worded(questions, ResolutionKnobs(wording="shortest"))
    assert sum(map(len, short.texts)) < 0.8 * sum(map(len, questions.texts))


@pytest.mark.parametrize(
    ("rows", "knobs"),
    [
        (8, {"image_width": 16}),
        (8, {"joined_columns": 4, "wording": "shortest"}),
        (4, {"image_height": 16, "image_width": 16}),
    ],
)
def test_the_core_computes_what_the_integer_model_does(
    workload: Workload, rows: int, knobs: dict[str, Any]
) -> None:
    plan = CompressionPlan(resolution=ResolutionKnobs(**knobs))
    model = integer_model(workload, plan)
    question = workload.validation().take([4])
    (inputs,) = model.host.inputs(question)
    expected = twin.tensors(model.network, inputs)
    program = lower(model.network, inputs, CoreConfig(rows=rows), trace=True)
    found = unpack(program, execute(program.commands, program.dram, CoreConfig(rows=rows)))
    assert len(expected["vision"]) == len(inputs.patches) < 64 or knobs.get("joined_columns")
    for name, tensor in found.items():
        assert np.array_equal(tensor, expected[name]), name
    float_model = regridded(workload, **knobs)
    questions = worded(workload.validation(), plan.resolution)
    nearness = (workload.score(float_model, questions) - model.score(questions)).abs()
    assert float(nearness.median()) < 0.15


def test_a_grid_that_the_rows_do_not_divide_is_refused_in_a_sentence(workload: Workload) -> None:
    model = integer_model(workload, CompressionPlan(resolution=ResolutionKnobs(image_width=24)))
    (inputs,) = model.host.inputs(workload.validation().take([0]))
    with pytest.raises(ValueError, match="multiple of the 8 rows"):
        lower(model.network, inputs, CoreConfig())
