"""The journal keeps what it acknowledged, and refuses what was not written by it."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from dovetail import journal
from dovetail.errors import FolderRefused, JournalCorrupt
from dovetail.events import RunStopped, key, timeless, title
from dovetail.journal import Journal
from dovetail.settings import Settings
from tests.dovetail.runs import finish, journal_bytes, ordered

SETTINGS = Settings(seed=3, iterations=3)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("journal") / "run"
    with Journal.create(folder) as record:
        finish(record, SETTINGS)
    return folder


def put(folder: Path, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / journal.NAME).write_bytes(content)
    return folder


def test_a_line_is_the_documented_format(run: Path) -> None:
    import json
    import zlib

    for number, line in enumerate(journal_bytes(run).splitlines()):
        outer = json.loads(line)
        assert list(outer) == ["checksum", "record"]
        raw = line[len('{"checksum":"01234567","record":') : -1]
        assert outer["checksum"] == f"{zlib.crc32(raw):08x}"
        assert outer["record"]["sequence"] == number
        assert outer["record"]["schema_version"] == 1


def test_reading_gives_back_what_was_written(run: Path) -> None:
    events = journal.read(run)
    assert b"".join(journal.encode(event) for event in events) == journal_bytes(run)


def test_cut_at_any_byte_the_whole_lines_before_it_are_kept(run: Path) -> None:
    content = b"".join(journal_bytes(run).splitlines(keepends=True)[:3])
    for end in range(len(content)):
        events, torn = journal.parse(content[:end])
        assert len(events) == content[:end].count(b"\n")
        assert torn == end - (content[:end].rfind(b"\n") + 1)


def test_resumed_after_a_cut_anywhere_it_equals_the_uninterrupted_run(
    run: Path, tmp_path: Path
) -> None:
    content = journal_bytes(run)
    whole = ordered(journal.read(run))
    first_line = content.index(b"\n") + 1
    chance = random.Random(1)
    ends = [i + 1 for i, byte in enumerate(content) if byte == ord("\n")]
    ends += [chance.randrange(first_line, len(content)) for _ in range(12)]
    for count, end in enumerate(ends):
        folder = put(tmp_path / str(count), content[:end])
        with Journal.resume(folder) as record:
            finish(record, SETTINGS)
        assert ordered(journal.read(folder)) == whole, f"cut at byte {end}"


def test_any_changed_byte_is_refused_with_the_number_of_its_line(run: Path) -> None:
    content = journal_bytes(run)
    chance = random.Random(2)
    lines = content.count(b"\n")
    places = [chance.randrange(len(content)) for _ in range(300)]
    places += [i for i, byte in enumerate(content) if byte == ord("\n")]
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1 << chance.randrange(8)
        number = content[:place].count(b"\n") + 1
        with pytest.raises(JournalCorrupt, match=rf"^line {number} of the journal"):
            journal.parse(bytes(changed))
    assert lines > 10


def test_removed_repeated_and_swapped_lines_are_refused(run: Path) -> None:
    lines = journal_bytes(run).splitlines(keepends=True)
    swapped = [*lines[:2], lines[3], lines[2], *lines[4:]]
    for wrong, number in ((lines[:2] + lines[3:], 3), (lines[:3] + lines[2:], 4), (swapped, 3)):
        with pytest.raises(JournalCorrupt, match=rf"^line {number} .* sequence"):
            journal.parse(b"".join(wrong))


def test_a_newer_format_is_refused_in_words() -> None:
    import zlib

    record = b'{"schema_version":2,"sequence":0,"event":"dreamt"}'
    line = b'{"checksum":"%08x","record":%s}\n' % (zlib.crc32(record), record)
    with pytest.raises(JournalCorrupt, match="format 2, and this Dovetail reads formats up to 1"):
        journal.parse(line)


def test_two_processes_in_one_folder_the_second_names_the_first(tmp_path: Path) -> None:
    import os

    with Journal.create(tmp_path / "run") as record:
        record.append(RunStopped(reason="x"))
        with pytest.raises(FolderRefused, match=f"process {os.getpid()} works on"):
            Journal.resume(tmp_path / "run")
    with Journal.resume(tmp_path / "run") as record:
        assert len(record.events) == 1


def test_a_folder_that_is_a_run_or_holds_something_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(FolderRefused, match=r"is a run already.*dovetail resume"):
        Journal.create(run)
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(FolderRefused, match="not an empty folder"):
        Journal.create(tmp_path)
    with pytest.raises(FolderRefused, match="holds no run"):
        journal.read(tmp_path)


def test_events_are_equal_without_times_and_keys_are_unique(run: Path) -> None:
    events = journal.read(run)
    later = [e.model_copy(update={"time_s": 9.0, "sequence": 99}) for e in events]
    assert [timeless(e) for e in later] == [timeless(e) for e in events]
    assert len({key(e) for e in events}) == len(events)
    assert title(events[1]) == "trial 0 asked"


FILL = """
import resource, sys
from pathlib import Path
from dovetail.errors import NoSpace
from dovetail.events import RunStopped
from dovetail.journal import Journal
record = Journal.create(Path(sys.argv[1]))
record.append(RunStopped(reason="kept"))
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    record.append(RunStopped(reason="x" * 8000))
except NoSpace as error:
    print(error)
"""


def test_a_full_disk_ends_the_record_with_a_whole_line(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(folder)], capture_output=True, text=True, check=True
    )
    assert "no room for the journal" in done.stdout
    with Journal.resume(folder) as record:
        assert [event.reason for event in record.events] == ["kept"]  # type: ignore[union-attr]
        assert record.torn_bytes == 0
