"""Files of a public model or data set on the Hugging Face hub, each held to the hub's hash of it.

Written here rather than with `huggingface_hub`, which asks five times and takes 25 s where there is
no network. `HF_ENDPOINT` names a mirror and `HF_HUB_OFFLINE` keeps from the hub, as they do there.
"""

import hashlib
import http.client
import json
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HUB = "https://huggingface.co"

ANSWER_S = 15.0
"""Longest wait for the hub's first answer; where it does not come, the hub is out of reach."""

STALL_S = 60.0
"""Longest wait for more bytes of a file."""

CHUNK_BYTES = 1 << 20

LISTING_BYTES = 1 << 24
"""Longest listing that is read."""

_NETWORK = (
    urllib.error.URLError,
    TimeoutError,
    ConnectionError,
    ssl.SSLError,
    http.client.HTTPException,
)
"""What a network may raise; other errors of the system are the disk's."""

Progress = Callable[[str, int, int], None]
"""Told a file's name, bytes so far and bytes in all."""

_NAME = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class HubFile:
    """A file as the hub lists it.

    Attributes:
        size: In bytes.
        sha256: Of its content, for a large file.
        blob: Git's hash of its content, for a small one.
    """

    size: int
    sha256: str | None
    blob: str | None


@dataclass(frozen=True)
class Listing:
    """What a model or a data set on the hub consists of.

    Attributes:
        model: Its name, `owner/name`.
        revision: The commit that is listed.
        files: By name: those that are wanted, as far as they are there.
        folder: What stands before the name in the address of a file: `datasets/` of a data set.
    """

    model: str
    revision: str
    files: dict[str, HubFile]
    folder: str = ""


def is_name(name: str) -> bool:
    """Whether it can be a model's name on the hub: `owner/name`."""
    return _NAME.fullmatch(name) is not None and ".." not in name


def look_up(model: str, end: float) -> Listing:
    """Asks the hub what a model consists of: configuration, tokenizer and weights.

    Args:
        model: `owner/name`.
        end: By `time.monotonic`, when to give up.

    Raises:
        ConnectionError: The hub is out of reach, or has no such public model.
    """
    revision, files = _listed(f"models/{model}", "model", _wanted, end)
    return Listing(model, revision, files)


def look_up_data(name: str, wanted: Callable[[str], bool], end: float) -> Listing:
    """Asks the hub what a data set consists of.

    Args:
        name: `owner/name`.
        wanted: Whether a file of that name is to be listed.
        end: By `time.monotonic`, when to give up.

    Raises:
        ConnectionError: The hub is out of reach, or has no such public data set.
    """

    def chosen(names: set[str]) -> list[str]:
        return sorted(filter(wanted, names))

    revision, files = _listed(f"datasets/{name}", "data set", chosen, end)
    return Listing(name, revision, files, "datasets/")


def download(listing: Listing, name: str, folder: Path, end: float, on_progress: Progress) -> str:
    """Fetches one file into `folder`, under the last part of its name; it is as listed or refused.

    Args:
        listing: Of the model or the data set.
        name: One of its files.
        folder: Of files that are not whole yet.
        end: By `time.monotonic`, when to give up.
        on_progress: Called after each chunk.

    Returns:
        Its SHA-256.

    Raises:
        ConnectionError: It does not come, or not in time.
        ValueError: What came is not what was listed.
    """
    file, done = listing.files[name], 0
    sha256 = hashlib.sha256()
    blob = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    url = f"{_endpoint()}/{listing.folder}{listing.model}/resolve/{listing.revision}/{name}"
    other = f"{name} of {listing.model} is not the file that the hub lists"
    try:
        left = min(STALL_S, end - time.monotonic())
        with _open(url, left) as answer, (folder / Path(name).name).open("xb") as out:
            while chunk := answer.read1(CHUNK_BYTES):
                if done + len(chunk) > file.size:  # it might never end
                    raise ValueError(other)
                out.write(chunk)
                sha256.update(chunk)
                blob.update(chunk)
                done += len(chunk)
                on_progress(name, done, file.size)
                if time.monotonic() > end:
                    raise TimeoutError(f"{done} of {file.size} bytes in the time given")
            if done < file.size:
                raise ConnectionError(f"it broke off after {done} of {file.size} bytes")
    except _NETWORK as error:
        raise ConnectionError(f"{name} did not come from the hub ({_reason(error)})") from None
    found = sha256.hexdigest()
    if not (found == file.sha256 or blob.hexdigest() == file.blob):
        raise ValueError(other)
    return found


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")


def _listed(
    place: str, what: str, chosen: Callable[[set[str]], list[str]], end: float
) -> tuple[str, dict[str, HubFile]]:
    """The commit and the chosen files of `models/owner/name` or `datasets/owner/name`."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        raise ConnectionError("HF_HUB_OFFLINE keeps from the hub")
    owned = place.partition("/")[2]
    url = f"{_endpoint()}/api/{place}?blobs=true"
    try:
        with _open(url, min(ANSWER_S, end - time.monotonic())) as answer:
            found: dict[str, Any] = json.loads(answer.read(LISTING_BYTES))
        listed = {each["rfilename"]: each for each in found["siblings"]}
        return str(found["sha"]), {name: _file(listed[name]) for name in chosen(set(listed))}
    except urllib.error.HTTPError as error:
        raise ConnectionError(
            f"the hub has no public {what} {owned} (HTTP {error.code})"
            if error.code in (401, 403, 404)
            else f"the hub answers {owned} with HTTP {error.code}"
        ) from None
    except _NETWORK as error:
        raise ConnectionError(f"the hub is out of reach ({_reason(error)})") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConnectionError(f"{url} answers with something else than a {what}") from None


def _open(url: str, timeout_s: float) -> Any:
    if timeout_s <= 0:
        raise TimeoutError("no time is left")
    request = urllib.request.Request(url, headers={"User-Agent": "dovetail"})
    return urllib.request.urlopen(request, timeout=timeout_s)


def _wanted(names: set[str]) -> list[str]:
    """Configuration, tokenizer and weights, the small ones first."""
    whole = "model.safetensors" in names
    weights = {"model.safetensors"} if whole else {INDEX, *filter(_SHARD.fullmatch, names)}
    return [
        *(name for name in ("config.json", "tokenizer.json") if name in names),
        *sorted(weights & names, key=lambda name: (not name.endswith(".json"), name)),
    ]


def _file(entry: dict[str, Any]) -> HubFile:
    lfs = entry.get("lfs") or {}
    return HubFile(int(entry["size"]), lfs.get("sha256"), entry.get("blobId"))


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    return " ".join(str(reason).split())
