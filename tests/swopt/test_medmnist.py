"""Files come in whole and verified, or not at all."""

import hashlib
import http.server
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from swopt.workloads import medmnist


class _SlowOnDemand(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; a path with `slow` in it dribbles."""

    def do_GET(self) -> None:
        if "slow" not in self.path:
            super().do_GET()
            return
        self.send_response(200)
        self.end_headers()
        for _ in range(50):
            try:
                self.wfile.write(b"x" * 64)
                self.wfile.flush()
            except OSError:
                return
            time.sleep(0.02)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    served = tmp_path / "served"
    served.mkdir()

    def handler(*args: object) -> _SlowOnDemand:
        return _SlowOnDemand(*args, directory=str(served))  # type: ignore[arg-type]

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", served
        running.shutdown()
        thread.join()


def _write_set(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = rng.integers(0, 256, (5, 28, 28), np.uint8)
        arrays[f"{split}_labels"] = rng.integers(0, 2, (5, 1), np.uint8)
    np.savez(path, **arrays)
    digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setitem(medmnist.MD5, path.stem, digest)


def test_fetches_reads_and_reports_progress(
    server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, served = server
    _write_set(served / "breastmnist.npz", monkeypatch)
    told: list[tuple[str, int, int]] = []
    (path,) = medmnist.fetch(
        ("breastmnist",), tmp_path / "new", 20, lambda *seen: told.append(seen), source
    )
    size = path.stat().st_size
    assert told[-1] == ("breastmnist", size, size)
    part = medmnist.read(path, "val")
    assert part.images.shape == (5, 28, 28, 3)
    assert np.array_equal(part.images[..., 0], part.images[..., 2])
    assert part.labels.shape == (5, 1)
    assert medmnist.fetch(("breastmnist",), path.parent, 20, lambda *_: None, "http://nowhere")


def test_what_is_not_the_published_file_is_refused_and_removed(
    server: tuple[str, Path], tmp_path: Path
) -> None:
    source, served = server
    (served / "retinamnist.npz").write_bytes(b"not it")
    with pytest.raises(ValueError, match=r"is not the published retinamnist\.npz"):
        medmnist.fetch(("retinamnist",), tmp_path / "new", 20, lambda *_: None, source)
    assert not list((tmp_path / "new").iterdir())
    with pytest.raises(ValueError, match="remove it and fetch it again"):
        medmnist.read(served / "retinamnist.npz", "train")


@pytest.mark.parametrize("path", ["slow", "absent"])
def test_a_slow_or_refusing_server_is_a_connection_error_with_nothing_left(
    server: tuple[str, Path], tmp_path: Path, path: str
) -> None:
    with pytest.raises(ConnectionError, match="go on with the synthetic set"):
        medmnist.fetch(
            ("breastmnist",), tmp_path / "new", 0.2, lambda *_: None, f"{server[0]}/{path}"
        )
    assert not list((tmp_path / "new").iterdir())


def test_a_set_that_is_not_2d_medmnist_is_refused() -> None:
    with pytest.raises(ValueError, match="organmnist3d is no 2-D MedMNIST set"):
        medmnist.fetch(("organmnist3d",), Path("x"), 1, lambda *_: None)
    with pytest.raises(ValueError, match="no 2-D MedMNIST set"):
        medmnist.read(Path("organmnist3d.npz"), "train")


def test_the_folder_is_the_named_one_then_the_variable_then_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, variable, home = (tmp_path / name for name in ("named", "variable", "home"))
    for folder in (named, variable, home):
        folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("DOVETAIL_DATA_DIR", str(variable))
    assert medmnist.find_data_dir(named) == named
    assert medmnist.find_data_dir(None) == variable
    monkeypatch.delenv("DOVETAIL_DATA_DIR")
    assert medmnist.find_data_dir(None) is None
    (home / ".medmnist").mkdir()
    assert medmnist.find_data_dir(None) == home / ".medmnist"


def test_a_named_folder_without_the_images_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty, file = tmp_path / "an empty one", tmp_path / "file"
    empty.mkdir()
    file.write_text("hi")
    remedy = re.escape(f"dovetail fetch medmnist --data-dir '{empty}'")
    for folder, said in (
        (tmp_path / "typo", "does not exist.*dovetail fetch medmnist --data-dir"),
        (file, "is a file, not a folder"),
        (empty, f"an empty one holds none of the MedMNIST images.*{remedy}"),
        (tmp_path / ("x" * 300), "cannot be read"),
    ):
        with pytest.raises(FileNotFoundError, match=said):
            medmnist.find_data_dir(folder, medmnist.MD5)
        monkeypatch.setenv("DOVETAIL_DATA_DIR", str(folder))
        with pytest.raises(FileNotFoundError, match=said):
            medmnist.find_data_dir(None, medmnist.MD5)
    assert medmnist.find_data_dir(empty) == empty, "none is wanted"
    (empty / "pathmnist.npz").write_bytes(b"")
    assert medmnist.find_data_dir(empty, medmnist.MD5) == empty
    with pytest.raises(FileNotFoundError, match="holds none"):
        medmnist.find_data_dir(empty, ("breastmnist", "retinamnist"))


def test_a_file_is_checked_against_the_published_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "breastmnist.npz"
    _write_set(path, monkeypatch)
    medmnist.check(path)
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"hi"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"is not the published breastmnist\.npz"):
            medmnist.check(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match="cannot be read"):
        medmnist.check(path)


def test_a_fetched_file_has_the_mode_of_the_umask(
    server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_set(server[1] / "breastmnist.npz", monkeypatch)
    before = os.umask(0o027)
    try:
        (path,) = medmnist.fetch(("breastmnist",), tmp_path / "new", 20, _silent, server[0])
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def _silent(*_: object) -> None:
    pass


@pytest.mark.skipif("DOVETAIL_DATA_DIR" not in os.environ, reason="DOVETAIL_DATA_DIR is not set")
def test_the_published_sets_have_the_published_counts() -> None:
    folder = Path(os.environ["DOVETAIL_DATA_DIR"])
    for name, counts in {"breastmnist": (546, 78, 156), "retinamnist": (1080, 120, 400)}.items():
        read = (medmnist.read(folder / f"{name}.npz", s) for s in ("train", "val", "test"))
        assert tuple(len(part.images) for part in read) == counts
