"""What hostile code goes for, and whether it got there."""

import os
import secrets
import select
import socket
import subprocess
import sys
from pathlib import Path

SECRET = f"canary-{secrets.token_hex(12)}"
"""Stands in the parent's environment, memory and files; it may not come back from anywhere."""


class Canaries:
    """A folder, listeners and a process that must be found as they were left.

    Args:
        folder: An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "kept").write_text(SECRET)
        (folder / "kept").chmod(0o644)
        self._stat = (folder / "kept").stat()
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", 0))
        self.abstract = f"dovetail-{secrets.token_hex(8)}"
        self._unix = socket.socket(socket.AF_UNIX)
        self._unix.bind(f"\0{self.abstract}")
        self._unix.listen()
        self._file = (folder / "kept").open("a")
        os.set_inheritable(self._file.fileno(), True)
        self.victim = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])

    def places(self) -> dict[str, str]:
        """What the sources of attacks are written with."""
        return {
            "FOLDER": str(self.folder),
            "TCP": str(self._tcp.getsockname()[1]),
            "UDP": str(self._udp.getsockname()[1]),
            "ABSTRACT": self.abstract,
            "VICTIM": str(self.victim.pid),
            "PARENT": str(os.getpid()),
        }

    def check(self, seen: str) -> None:
        """Asserts that nothing was touched, and that what was `seen` is without the secret."""
        assert [path.name for path in self.folder.iterdir()] == ["kept"], "a file was made or lost"
        assert (self.folder / "kept").read_text() == SECRET, "a file was changed"
        now = (self.folder / "kept").stat()
        assert (now.st_mode, now.st_nlink) == (self._stat.st_mode, self._stat.st_nlink)
        sockets = [self._tcp, self._udp, self._unix]
        assert not select.select(sockets, [], [], 0)[0], "a listener was reached"
        assert self.victim.poll() is None, "a process was ended"
        assert SECRET not in seen and "root:x:0" not in seen, "something was read"

    def close(self) -> None:
        """Ends what this started."""
        self.victim.kill()
        self.victim.wait()
        for each in (self._tcp, self._udp, self._unix, self._file):
            each.close()
