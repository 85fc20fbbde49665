"""A hub of models and data sets on this machine: the addresses of it that are used."""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

REVISION = "c0ffee"


@contextmanager
def serving(
    model: str, files: dict[str, bytes], sent: dict[str, bytes], data: bool = False
) -> Iterator[str]:
    """Serves one model or data set.

    Args:
        model: `owner/name`.
        files: What is listed.
        sent: What is sent instead of it, by name.
        data: Whether it is a data set.

    Yields:
        The hub's address.
    """

    api, folder = ("datasets", "datasets/") if data else ("models", "")

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == f"/api/{api}/{model}?blobs=true":
                self._answer(json.dumps(_listing(files)).encode())
            elif self.path.startswith(place := f"/{folder}{model}/resolve/{REVISION}/"):
                name = self.path.removeprefix(place)
                content = sent.get(name, files[name])
                self._answer(content, max(len(content), len(files[name])))
            else:
                self.send_error(404)

        def _answer(self, content: bytes, length: int | None = None) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(length or len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}"
        finally:
            running.shutdown()
            thread.join()


def _listing(files: dict[str, bytes]) -> dict[str, object]:
    """Large files have a SHA-256, all have git's hash, which of a large one is its pointer's."""
    siblings = []
    for name, content in files.items():
        large = name.endswith((".safetensors", ".bin", ".parquet", ".zip"))
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
        entry: dict[str, object] = {
            "rfilename": name,
            "size": len(content),
            "blobId": "0" * 40 if large else blob.hexdigest(),
        }
        if large:
            sha256 = hashlib.sha256(content).hexdigest()
            entry["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
        siblings.append(entry)
    return {"sha": REVISION, "siblings": siblings}
