"""VQA-RAD, SLAKE and PathVQA: fetched from the Hugging Face hub, read as rows with packed images.

| set | paper | licence | splits |
|---|---|---|---|
| `vqa-rad` | Lau et al., Scientific Data 2018 | CC0 1.0 | train, test |
| `slake` | Liu et al., ISBI 2021 | CC BY 4.0 | train, val, test |
| `path-vqa` | He et al., arXiv 2003.10286, 2020 | MIT | train, val, test |

A set's folder holds the files as the hub has them, and `source.json`. Images stay packed, each
once, until a row is asked for its pixels. `vqa_rows.score` scores the rows.
"""

import re
import shlex
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from swopt.workloads import hub, model_store, slake, vqa_parquet
from swopt.workloads.model_store import ModelError, Source
from swopt.workloads.vqa import Split
from swopt.workloads.vqa_rows import PackedRow, RowError

SET_BYTES = 1 << 32
"""Most bytes of a set's files; the largest is PathVQA's, of less than 1 GiB."""

HELD_BYTES = 1 << 32
"""Most bytes of packed images that a split may hold in memory."""


@dataclass(frozen=True)
class MedicalSet:
    """A public set of medical questions.

    Attributes:
        hub_name: `owner/name` on the hub.
        splits: Those that it has, in the order of their use.
        statement: Paper and licence.
    """

    hub_name: str
    splits: tuple[Split, ...]
    statement: str


SETS: dict[str, MedicalSet] = {
    "vqa-rad": MedicalSet(
        "flaviagiammarino/vqa-rad",
        ("train", "test"),
        "VQA-RAD (Lau et al., Scientific Data 2018), CC0 1.0",
    ),
    "slake": MedicalSet(
        "BoKelvin/SLAKE",
        ("train", "val", "test"),
        "SLAKE (Liu et al., ISBI 2021), CC BY 4.0",
    ),
    "path-vqa": MedicalSet(
        "flaviagiammarino/path-vqa",
        ("train", "val", "test"),
        "PathVQA (He et al., 2020), MIT; its images belong to their publishers",
    ),
}

_SHARD = re.compile(r"data/(train|validation|test)-(\d{5})-of-(\d{5})(?:-[0-9a-f]+)?\.parquet")
_HUB_SPLIT: dict[Split, str] = {"train": "train", "val": "validation", "test": "test"}
_SLAKE_QUESTIONS: dict[Split, tuple[str, ...]] = {
    "train": ("train.json",),
    "val": ("validation.json", "validate.json"),
    "test": ("test.json",),
}
_SLAKE_IMAGES = "imgs.zip"


def fetch(name: str, data: Path, deadline_s: float, on_progress: hub.Progress) -> Source:
    """Fetches a set into `data/name`; it is whole afterwards, or as it was before.

    Args:
        name: One of `SETS`.
        data: The folder of data.
        deadline_s: Seconds for all of it.
        on_progress: Called with a file's name, bytes so far and bytes in all.

    Returns:
        What is now there.

    Raises:
        ConnectionError: The hub does not give it, or not in time.
        ValueError: What the hub lists is no whole set, or what came is not what it lists.
        OSError: The folder cannot be written.
    """
    found, folder, end = SETS[name], data / name, time.monotonic() + deadline_s
    wanted = _is_of_slake if name == "slake" else _is_shard
    with model_store.workspace(folder) as made:
        try:
            listing = hub.look_up_data(found.hub_name, wanted, end)
            _check_listing(name, listing)
            files = {
                Path(each).name: hub.download(listing, each, made, end, on_progress)
                for each in listing.files
            }
        except ConnectionError as error:
            raise ConnectionError(
                f"{name} could not be fetched: {error}; name a mirror with HF_ENDPOINT, or copy "
                f"the folder {folder} from another machine"
            ) from None
        source = Source(
            model=found.hub_name,
            origin="hub",
            place=f"revision {listing.revision}",
            origin_sha256="",
            statement=found.statement,
            files=files,
        )
        model_store.install(made, folder, source)
    return source


def find(name: str, data: Path) -> Source | None:
    """What is there of a set, if it is whole."""
    try:
        return model_store.check(data / name, remedy(name, data))
    except ModelError:
        return None


def remedy(name: str, data: Path) -> str:
    """What to type where a set is not in the data folder, or not whole."""
    place = "" if data == model_store.data_dir() else f" --data-dir {shlex.quote(str(data))}"
    return f"fetch it with: dovetail fetch {name}{place}"


def read(
    name: str, split: Split, data: Path | None = None, languages: Collection[str] = ("en",)
) -> tuple[PackedRow, ...]:
    """The rows of a split, in the order of the set.

    SLAKE says itself which questions are closed; elsewhere those with an answer of yes or no are.

    Args:
        name: One of `SETS`.
        split: One that the set has.
        data: The folder of data, else `DOVETAIL_DATA_DIR`, else `~/.dovetail/data`.
        languages: Of SLAKE alone: `en`, `zh`.

    Raises:
        ValueError: There is no such set, or it has no such split.
        ModelError: The set is not there, or not whole.
        RowError: A file is not of the published form; a row is told by its number in the file.
        ModuleNotFoundError: `dovetail[vqa]` is not installed.
    """
    if name not in SETS:
        raise ValueError(f"{name[:60]} is no medical set; the sets are {', '.join(SETS)}")
    if split not in SETS[name].splits:
        raise ValueError(f"{name} has no split {split}, only {', '.join(SETS[name].splits)}")
    data = model_store.data_dir(data)
    source, folder = model_store.check(data / name, remedy(name, data)), data / name
    rows = tuple(_bounded(name, _rows(name, split, folder, source.files, languages)))
    if not rows:
        raise RowError(f"{name} has no {split} row in {', '.join(languages)}")
    return rows


def _rows(
    name: str, split: Split, folder: Path, files: Collection[str], languages: Collection[str]
) -> Iterator[PackedRow]:
    if name == "slake":
        questions = next(each for each in _SLAKE_QUESTIONS[split] if each in files)
        yield from slake.read(folder / questions, folder / _SLAKE_IMAGES, split, languages)
        return
    images: dict[bytes, bytes] = {}
    for shard in sorted(each for each in files if each.startswith(f"{_HUB_SPLIT[split]}-")):
        yield from vqa_parquet.read(folder / shard, split, images)


def _bounded(name: str, rows: Iterable[PackedRow]) -> Iterator[PackedRow]:
    """The rows, as long as their images have a place in memory."""
    held: set[int] = set()
    size = 0
    for row in rows:
        if id(row.packed) not in held:
            held.add(id(row.packed))
            size += len(row.packed)
        if size > HELD_BYTES:
            raise RowError(f"{name} has images of more than {HELD_BYTES >> 20} MiB in a split")
        yield row


def _is_shard(name: str) -> bool:
    return _SHARD.fullmatch(name) is not None


def _is_of_slake(name: str) -> bool:
    return name == _SLAKE_IMAGES or any(name in names for names in _SLAKE_QUESTIONS.values())


def _check_listing(name: str, listing: hub.Listing) -> None:
    """Refuses a listing that lacks something, or is too large."""
    hub_name = SETS[name].hub_name
    if absent := _absent(name, set(listing.files)):
        raise ValueError(f"the hub lists no {absent} of {hub_name}; Dovetail knows it otherwise")
    size = sum(file.size for file in listing.files.values())
    if size > SET_BYTES or any(file.size < 0 for file in listing.files.values()):
        raise ValueError(f"the hub lists {size} bytes of {hub_name}, more than {SET_BYTES}")


def _absent(name: str, names: set[str]) -> str:
    """What is not there, if anything: a file of SLAKE's, or a shard of a split."""
    if name == "slake":
        wanted = [*_SLAKE_QUESTIONS.values(), (_SLAKE_IMAGES,)]
        return next((each[0] for each in wanted if not names & set(each)), "")
    for split in SETS[name].splits:
        shards = [found.groups() for each in names if (found := _SHARD.fullmatch(each))]
        numbers = sorted((int(n), int(of)) for s, n, of in shards if s == _HUB_SPLIT[split])
        if not numbers or numbers != [(n, len(numbers)) for n in range(len(numbers))]:
            return f"whole data/{_HUB_SPLIT[split]}-*-of-*.parquet"
    return ""
