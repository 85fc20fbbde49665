"""A designer's estimates of a core: what other knobs would do to a measured one.

Closed forms over what the parent's measurement told, with priors for what it did not: Amdahl's law
for cycles, weights that are loaded again for DRAM, a sum over parts for area. They only rank what
is worth measuring; no figure of a design comes from here.

Knobs are JSON values by path, a parent is its row of the prompt's history.
"""

import math
from typing import Any

Json = dict[str, Any]

ROWS, COLUMNS = "hardware.rows", "hardware.columns"
LINK = "hardware.dma_bytes"
ACTIVATIONS, WEIGHTS = "hardware.activation_bytes", "hardware.weight_bytes"
CHANNELS = "hardware.channel_entries"
COMPOSABLE, STAGES = "hardware.composable", "hardware.mac_stages"

BITS = "compression.quantization"
ACTIVATION_BITS = f"{BITS}.activation_bits"
MEAN_BITS = f"{BITS}.mean_bits"
ROUNDING = f"{BITS}.rounding"
TOWERS = ("vision", "decoder")

ELEMENT_UM2 = {False: 1500.0, True: 2300.0}
"""Prior of an array element's area in a 45 nm library, by whether it is composable."""

ROW_UM2 = 25_000.0
"""Prior of a vector lane with its rescaler, drain and function units; each row has one."""

SRAM_UM2_PER_BYTE = 3.6
"""Prior of an SRAM's area."""

CHANNEL_BYTES = 16
"""Bytes of an entry of both channel tables."""

SHARES = {
    "utilization_array": 0.7,
    "energy_share_sram": 0.05,
    "energy_share_dram": 0.25,
}
"""Priors of shares of cycles and of energy, where a measurement does not tell them."""

SIDE = 0.9
"""Doublings of speed that a side of the array brings where it is doubled; the rest is padding."""

LINK_EXPOSED = 0.3
"""Prior of the part of a load's cycles that nothing else hides."""

FASTER_BY_A_STAGE = 0.15
"""Doublings of the clock that a register in the elements is thought to bring on the worst path."""


def gain(wanted: Json, values: Json, parent: Json, target: Json) -> float:
    """Expected doublings of speed and of answers a joule, together, against the parent."""
    traffic = _traffic_ratio(wanted, values, parent, target)
    cycles = _cycles_ratio(wanted, values, parent, target, traffic)
    energy = _energy_ratio(wanted, values, parent, cycles, traffic)
    if parent["details"].get("latency_limited_by") == "DRAM bandwidth":
        return -math.log2(traffic) - math.log2(energy)
    on_path = parent["details"].get("worst_path_unit") in ("mac", "composable_mac")
    stages = wanted[STAGES] - values[STAGES] if on_path and target["clock_hz"] is None else 0
    return FASTER_BY_A_STAGE * stages - math.log2(cycles) - math.log2(energy)


def area_um2(wanted: Json, sizes: list[tuple[Json, float]]) -> float:
    """The area of the most similar measured core, plus what the prior says of the rest."""

    def distance(knobs: Json) -> float:
        return sum(apart(wanted[path], knobs[path]) for path in wanted)

    # Of equally similar ones the largest: area over the limit is worth nothing.
    knobs, measured_um2 = min(sizes, key=lambda m: (distance(m[0]), -m[1]))
    return measured_um2 + _prior_um2(wanted) - _prior_um2(knobs)


def apart(one: Any, other: Any) -> float:
    """How far two values of a knob are from each other, in doublings."""
    if isinstance(one, bool):
        return float(one != other)
    return abs(math.log2(one / other))


def _cycles_ratio(wanted: Json, values: Json, parent: Json, target: Json, traffic: float) -> float:
    """Expected cycles over the parent's, by Amdahl's law.

    The array's share goes with rows, columns and products an element, that of loads which nothing
    hides with the bytes and the link, and the rest with the rows, which are the vector lanes.
    """
    array = _share(parent, "utilization_array")
    moved, width = _moved_bytes(parent, target), _link_width(values, parent, target)
    busy = moved / width / parent["metrics"]["cycles"]
    loads = min(LINK_EXPOSED * busy, 1 - array)
    lanes = (wanted[ROWS] / values[ROWS]) ** SIDE
    columns = (wanted[COLUMNS] / values[COLUMNS]) ** SIDE
    products = _products(wanted, parent) / _products(values, parent)
    wider = _link_width(wanted, parent, target) / width
    rest = 1 - array - loads
    return float(array / (lanes * columns * products) + loads * traffic / wider + rest / lanes)


def _traffic_ratio(wanted: Json, values: Json, parent: Json, target: Json) -> float:
    """Expected DRAM bytes over the parent's.

    Each weight has to come once. What comes beyond that is thought to be weights that are loaded
    again: half as often for twice the rows, or where twice as many are kept.
    """
    moved = _moved_bytes(parent, target)
    once = parent["metrics"].get("model_bytes", moved)
    again = 1 - once / moved if moved > once else 0.0
    fewer = (wanted[ROWS] / values[ROWS]) * (wanted[WEIGHTS] / values[WEIGHTS])
    return float(1 - again + again / fewer)


def _energy_ratio(wanted: Json, values: Json, parent: Json, cycles: float, traffic: float) -> float:
    """Expected energy over the parent's.

    What is clocked or leaks goes with area and cycles, an SRAM's access with the root of its size.
    """
    sram, dram = (_share(parent, f"energy_share_{part}") for part in ("sram", "dram"))
    size = (wanted[ACTIVATIONS] + wanted[WEIGHTS]) / (values[ACTIVATIONS] + values[WEIGHTS])
    # Priors of a change may be larger than the whole of a small core.
    more_um2 = _prior_um2(wanted) - _prior_um2(values)
    area = max(0.25, 1 + more_um2 / parent["metrics"]["area_um2"])
    return float(sram * size**0.5 + dram * traffic + (1 - sram - dram) * area * cycles)


def _products(knobs: Json, parent: Json) -> float:
    """Mean products of an element in a cycle for the parent's model: more where bits are few."""
    if not knobs[COMPOSABLE]:
        return 1.0
    bits = min(parent["knobs"].get(f"{BITS}.bits", 8), parent["knobs"].get(MEAN_BITS, 8))
    each = 4.0 if parent["knobs"].get(ACTIVATION_BITS, 8) == 4 else 2.0
    towers = [parent["knobs"].get(f"{BITS}.{tower}.bits", bits) for tower in TOWERS]
    return len(towers) / sum(1 / each if b <= 4 else 1.0 for b in towers)


def _link_width(knobs: Json, parent: Json, target: Json) -> float:
    """Bytes a cycle that come over the link: its own width, or what the DRAM gives at the clock."""
    return float(min(knobs[LINK], target["dram_bytes_per_s"] / parent["metrics"]["clock_hz"]))


def _moved_bytes(parent: Json, target: Json) -> float:
    """DRAM bytes of a question, from the energy that they took."""
    joules = _share(parent, "energy_share_dram") * parent["metrics"]["energy_j"]
    return float(joules / target["dram_energy_j_per_byte"])


def _share(parent: Json, name: str) -> float:
    return float(parent["details"].get(name, SHARES[name]))


def _prior_um2(knobs: Json) -> float:
    """What the knobs are thought to add to the area of the core's control."""
    sram_bytes = knobs[ACTIVATIONS] + knobs[WEIGHTS] + CHANNEL_BYTES * knobs[CHANNELS]
    return float(
        ELEMENT_UM2[knobs[COMPOSABLE]] * knobs[ROWS] * knobs[COLUMNS]
        + ROW_UM2 * knobs[ROWS]
        + SRAM_UM2_PER_BYTE * sram_bytes
    )
