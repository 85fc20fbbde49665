"""The shipped model on the synthetic set alone, so that these tests need no data."""

from pathlib import Path

import pytest
import torch

from swopt.workloads.workload import Workload, load_workload


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Scores are promised to the bit with one torch thread."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    """`tiny-vlm` where no medical data is found."""
    empty: Path = tmp_path_factory.mktemp("no-data")
    return load_workload(empty)
