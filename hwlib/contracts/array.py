"""The contract of the whole array: pairs of operands in, columns of sums out, each by handshake.

Protocol: a pair of operands (`a_0`.. for the rows, `w_0`.. for the columns) is taken in a cycle in
which `valid` and `ready` are high; `last` says that it is the last of its tile, and `wanted`, with
the last pair, how many columns of the tile are taken, from 1 to all. What is not taken may change
from one cycle to the next; `ready` may hang on `last`. The element of row r and column c sums up
a_r * w_c over the pairs of a tile; in composable arrays `mode` comes with every pair and says what
a product is, as in `composable_mac`.

Tile after tile, and column after column from 0, sums stand at `sum_0`.. in a cycle in which
`sums_valid` is high, and are taken if `sums_ready` is high too. Sums that are not taken stay, and
`sums_valid` with them. The first column of a tile that finds the array empty is there exactly
`latency` cycles after its last pair. How many tiles an array holds is its own affair, and it may
refuse operands while it holds one; otherwise it refuses none for more than `LONGEST_PAUSE` cycles,
nor is a column later than so many after the one before.

The sum wraps at `bits` and is sign-extended. After a reset an array holds nothing.
"""

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from hwlib.config import CoreConfig
from hwlib.contracts.composable_mac import factors
from hwlib.contracts.contract import Expected, Port, Trace, UnitContract

Wide = npt.NDArray[np.int64]

LONGEST_PAUSE = 4
"""Cycles that an array may let pass, above its latency, where nothing is in its way."""

CORNERS = ((-256, -255, -128, -1, 0, 1, 127, 254, 255), (-128, -127, -1, 0, 1, 126, 127))
"""Values of an activation and of a weight that come more often than others."""

WORD_CORNERS = (0, 0x1111, 0x7F7F, 0x7777, 0x8080, 0x8888, 0xFF00, 0xFFFF)
"""The same of a composable array, whose operands are words of 16 bits."""

STRETCHES = 400
"""Stretches of random tiles, each with a pace and a depth of its own."""

STRETCH_CYCLES = 128

DEEP_CYCLES = 66_500
"""Pairs of a tile whose sums pass 2^31 - 1 or -2^31."""

SHARES = (1.0, 1.0, 0.6, 0.1)
"""Shares of the cycles of a stretch in which operands come, or columns may go."""


def contract(config: CoreConfig) -> UnitContract:
    """The contract of the array of a core."""
    rows, columns, composable = config.rows, config.columns, config.composable
    a_bits, w_bits = (16, 16) if composable else (9, 8)
    return UnitContract(
        unit="array",
        class_name="Array",
        class_arguments=(rows, columns, int(composable), config.accumulator_bits),
        ports=(
            *(Port(f"a_{row}", "input", a_bits, not composable) for row in range(rows)),
            *(Port(f"w_{column}", "input", w_bits, not composable) for column in range(columns)),
            *([Port("mode", "input", 2)] if composable else []),
            Port("valid", "input", 1),
            Port("last", "input", 1),
            Port("wanted", "input", 6),
            Port("ready", "output", 1),
            *(Port(f"sum_{row}", "output", 32, signed=True) for row in range(rows)),
            Port("sums_valid", "output", 1),
            Port("sums_ready", "input", 1),
        ),
        latency_bounds=(1, 8),
        stimulus=partial(stimulus, rows, columns, composable),
        expected=_expected,
        together=frozenset(_operands(rows, columns)) if composable else frozenset(),
        handshake=partial(difference, rows, columns, config.accumulator_bits),
    )


def _operands(rows: int, columns: int) -> list[str]:
    """Ports of one pair of operands."""
    sides = (f"a_{row}" for row in range(rows)), (f"w_{column}" for column in range(columns))
    return [*sides[0], *sides[1], "mode"]


def _expected(inputs: Trace, latency: int) -> Expected:
    raise ValueError("what an array gives in a cycle hangs on when it is ready; see `handshake`")


def stimulus(rows: int, columns: int, composable: bool, latency: int, seed: int) -> Trace:
    """Random tiles at every pace, two that overflow, and every pair of an element's operands.

    Nothing of it hangs on the array under test: which pair is the last one that is taken of a tile,
    and which column of it goes when, comes of what the array does.

    Args:
        rows: Of the array.
        columns: Of the array.
        composable: Whether its elements are.
        latency: Of the array; it makes no difference.
        seed: Seed of the random values.

    Returns:
        Every input port, int64 [cycles].
    """
    rng = np.random.default_rng(seed)
    parts = [_stretch(rows, columns, composable, rng) for _ in range(STRETCHES // 2)]
    parts += [_deep(rows, columns, composable, sign) for sign in (0, 1)]
    parts.append(_sweep(rows, columns, composable, rng))
    # What is driven last is what energy is measured with: operands in every cycle or nearly so.
    parts += [_stretch(rows, columns, composable, rng) for _ in range(STRETCHES // 2)]
    return {port: np.concatenate([part[port] for part in parts]) for port in parts[0]}


def _stretch(rows: int, columns: int, composable: bool, rng: np.random.Generator) -> Trace:
    """Tiles of one mean depth, operands and columns at one pace each."""
    cycles = STRETCH_CYCLES
    corners = (WORD_CORNERS, WORD_CORNERS) if composable else CORNERS
    bounds = ((0, 1 << 16), (0, 1 << 16)) if composable else ((-256, 256), (-128, 128))

    mode = rng.integers(0, 4, cycles)

    def operands(names: list[str], side: int) -> dict[str, Wide]:
        drawn = rng.integers(*bounds[side], (len(names), cycles))
        extreme = rng.random(drawn.shape) < rng.choice((0.0, 0.3, 1.0))
        values: Wide = np.where(extreme, rng.choice(corners[side], drawn.shape), drawn)
        if composable:
            values = np.where(
                mode < (2, 3)[side], (_bytes_twice, _nibbles_twice)[side](values), values
            )
        return dict(zip(names, values, strict=True))

    def some(shares: tuple[float, ...]) -> Wide:
        chosen: Wide = (rng.random(cycles) < rng.choice(shares)).astype(np.int64)
        return chosen

    return {
        **operands([f"a_{row}" for row in range(rows)], 0),
        **operands([f"w_{column}" for column in range(columns)], 1),
        **({"mode": mode} if composable else {}),
        "valid": some(SHARES),
        "last": some((1.0, 0.5, 0.1, 0.03)),
        "wanted": rng.integers(1, columns + 1, cycles),
        "sums_ready": some((*SHARES, 0.0)),
    }


def _bytes_twice(words: Wide) -> Wide:
    """Activations of a wide mode: the low byte twice."""
    return (words & 255) * 0x101


def _nibbles_twice(words: Wide) -> Wide:
    """Weights that are no four nibbles: of the low byte each nibble twice."""
    return (words & 15) * 0x11 | (words >> 4 & 15) * 0x1100


def _controls(cycles: int, columns: int, last: Wide, composable: bool, mode: Wide) -> Trace:
    ones = np.ones(cycles, np.int64)
    return {
        **({"mode": mode} if composable else {}),
        "valid": ones,
        "last": last,
        "wanted": columns * ones,
        "sums_ready": ones,
    }


def _deep(rows: int, columns: int, composable: bool, sign: int) -> Trace:
    """A tile of one pair of operands, again and again, until the sum is beyond 32 bits."""
    ones = np.ones(DEEP_CYCLES, np.int64)
    # 255 times 127 or -128, and -256 times -128 or 127.
    a, w = (0xFFFF, (0x77FF, 0x8800)[sign]) if composable else (-256, (-128, 127)[sign])
    last = (np.arange(DEEP_CYCLES) == DEEP_CYCLES - 1).astype(np.int64)
    return {
        **{f"a_{row}": a * ones for row in range(rows)},
        **{f"w_{column}": w * ones for column in range(columns)},
        **_controls(DEEP_CYCLES, columns, last, composable, ones),
    }


def _sweep(rows: int, columns: int, composable: bool, rng: np.random.Generator) -> Trace:
    """Every pair of operands at every element, in tiles whose sums are all wanted.

    Each row has the activations in an order of its own, and each column the weights, such that
    any two of them meet. Of the words of a composable array every pair of bytes meets; its narrow
    products are those of random words.
    """
    a_bits, w_bits = (8, 8) if composable else (9, 8)
    cycles = 1 << a_bits + w_bits
    at = rng.permutation(cycles)
    a_order, w_order = rng.permutation(1 << a_bits), rng.permutation(1 << w_bits)

    def turned(values: Wide, index: Wide, by: int, bits: int) -> Wide:
        drawn: Wide = values[(index + by) % len(values)]
        return drawn if composable else drawn - (1 << bits - 1)

    found = {
        **{f"a_{row}": turned(a_order, at >> w_bits, 5 * row, a_bits) for row in range(rows)},
        **{
            f"w_{column}": turned(w_order, at % (1 << w_bits), 3 * column, w_bits)
            for column in range(columns)
        },
    }
    if composable:
        for name, value in found.items():
            found[name] = (_bytes_twice if name.startswith("a") else _nibbles_twice)(value)
    last = (np.arange(cycles) % (columns + 4) == columns + 3).astype(np.int64)
    mode = np.arange(cycles) // (columns + 4) % 2
    return {**found, **_controls(cycles, columns, last, composable, mode)}


def difference(
    rows: int, columns: int, bits: int, inputs: Trace, outputs: Trace, latency: int
) -> str:
    """What an array did wrong, in words; empty where it did nothing wrong.

    Args:
        rows: Of the array.
        columns: Of the array.
        bits: Of a sum.
        inputs: What stood at its ports from a reset on.
        outputs: What it gave.
        latency: What it is held to.
    """
    taken = (inputs["valid"] & outputs["ready"]).astype(bool)
    ends = np.flatnonzero(taken & (inputs["last"] == 1))
    wanted = inputs["wanted"][ends]
    due = np.concatenate([[0], np.cumsum(wanted)])  # columns before each tile's first
    went = outputs["sums_valid"] & inputs["sums_ready"]
    gone = np.concatenate([[0], np.cumsum(went)[:-1]])  # columns that went before each cycle
    made = due[np.searchsorted(ends, np.arange(len(taken)))]  # columns of tiles that ended before
    shown = np.flatnonzero(outputs["sums_valid"])
    if (early := shown[gone[shown] >= made[shown]]).size:
        return f"sums_valid is 1 in cycle {early[0]}, when every column of every tile was taken"
    sums = _sums(rows, columns, bits, inputs, taken, ends, wanted)
    for row in range(rows):
        given, right = outputs[f"sum_{row}"][shown], sums[gone[shown], row]
        if (wrong := np.flatnonzero(given != right)).size:
            at = shown[wrong[0]]
            tile = int(np.searchsorted(due, gone[at], "right")) - 1
            return (
                f"sum_{row} is {given[wrong[0]]}, not {right[wrong[0]]}, in cycle {at}: "
                f"column {gone[at] - due[tile]} of tile {tile}"
            )
    return _pace(inputs, outputs, taken, ends, due, gone, made, latency)


def _sums(
    rows: int, columns: int, bits: int, inputs: Trace, taken: npt.NDArray[np.bool_],
    ends: Wide, wanted: Wide,
) -> Wide:  # fmt: skip
    """Every column that is wanted, `[columns of all tiles, rows]`."""
    mode = inputs["mode"][taken] if "mode" in inputs else None
    a = np.stack([inputs[f"a_{row}"][taken] for row in range(rows)], axis=1)
    w = np.stack([inputs[f"w_{column}"][taken] for column in range(columns)], axis=1)
    # Products of each pair in turn; floating point is exact up to 2^53.
    left, right = (a[:, None], w[:, None]) if mode is None else factors(a, w, mode[:, None])
    left, right = left.astype(float), right.astype(float)
    bounds = np.concatenate([[0], np.searchsorted(np.flatnonzero(taken), ends, "right")])
    found: list[npt.NDArray[Any]] = [np.zeros((0, rows))]
    for (begin, end), count in zip(pairwise(bounds), wanted, strict=True):
        x, y = left[begin:end].reshape(-1, rows), right[begin:end].reshape(-1, columns)
        found.append(y[:, :count].T @ x)
    half = np.int64(1) << (bits - 1)
    total: Wide = np.concatenate(found).astype(np.int64)
    return (total + half) % (2 * half) - half


def _pace(
    inputs: Trace, outputs: Trace, taken: npt.NDArray[np.bool_], ends: Wide, due: Wide,
    gone: Wide, made: Wide, latency: int,
) -> str:  # fmt: skip
    """Whether sums stay until they are taken, and whether anything is late."""
    cycles = np.arange(len(taken))
    valid = outputs["sums_valid"] == 1
    kept = valid[:-1] & (inputs["sums_ready"][:-1] == 0)
    if (lost := np.flatnonzero(kept & ~valid[1:])).size:
        return f"sums_valid falls in cycle {lost[0] + 1}, though the column was not taken"
    # A tile that finds the array empty.
    alone = ends[gone[ends] == due[: len(ends)]]
    alone = alone[alone + latency < len(cycles)]
    first = np.append(np.flatnonzero(valid), len(cycles))
    came = first[np.searchsorted(first, alone, "right")] - alone
    if (late := np.flatnonzero(came != latency)).size:
        tile, cycle = alone[late[0]], alone[late[0]] + came[late[0]]
        after = f"came after {came[late[0]]} cycles" if cycle < len(cycles) else "never came"
        return f"the first column of the tile that ended in cycle {tile} {after}, not {latency}"
    # Columns that are there to come, and operands that nothing hinders.
    coming = (made > gone) & ~valid
    if (at := _longer(coming, latency + LONGEST_PAUSE)) is not None:
        return f"no column comes for more than {latency + LONGEST_PAUSE} cycles up to cycle {at}"
    refused = (inputs["valid"] == 1) & ~taken & (made == gone)
    if (at := _longer(refused, LONGEST_PAUSE)) is not None:
        return (
            f"operands are refused for more than {LONGEST_PAUSE} cycles up to cycle {at}, though "
            "no tile is held"
        )
    return ""


def _longer(is_so: npt.NDArray[np.bool_], cycles: int) -> int | None:
    """The cycle in which something has been so for more than some cycles."""
    number = np.cumsum(is_so)
    begin = np.maximum.accumulate(np.where(is_so, 0, number))
    found = np.flatnonzero(number - begin > cycles)
    return int(found[0]) if found.size else None
