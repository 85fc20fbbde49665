"""The store answers with what was measured, and measures again what it cannot read."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from evaluators import cache
from hwlib.frozen import Frozen


class Figure(Frozen):
    """A value to store."""

    area_um2: float


def test_measures_once_and_then_answers_the_same_bits(tmp_path: Path) -> None:
    measured: list[float] = []

    def measure() -> Figure:
        measured.append(0.1 + 0.2)
        return Figure(area_um2=measured[-1])

    key = cache.key({"design": "a", "tool": "b"})
    first = cache.remembered(tmp_path, "area", key, Figure, measure)
    second = cache.remembered(tmp_path, "area", key, Figure, measure)
    assert first == second == Figure(area_um2=0.1 + 0.2)
    assert len(measured) == 1


def test_where_only_kept_values_are_asked_for_none_is_made(tmp_path: Path) -> None:
    def answer(name: str) -> Figure:
        made = Figure(area_um2=1.0)
        return cache.remembered(tmp_path, "area", cache.key({"d": name}), Figure, lambda: made)

    kept = answer("a")
    with cache.only_kept():
        assert answer("a") == kept
        with pytest.raises(cache.NotKept, match="area"):
            answer("b")
    assert len(list(tmp_path.rglob("*.json"))) == 1
    assert answer("b") == kept


def test_key_depends_on_every_input_and_not_on_their_order() -> None:
    assert cache.key({"a": "1", "b": "2"}) == cache.key({"b": "2", "a": "1"})
    assert cache.key({"a": "1", "b": "2"}) != cache.key({"a": "1", "b": "3"})
    assert cache.key({"a": "12"}) != cache.key({"a": "1", "2": ""})


@pytest.mark.parametrize("damage", [b"", b"{", b'{"area_um2": "wide"}', b'{"other": 1}'])
def test_a_damaged_entry_is_measured_again(tmp_path: Path, damage: bytes) -> None:
    key = cache.key({"design": "a"})
    cache.remembered(tmp_path, "area", key, Figure, lambda: Figure(area_um2=1.0))
    (entry,) = tmp_path.rglob("*.json")
    entry.write_bytes(damage)
    again = cache.remembered(tmp_path, "area", key, Figure, lambda: Figure(area_um2=2.0))
    assert again.area_um2 == 2.0
    assert Figure.model_validate_json(entry.read_bytes()).area_um2 == 2.0


def test_of_several_makers_one_has_the_claim_until_it_is_done_or_fails(tmp_path: Path) -> None:
    path = tmp_path / "room" / "file"
    with cache.claimed(path, wait=False) as first, cache.claimed(path, wait=False) as second:
        assert (first, second) == (True, False)
    with pytest.raises(OSError, match="tool gone"), cache.claimed(path, wait=False):
        raise OSError("tool gone")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: make_once(path), range(8)))
    assert sum(made) == 1
    assert list(path.parent.iterdir()) == [path]


def make_once(path: Path) -> bool:
    """Makes the file unless it is there; whether it was made here."""
    with cache.claimed(path, wait=True):
        if path.exists():
            return False
        time.sleep(0.01)
        path.touch()
        return True


def test_a_failed_measurement_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> Figure:
        raise OSError("tool gone")

    with pytest.raises(OSError, match="tool gone"):
        cache.remembered(tmp_path, "area", "ab", Figure, fail)
    assert not list(tmp_path.rglob("*.json"))


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOVETAIL_CACHE_DIR", "/somewhere/else")
    assert cache.root() == Path("/somewhere/else")
    monkeypatch.delenv("DOVETAIL_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache.root() == Path("/caches/dovetail")
