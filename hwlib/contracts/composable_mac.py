"""The contract of a composable array's element.

Protocol: as that of `mac`, with `mode` beside `a` and `w` in every cycle. All cycles of a tile have
one mode, and the next tile may have another one right after it. Where there is nothing to add `a`
is 0 and the others are anything.

    mode  a                      w, four nibbles
    0     an int8, twice         low nibble, low nibble, high nibble, high nibble of an int8
    1     a uint8, twice         as 0
    2     two int8               an int4, the same, another int4, the same
    3     four int4              four int4

The sum grows by a * w, by the two products of a byte and an int4, or by the four of two int4. Width
and construction are as in `mac`.
"""

from functools import partial
from itertools import product

import numpy as np
import numpy.typing as npt

from hwlib.contracts.contract import Expected, Port, Trace, UnitContract
from hwlib.contracts.mac import DEEPEST, drained, drained_tiles

Wide = npt.NDArray[np.int64]

BYTES = (-128, -127, -16, -1, 0, 1, 15, 16, 127)
"""Values of an int8 that are tried with each other and with every int4."""

UNSIGNED_BYTES = (0, 1, 15, 16, 127, 128, 254, 255)
"""Values of a uint8 that are tried with each of `BYTES`."""

NIBBLES = range(-8, 8)
"""Every int4."""

RANDOM_TILES = 800
"""Random tiles after the corners."""


def contract(bits: int, stages: int) -> UnitContract:
    """The contract of the element of a composable core.

    Args:
        bits: Of the sum, 20 to 32.
        stages: Handed to the class and nothing else.
    """
    return UnitContract(
        unit="composable_mac",
        class_name="ComposableMac",
        class_arguments=(bits, stages),
        ports=(
            Port("a", "input", 16),
            Port("w", "input", 16),
            Port("mode", "input", 2),
            Port("capture", "input", 1),
            Port("shift", "input", 1),
            Port("drain_in", "input", 32, signed=True),
            Port("drain_out", "output", 32, signed=True),
        ),
        latency_bounds=(1, 4),
        stimulus=partial(stimulus, bits),
        expected=partial(expected, bits),
    )


def stimulus(bits: int, latency: int, seed: int) -> Trace:
    """Tiles of all modes one right after the other, while the chain of the tile before moves.

    Every pair of corners is a tile of its own, at each place of a word; then come two tiles so deep
    that their sums pass 2^31 - 1 and -2^31, and random ones, from one cycle on, each of a random
    mode. It ends amid a tile, so that a reset finds a sum to forget.

    Args:
        bits: Of the sum.
        latency: Cycles of the unit under test.
        seed: Seed of the random values.

    Returns:
        `a`, `w`, `mode`, `capture`, `shift`, `drain_in`: int64 [cycles].
    """
    rng = np.random.default_rng(seed)
    tiles = [_tile(0, [[a]] * 3, [[w]] * 3) for a, w in product(BYTES, BYTES)]
    tiles += [_tile(1, [[a]] * 3, [[w]] * 3) for a, w in product(UNSIGNED_BYTES, BYTES)]
    for a, w in product(BYTES, NIBBLES):
        tiles += [_tile(2, places * a, places * w) for places in _places(2)]
    for a, w in product(NIBBLES, NIBBLES):
        tiles += [_tile(3, places * a, places * w) for places in _places(4)]
    # Neighbours of different modes.
    tiles = [tiles[index] for index in rng.permutation(len(tiles))]
    tiles += [_tile(1, [[255]] * 66400, [[127]] * 66400)]
    tiles += [_tile(1, [[255]] * 65900, [[-128]] * 65900)]
    tiles += [_tile(3, [[1] * 4] * 3, [[1] * 4] * 3)]
    always_seen = len(tiles)
    for _ in range(RANDOM_TILES):
        depth = int(rng.integers(1, 1 + (DEEPEST if rng.random() < 0.7 else 2)))
        mode = int(rng.integers(0, 4))
        each, a_bits, w_bits = ((1, 8, 8), (1, 8, 8), (2, 8, 4), (4, 4, 4))[mode]
        low = 0 if mode == 1 else -(1 << a_bits - 1)
        activations = rng.integers(low, low + (1 << a_bits), (depth, each))
        weights = rng.integers(-(1 << w_bits - 1), 1 << w_bits - 1, (depth, each))
        tile = _tile(mode, activations, weights)
        idle = rng.random(depth) < 0.1
        tile[idle] = [0, *rng.integers(0, (1 << 16, 4))]
        tiles.append(tile)
    tiles.append(_tile(2, [[101, 103]] * (latency + 4), [[5, -7]] * (latency + 4)))
    operands = np.concatenate(tiles)
    lengths = [len(tile) for tile in tiles[:-1]]
    return {
        "a": np.ascontiguousarray(operands[:, 0]),
        "w": np.ascontiguousarray(operands[:, 1]),
        "mode": np.ascontiguousarray(operands[:, 2]),
        **drained_tiles(lengths, always_seen, len(operands), bits, latency, rng),
    }


def _places(count: int) -> list[Wide]:
    """Masks of one operand at each place of a word and of all of them, `[cycles, count]` each."""
    masks = [*np.eye(count, dtype=np.int64), np.ones(count, dtype=np.int64)]
    return [np.tile(mask, (3, 1)) for mask in masks]


def _tile(mode: int, a: npt.ArrayLike, w: npt.ArrayLike) -> Wide:
    """A tile at the ports: `a`, `w` and `mode` of every cycle, int64 `[cycles, 3]`.

    Args:
        mode: Of the whole tile.
        a: Activations of each cycle, `[cycles, 1, 2 or 4]`.
        w: The weight of each.
    """
    activations, weights = np.asarray(a, dtype=np.int64), np.asarray(w, dtype=np.int64)
    if mode < 2:
        activations = np.repeat(activations, 2, axis=1)
        weights = np.repeat(np.concatenate([weights, weights >> 4], axis=1), 2, axis=1)
    if mode == 2:
        weights = np.repeat(weights, 2, axis=1)
    bits = 4 if mode == 3 else 8
    word = sum((activations[:, i] % (1 << bits)) << bits * i for i in range(16 // bits))
    nibbles = sum((weights[:, i] % 16) << 4 * i for i in range(4))
    return np.stack([word, nibbles, np.full(len(activations), mode)], axis=1)


def expected(bits: int, inputs: Trace, latency: int) -> Expected:
    """The integer reference: exact sums of products modulo 2^bits, between captures.

    Args:
        bits: Of the sum.
        inputs: As `stimulus` gives them.
        latency: Cycles from operands to the `capture` that can take them.

    Returns:
        `drain_out`, compared while `shift` is high.
    """
    left, right = factors(inputs["a"], inputs["w"], inputs["mode"])
    return drained((left * right).sum(1), inputs, bits, latency)


def factors(a: Wide, w: Wide, mode: Wide) -> tuple[Wide, Wide]:
    """What is multiplied in each cycle: four products, of which a wide mode has but one.

    Args:
        a: At the ports in each cycle, `[cycles, ...]`.
        w: The same.
        mode: Of each cycle, of a shape that fits both.

    Returns:
        The left and the right factors, int64 `[cycles, 4, ...]` each.
    """
    weight = _signed(w & 15 | w >> 4 & 240, 8)  # nibbles 0 and 2
    left, right = [], []
    for place in range(4):
        nibble = 4 * place
        byte = _signed(a >> 8 * place, 8) if place < 2 else 0 * a
        wide = (_signed(a, 8), a & 255) if place == 0 else (0 * a, 0 * a)
        narrow = _signed(a >> nibble, 4)
        left.append(np.select([mode == 0, mode == 1, mode == 2], [*wide, byte], narrow))
        own = _signed(w >> 8 * place, 4) if place < 2 else 0 * w
        narrow = _signed(w >> nibble, 4)
        right.append(np.select([mode < 2, mode == 2], [weight, own], narrow))
    return np.stack(left, axis=1), np.stack(right, axis=1)


def _signed(values: Wide, bits: int) -> Wide:
    """The low bits of each value in two's complement."""
    half = 1 << (bits - 1)
    return (values + half) % (2 * half) - half
