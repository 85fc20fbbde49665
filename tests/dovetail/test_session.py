"""What is refused before the first line of a journal is written."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from dovetail import session
from dovetail.errors import BadInput
from dovetail.settings import load
from dovetail.testing import ToyWorkshop


@pytest.mark.parametrize(
    ("change", "law"),
    [
        ('compression.quantization.overrides={"vision.99": 4}', "vision.99"),
        ("compression.pruning.vision_blocks=[0,1]", "removes every vision block"),
    ],
)
def test_a_base_design_that_breaks_a_law_of_the_model_is_refused_and_nothing_written(
    tmp_path: Path, change: str, law: str
) -> None:
    settings = load(None, [change])
    with pytest.raises(BadInput, match=f"base: .*{law}"):
        session.start(settings, tmp_path / "run", ToyWorkshop(), Console(file=io.StringIO()))
    assert not (tmp_path / "run").exists()


def test_what_has_no_store_is_never_evaluated_in_this_process() -> None:
    settings = load(None, [])
    bench = ToyWorkshop().bench(settings)
    assert session.looked_up(settings, bench, settings.base) is None


def test_the_end_of_a_run_shows_its_test_figures(tmp_path: Path) -> None:
    out = io.StringIO()
    settings = load(None, ["iterations=2", "seed=7"])
    session.start(settings, tmp_path / "run", ToyWorkshop(), Console(file=out, width=100))
    assert "test data: trial" in out.getvalue()
    assert "paired difference" in out.getvalue()
