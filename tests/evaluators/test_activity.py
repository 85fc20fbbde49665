"""The mapped gates of a core do in a recorded window what its RTL did, bit by bit."""

import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.core_speed import long_tiles
from evaluators.silicon import verilator
from evaluators.silicon.activity import CYCLES, activities, watch
from evaluators.silicon.assembly import assemble
from evaluators.silicon.gates import GatesError
from evaluators.silicon.liberty import default_liberty_path, load_library
from evaluators.silicon.simulation import CoreRun, Probe, Recording, simulate_core
from evaluators.silicon.synthesis import synthesize
from hwlib.config import CoreConfig
from hwlib.elaborate import elaborate_core

pytestmark = [
    pytest.mark.eda,
    pytest.mark.skipif(bool(verilator.available()), reason=verilator.available() or "it is there"),
]

CONFIG = CoreConfig(rows=4, columns=4, activation_bytes=8192, weight_bytes=8192)


def run(recording: Recording, cache_dir: Path) -> CoreRun:
    dram = np.random.default_rng(0).integers(0, 256, 1 << 16, np.uint8)
    return simulate_core(
        elaborate_core(CONFIG), long_tiles(CONFIG, 4), dram, CONFIG, cache_dir, recording=recording
    )


def test_signals_are_recorded_in_their_windows(cache_dir: Path) -> None:
    element = "array.row_1.mac_2"
    probes = (
        Probe(instance="", name="busy", width=1),
        Probe(instance=element, name="a", width=9),
        Probe(instance=element, name="w", width=8),
        Probe(instance="array", name="absent", width=8),
    )
    done = run(Recording(probes, [1500, 3000], 50), cache_dir)
    assert done.missing == (3,)
    rows = np.frombuffer(done.samples, np.uint8).reshape(2, 50, 1 + 2 + 1 + 1)
    assert (rows[..., 0] == 1).all() and (rows[..., 4] == 0).all()
    operands = rows[..., 1:4].reshape(100, 3)
    assert len(np.unique(operands, axis=0)) > 50, (
        "an element at work sees other operands each cycle"
    )
    beyond = run(Recording(probes, [1500, done.total_cycles - 10], 50), cache_dir)
    assert beyond.samples == done.samples[: len(done.samples) // 2]


@pytest.mark.slow
def test_the_gates_do_what_the_rtl_did(cache_dir: Path) -> None:
    store, liberty = cache_dir / "silicon", default_liberty_path()
    library = load_library(liberty, store)
    mapped = synthesize(elaborate_core(CONFIG), library, liberty, store)
    watched = watch(mapped, assemble(mapped, library), 4000, np.random.default_rng(1))
    assert watched.recording.cycles == CYCLES
    done = run(watched.recording, cache_dir)
    found = activities(watched, done, mapped, library)
    assert set(found) == set(watched.sampled) and "mac" in found
    assert found["mac"].toggles.mean() > 0.05
    # Nothing divides in this program.
    assert found["reciprocal"].toggles.mean() < 0.01

    mac = mapped.modules["mac"].model_dump_json()
    (gate, other) = ("NAND2_X1", "NOR2_X1")
    broken = type(mapped.modules["mac"]).model_validate_json(
        re.sub(rf'"type":"{gate}"', f'"type":"{other}"', mac, count=1)
    )
    assert broken != mapped.modules["mac"]
    wrong = mapped.model_copy(update={"modules": {**mapped.modules, "mac": broken}})
    with pytest.raises(GatesError, match=r"mac: .*than their traces|differ from their traces"):
        activities(watched, done, wrong, library)
