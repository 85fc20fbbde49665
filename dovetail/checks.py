"""What a command refuses before it does anything: each check raises with the remedy."""

import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from dovetail.errors import BadInput, FolderRefused, Missing
from evaluators.workloads import TINY_VLM

if TYPE_CHECKING:
    from dovetail.settings import Settings

OUR_NAMES = ("agents", "evaluators", "hwlib", "swopt")
"""Import names that another distribution could own (`agents` is taken on PyPI)."""


def check_names() -> None:
    """Raises Missing where Python would import another distribution's package in place of ours."""
    home = Path(__file__).resolve().parent.parent
    for name in OUR_NAMES:
        spec = find_spec(name)
        places = list(spec.submodule_search_locations or ()) if spec else []
        if not any(Path(place).resolve().parent == home for place in places):
            found = places[0] if places else "nowhere"
            raise Missing(
                f"Python finds the package `{name}` at {found}, not beside Dovetail in {home}: "
                "another distribution owns that name; install Dovetail into an environment of its "
                "own (make run does)"
            )


def check_store() -> None:
    """Raises FolderRefused where results cannot be kept."""
    from evaluators import cache

    store = cache.root()
    try:
        store.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=store):
            pass
    except OSError as error:
        raise FolderRefused(
            f"results cannot be kept in {store} ({error.strerror}); name another folder in "
            "DOVETAIL_CACHE_DIR"
        ) from None


def check_data(settings: "Settings") -> None:
    """Raises Missing where a folder is named for the images and holds none that a run measures on.

    Without a named folder the synthetic set serves; in place of named images it would mislead.
    """
    if settings.workload == TINY_VLM and settings.checkpoint is None:
        check_images(Path(settings.data_dir) if settings.data_dir else None)


def check_cells(settings: "Settings") -> None:
    """Raises BadInput where the target's technology cannot be used."""
    from evaluators import cache
    from evaluators.silicon.liberty import LibertyError
    from evaluators.silicon.technology import load_technology

    if (technology := settings.target.technology) is None:
        return
    try:
        load_technology(technology, cache.root() / "silicon")
    except LibertyError as error:
        raise BadInput(f"target.technology: {error}") from None


def check_images(named: Path | None) -> None:
    """Raises Missing where a folder is named for images and holds none; None names no folder."""
    from dovetail.doctor import trained_sets
    from swopt.workloads import medmnist

    try:
        medmnist.find_data_dir(named, trained_sets())
    except FileNotFoundError as error:
        raise Missing(str(error)) from None


def refuse_knobs(changes: Sequence[str], design: Path) -> None:
    """Raises BadInput where `--set` would change what `evaluate` takes from the design's file."""
    from evaluators import space

    for change in changes:
        path = change.partition("=")[0].strip()
        if path.split(".")[0] in (*space.PARTS, "base", "edits"):
            raise BadInput(f"--set {path}: the design is measured as it is; change it in {design}")
