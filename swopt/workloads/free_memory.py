"""How much memory a model may still take on this machine."""

import os
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def available_bytes(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int:
    """Bytes that can be taken without swapping: those of the system or, if fewer, of the container.

    Args:
        meminfo: What Linux says of its memory; where there is none, all memory counts as free.
        cgroup: The folder of the process's control group, version 2.
    """
    return min(_of_system(meminfo), _of_container(cgroup))


def _of_system(meminfo: Path) -> int:
    try:
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _of_container(cgroup: Path) -> int:
    """Its limit less what it uses; what the kernel would give back of files is not counted."""
    try:
        limit = int((cgroup / "memory.max").read_text(encoding="ascii"))
        used = int((cgroup / "memory.current").read_text(encoding="ascii"))
        statistics = (cgroup / "memory.stat").read_text(encoding="ascii").split()
        files = int(statistics[statistics.index("inactive_file") + 1])
    except (OSError, ValueError):  # no container, or `max`
        return 1 << 62
    return max(limit - used + files, 0)
