"""The journal keeps what it acknowledged, and refuses what was not written by it."""

import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dovetail import journal
from dovetail.errors import FolderRefused, JournalCorrupt
from dovetail.events import Asked, RunEvent, RunStopped, Told, key, timeless, title
from dovetail.journal import Journal
from dovetail.settings import Settings
from evaluators.design import DesignPoint
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


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (b"[1]", "is no event: must hold keys"),
        (b"{}", "is no event: names no event"),
        (b'{"event":"dreamt"}', "is no event: names the unknown event `dreamt`"),
        (b'{"event":"run_stopped"}', "is no event: run_stopped.reason is missing"),
        (b'{"event":"run_stopped","reason":5}', "run_stopped.reason must be text"),
        (b'{"event":"run_stopped"', "is no event: it is no JSON"),
    ],
)
def test_a_line_that_is_no_event_is_said_in_plain_words(record: bytes, said: str) -> None:
    import zlib

    line = b'{"checksum":"%08x","record":%s}\n' % (zlib.crc32(record), record)
    with pytest.raises(JournalCorrupt, match=f"^line 1 of the journal .*({said})") as caught:
        journal.parse(line)
    assert not re.search(r"validation error|tagged-union|RunStarted|object has", str(caught.value))


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    nan, inf = float("nan"), float("inf")
    bad: list[RunEvent] = [
        Told(trial=0, values={"latency_s": nan}, violation=0.0),
        Told(trial=0, values=None, violation=-inf),
        Asked(trial=0, suggestion=DesignPoint(), params={"x": inf}),
        RunStopped(reason="x").model_copy(update={"reason": None}),
    ]
    with Journal.create(tmp_path / "run") as record:
        record.append(RunStopped(reason="kept"))
        for event in bad:
            with pytest.raises(ValueError, match=r"not finite|could not be read again"):
                record.append(event)
        record.append(RunStopped(reason="kept too"))
    assert len(journal.read(tmp_path / "run")) == 2


TORN = b'{"checksum":"0123'


@pytest.mark.parametrize("content", [b"", TORN])
def test_a_folder_where_nothing_was_recorded_is_free(tmp_path: Path, content: bytes) -> None:
    folder = put(tmp_path / "run", content)
    assert not journal.begun(folder)
    for refused in (journal.read, Journal.resume):
        with pytest.raises(FolderRefused, match=r"nothing was recorded in .* may be used again"):
            refused(folder)
        assert journal_bytes(folder) == content
    with Journal.create(folder) as record:
        assert record.events == [] and journal_bytes(folder) == b""
        finish(record, SETTINGS)
    assert journal.begun(folder) and len(journal.read(folder)) > 10


def test_a_folder_with_an_empty_journal_in_use_is_not_free(tmp_path: Path) -> None:
    with (
        Journal.create(tmp_path / "run") as record,
        pytest.raises(FolderRefused, match="works on"),
    ):
        Journal.create(tmp_path / "run")
    assert record.events == []
    (tmp_path / "run" / "letter.txt").write_text("dear")
    with pytest.raises(FolderRefused, match="not an empty folder"):
        Journal.create(tmp_path / "run")


def test_a_torn_line_stays_until_the_next_one_is_written(run: Path, tmp_path: Path) -> None:
    content = b"".join(journal_bytes(run).splitlines(keepends=True)[:3])
    torn = TORN + b"x" * 4000  # longer than the line that will take its place
    folder = put(tmp_path / "torn", content + torn)
    with Journal.resume(folder) as record:
        assert record.torn_bytes == len(torn)
    assert journal_bytes(folder) == content + torn
    with Journal.resume(folder) as record:
        record.append(RunStopped(reason="x"))
    assert journal_bytes(folder).startswith(content)
    assert len(journal.read(folder)) == 4


def test_a_folder_that_cannot_be_written_is_refused_in_one_sentence(
    run: Path, tmp_path: Path
) -> None:
    # A folder in the lock's place stands for a read-only file system: root may write anywhere.
    folder = put(tmp_path / "run", journal_bytes(run))
    (folder / journal.LOCK).mkdir()
    with pytest.raises(FolderRefused, match=r"^cannot write in .*run \(.*make it writable"):
        Journal.resume(folder)
    new = tmp_path / "new"
    (new / journal.LOCK).mkdir(parents=True)
    with pytest.raises(FolderRefused, match="another folder with --out"):
        Journal.create(new)
    (tmp_path / "file").write_text("")
    for taken in (tmp_path / "file", tmp_path / "file" / "under", tmp_path / ("x" * 300)):
        with pytest.raises(FolderRefused, match="--out"):
            Journal.create(taken)
    (tmp_path / "odd" / journal.NAME).mkdir(parents=True)
    with pytest.raises(FolderRefused, match="cannot be read"):
        journal.read(tmp_path / "odd")


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
