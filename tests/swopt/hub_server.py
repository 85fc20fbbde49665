"""A model hub on this machine: the two addresses of it that are used."""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

REVISION = "c0ffee"


@contextmanager
def serving(model: str, files: dict[str, bytes], sent: dict[str, bytes]) -> Iterator[str]:
    """Serves one model.

    Args:
        model: `owner/name`.
        files: What is listed.
        sent: What is sent instead of it, by name.

    Yields:
        The hub's address.
    """

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == f"/api/models/{model}?blobs=true":
                self._answer(json.dumps(_listing(files)).encode())
            elif self.path.startswith(f"/{model}/resolve/{REVISION}/"):
                name = self.path.rsplit("/", 1)[1]
                self._answer(sent.get(name, files[name]), len(files[name]))
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
        thread = threading.Thread(target=running.serve_forever)
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
        large = name.endswith((".safetensors", ".bin"))
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
