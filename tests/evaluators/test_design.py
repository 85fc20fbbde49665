"""Laws between a design's parts and the model that it is for."""

import pytest

from evaluators.design import DesignPoint, check
from hwlib.config import CoreConfig
from swopt.plan import CompressionPlan
from swopt.techniques.pruning import PruningKnobs
from swopt.techniques.resolution import ResolutionKnobs

LAYERS = ("vision.0", "vision.1", "decoder.0", "decoder.1", "head")
SMALL = CompressionPlan(resolution=ResolutionKnobs(image_width=16))


def test_the_tokens_of_an_image_fill_the_rows_evenly() -> None:
    check(DesignPoint(), LAYERS)
    check(DesignPoint(compression=SMALL), LAYERS)
    check(DesignPoint(hardware=CoreConfig(rows=16)), LAYERS)
    for rows, plan in ((16, SMALL), (32, CompressionPlan())):
        design = DesignPoint(hardware=CoreConfig(rows=rows, columns=8), compression=plan)
        with pytest.raises(ValueError, match=f"does not fill the core's {rows} rows evenly"):
            check(design, LAYERS)


def test_the_laws_of_the_plan_are_among_them() -> None:
    plan = CompressionPlan(pruning=PruningKnobs(decoder_blocks=(0, 1)))
    with pytest.raises(ValueError, match="leave at least one"):
        check(DesignPoint(compression=plan), LAYERS)
