"""What a netlist takes of a Lattice ECP5, and how fast it is there: placed and routed for real.

Yosys maps the netlist (`synth_ecp5`), nextpnr places and routes it out of context: ports are no
pins, so no path from or to a port is timed, and the clock reaches every flip-flop at once. Delays
are those of nextpnr's model of speed grade 6.
"""

import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from evaluators import cache
from evaluators.fpga import nextpnr
from evaluators.silicon.yosys import YosysError, run_yosys, yosys_version
from hwlib.frozen import Frozen

SYNTHESIS_DEADLINE_S = 3600.0
"""Longest time that Yosys may take."""

DEADLINE_S = 7200.0
"""Longest time that nextpnr may take."""

FULL = 0.9
"""Share of a device's LUTs beyond which the next larger one is taken."""


class Device(NamedTuple):
    """One size of the family, with what it has."""

    name: str
    option: str
    lut4: int
    flip_flops: int
    dsp: int
    block_ram: int


DEVICES = (
    Device("LFE5U-25F", "--25k", 24288, 24288, 28, 56),
    Device("LFE5U-45F", "--45k", 43848, 43848, 72, 108),
    Device("LFE5U-85F", "--85k", 83640, 83640, 156, 208),
)
"""Smallest first."""

_LUTS = {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 6}
"""LUT4 in each cell of a kind: a carry cell, and a distributed RAM with its write port."""

_CLOCK_PINS = {
    "TRELLIS_FF": ("CLK",),
    "TRELLIS_DPR16X4": ("WCK",),
    "DP16KD": ("CLKA", "CLKB"),
    "MULT18X18D": ("CLK0", "CLK1", "CLK2", "CLK3"),
}


class DoesNotFit(ValueError):
    """No device of the family has enough of something; the message says of what."""


class NotOneClock(ValueError):
    """A netlist that one clock at a port does not drive; the message says why."""


class Used(Frozen):
    """How many of one kind."""

    used: int
    """Those that the netlist takes."""

    available: int
    """Those that the device has."""


class Ecp5Cost(Frozen):
    """A netlist on an ECP5, placed and routed."""

    device: str
    """The smallest that it fits, with a tenth of the LUTs to spare where there is a larger one."""

    speed_grade: int
    """6 is the slowest."""

    lut4: Used
    """4-input look-up tables: logic, carry chains, distributed RAM and feed-throughs."""

    flip_flops: Used
    """Flip-flops."""

    dsp: Used
    """18 x 18 bit multipliers (MULT18X18D)."""

    block_ram: Used
    """Block RAMs of 18 432 bits (DP16KD)."""

    distributed_ram: Used
    """RAMs of 16 x 4 bits in look-up tables."""

    fmax_hz: float | None
    """Fastest clock, from flip-flop to flip-flop; None where no path goes there."""

    worst_path: str
    """Where the slowest of those paths starts and ends."""

    seed: int
    """Of placement."""

    versions: dict[str, str]
    """Of the tools."""

    synthesis_s: float
    """Wall time of Yosys, when this was measured."""

    place_and_route_s: float
    """Wall time of nextpnr, when this was measured."""


def ecp5_cost(rtlil: str, top: str, cache_dir: Path, on_stage: Callable[[str], None]) -> Ecp5Cost:
    """Maps, places and routes a linked netlist, or finds what was measured before.

    Args:
        rtlil: The netlist.
        top: Its top module.
        cache_dir: Where results are kept.
        on_stage: Told in words what begins.

    Raises:
        evaluators.fpga.nextpnr.NextpnrMissing: nextpnr is not installed.
        evaluators.fpga.nextpnr.NextpnrError: nextpnr failed, or was stopped.
        evaluators.silicon.yosys.YosysError: Yosys is missing, failed, or was stopped.
        DoesNotFit: No device has enough of something.
        NotOneClock: It has two clocks, or one that is made inside.
    """
    versions = {"pyosys": yosys_version()} | nextpnr.versions()
    inputs = {"netlist": cache.sha256(rtlil), "top": top, "code": cache.code_sha256()}
    return cache.remembered(
        cache_dir,
        "ecp5",
        cache.key(inputs | versions),
        Ecp5Cost,
        lambda: _measure(rtlil, top, cache_dir, on_stage, versions),
    )


def _measure(
    rtlil: str,
    top: str,
    cache_dir: Path,
    on_stage: Callable[[str], None],
    versions: dict[str, str],
) -> Ecp5Cost:
    with tempfile.TemporaryDirectory(prefix="dovetail-ecp5-") as folder:
        directory = Path(folder)
        begin_s = time.monotonic()
        on_stage(f"mapping {top} to cells of ECP5 (Yosys; a minute or more for a core)")
        module = synthesize(rtlil, top, directory)
        synthesis_s = time.monotonic() - begin_s
        _check_clock(module)
        counts = Counter(cell["type"] for cell in module["cells"].values())
        device = device_for(counts)
        on_stage(
            f"mapped in {synthesis_s:.0f} s: {luts(counts):,} LUT4; placing and routing on "
            f"{device.name} (nextpnr; some minutes for each 10,000)"
        )
        compiled = nextpnr.machine_code(cache_dir)
        begin_s = time.monotonic()
        report = nextpnr.place_and_route(
            directory / "netlist.json", device.option, directory, compiled, DEADLINE_S
        )
        place_and_route_s = time.monotonic() - begin_s
    return _cost(module, report, device, versions, synthesis_s, place_and_route_s)


def synthesize(rtlil: str, top: str, directory: Path) -> dict[str, Any]:
    """The top module, flat, as Yosys' JSON has it; the file stays in `directory`."""
    (directory / "dut.il").write_text(rtlil, encoding="utf-8")
    commands = [
        "read_rtlil dut.il",
        # An SRAM reads or writes; without this each would get logic for doing both in one cycle.
        "setparam -set COLLISION_X_MASK 1'1 sram_*/t:$memrd_v2",
        f"synth_ecp5 -top {top}",
        "delete t:$scopeinfo",
        "write_json netlist.json",
    ]
    run_yosys(commands, directory, directory / "yosys-tmp", SYNTHESIS_DEADLINE_S)
    try:
        netlist = json.loads((directory / "netlist.json").read_bytes())
        module: dict[str, Any] = netlist["modules"][top]
    except (OSError, ValueError, KeyError):
        raise YosysError("Yosys ended without a netlist that can be read") from None
    return module


def luts(counts: Mapping[str, int]) -> int:
    """LUT4 of a mapped netlist, from its cells by type; placement adds a few."""
    return sum(each * counts.get(kind, 0) for kind, each in _LUTS.items())


def device_for(counts: Mapping[str, int]) -> Device:
    """The smallest device for the cells of a mapped netlist.

    Args:
        counts: Number of cells by type.

    Raises:
        DoesNotFit: There is none.
    """
    needed = {
        "LUT4": luts(counts),
        "flip-flops": counts.get("TRELLIS_FF", 0),
        "multipliers (MULT18X18D)": counts.get("MULT18X18D", 0),
        "block RAMs (DP16KD)": counts.get("DP16KD", 0),
    }
    for device in DEVICES:
        last = device is DEVICES[-1]
        there = (int(device.lut4 * (1 if last else FULL)), *device[3:])
        if all(n <= most for n, most in zip(needed.values(), there, strict=True)):
            return device
    few = ", ".join(
        f"{n:,} {what} of {most:,}"
        for (what, n), most in zip(needed.items(), DEVICES[-1][2:], strict=True)
        if n > most
    )
    raise DoesNotFit(f"the largest ECP5, {DEVICES[-1].name}, is too small: it takes {few}")


def _check_clock(module: Mapping[str, Any]) -> None:
    """Refuses what one clock does not time."""
    clocks = {
        (bit, cell["parameters"].get(f"{pin}MUX", pin))
        for cell in module["cells"].values()
        for pin in _CLOCK_PINS.get(cell["type"], ())
        for bit in cell["connections"].get(pin, ())
        if isinstance(bit, int)
    }
    ports = module["ports"].values()
    inputs = {bit for port in ports if port["direction"] == "input" for bit in port["bits"]}
    if len({(bit, mux == "INV") for bit, mux in clocks}) > 1:
        raise NotOneClock(
            "it has two clocks, both edges of one, or a gated one; only one clock is timed"
        )
    if not {bit for bit, _ in clocks} <= inputs:
        raise NotOneClock("its clock is made inside, by a gate or a flip-flop; drive it by a port")


def _ends(path: nextpnr.PathReport, module: Mapping[str, Any]) -> str:
    """Where a path starts and ends: registers by the name of what they hold."""
    return f"{_name(path.path[0].source, module)} to {_name(path.path[-1].to, module)}"


def _name(pin: nextpnr.Pin, module: Mapping[str, Any]) -> str:
    cell = module["cells"].get(pin.cell, {"type": ""})
    if cell["type"] == "TRELLIS_FF":
        (held,) = cell["connections"]["Q"]
        names = [
            f"{name}[{net.get('offset', 0) + net['bits'].index(held)}]"
            if len(net["bits"]) > 1
            else name
            for name, net in module["netnames"].items()
            if not net["hide_name"] and held in net["bits"]
        ]
        if names:
            return min(names, key=lambda name: (len(name), name))
    return f"{pin.cell}.{pin.port}"


def _cost(
    module: Mapping[str, Any],
    report: nextpnr.Report,
    device: Device,
    versions: dict[str, str],
    synthesis_s: float,
    place_and_route_s: float,
) -> Ecp5Cost:
    try:
        of = {kind: Used(**cells.model_dump()) for kind, cells in report.utilization.items()}
        clock = next(iter(report.fmax.values()), None)
        worst = next(iter(report.critical_paths), None)
        return Ecp5Cost(
            device=device.name,
            speed_grade=nextpnr.SPEED_GRADE,
            lut4=of["TRELLIS_COMB"],
            flip_flops=of["TRELLIS_FF"],
            dsp=of["MULT18X18D"],
            block_ram=of["DP16KD"],
            distributed_ram=of["TRELLIS_RAMW"],
            fmax_hz=None if clock is None else 1e6 * clock.achieved,
            worst_path="" if worst is None else _ends(worst, module),
            seed=nextpnr.SEED,
            versions=versions,
            synthesis_s=synthesis_s,
            place_and_route_s=place_and_route_s,
        )
    except KeyError as error:
        raise nextpnr.NextpnrError(f"nextpnr's report names no {error}") from None
