"""Seeded random programs for cores of any size, and the DRAM that they run on."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast, get_args

import numpy as np

from hwlib.commands import (
    CHANNEL_BYTES,
    QUEUES,
    Activate,
    Add,
    AnyCommand,
    Divide,
    Gate,
    GroupWords,
    Load,
    LoadTarget,
    Matmul,
    MatmulOutput,
    Norm,
    Precision,
    Queue,
    Rotate,
    ScaleBy,
    Softmax,
    Store,
    Waits,
    beats,
    queue_of,
    written_words,
)
from hwlib.config import CoreConfig
from hwlib.reference.packing import CHANNEL
from swopt.compiler.schedule import Schedule

STATES = 6
"""States of softmax, in the last words of the activation memory; only softmax writes there."""


def random_program(
    config: CoreConfig, length: int, seed: int
) -> tuple[list[AnyCommand], np.ndarray]:
    """Fills every memory, runs `length` commands of every kind, and stores what is in the memory.

    Every command waits for all that came before it. Any 15 commands that follow one another after
    the first four have every kind and every output of a matmul; operands, biases and shifts lean
    towards the corners. A command's output overlaps its own input only where that is promised.

    Returns:
        The commands, and the DRAM image before them (uint8); its last `config.activation_bytes`
        show the whole activation memory at the end.
    """
    return _Writer(config, seed).program(length)


def overlapping(commands: Sequence[AnyCommand], config: CoreConfig) -> list[AnyCommand]:
    """The same program with the waits alone that it needs, so that its queues overlap."""
    schedule = Schedule(config)
    for command in commands:
        schedule.add(command)
    return list(schedule.commands())


def every_magnitude(config: CoreConfig) -> tuple[list[AnyCommand], np.ndarray]:
    """Norms of variances and divisions by totals of every bit length, through the lanes' set-up.

    Returns:
        The commands without waits, and the DRAM image before them; results are from byte 4224 on:
        four words a norm, and from word 256 on one word a division. For cores of 4 rows.
    """
    # Constant channels, so the variance is epsilon alone; the multiplier gives another mean.
    constant = np.full((8, config.rows), 100, "<i2")
    totals = np.zeros((32, 4, config.rows), "<u2")  # states of softmax
    for bit in range(32):
        totals[bit, 1 + bit // 16] = 1 << bit % 16
    weighted = np.tile(np.array([[1234], [0], [-5000], [-1]], "<i2"), (1, config.rows))
    words = np.concatenate([constant, totals.view("<i2").reshape(128, -1), weighted])
    channels = np.zeros(8, CHANNEL)
    channels["multiplier"], channels["shift"] = 20000, 21
    dram = np.zeros(8192, np.uint8)
    dram[: words.nbytes] = words.view(np.uint8).ravel()
    dram[4096 : 4096 + channels.nbytes] = channels.view(np.uint8)
    program: list[AnyCommand] = [
        Load(target="activations", address=0, words=len(words), dram_address=0),
        Load(target="vector_channels", address=0, words=8, dram_address=4096),
    ]
    for bit in range(32):
        program += [
            Norm(
                source=0, out=256 + 4 * bit, count=8, channel=0, centred=True, multiplier=30000,
                shift=14, base=6 - bit // 16 * 8, epsilon=1 << bit,
            ),
            Divide(
                source=136, state=8 + 4 * bit, out=512 + bit, count=2, multiplier=40000, shift=20
            ),
        ]  # fmt: skip
    program.append(Store(address=256, words=288, dram_address=4224))
    return program, dram


def contention(config: CoreConfig, seed: int = 0) -> tuple[list[AnyCommand], np.ndarray]:
    """All engines at work in one part of the activation memory, and then in the next.

    The commands of a part wait for those of the part before and for nothing else, and none depends
    on another one of its part. Engines that meet in a bank follow each other from bank to bank
    afterwards, so commands are short, and each begins in a bank that is drawn: in a few seeds every
    pair of ports meets in every bank. For cores of 4 columns.

    Returns:
        The commands, and the DRAM image before them.
    """
    rng = np.random.default_rng(seed)
    size, word = config.activation_bytes, 2 * config.rows
    part = 256
    dram = rng.integers(0, 256, 4 * size, dtype=np.uint8)
    entries = dram[size : size + CHANNEL_BYTES * config.columns].view(CHANNEL)
    entries["shift"] = 16
    commands: list[AnyCommand] = [
        Load(target="activations", address=0, words=config.activation_words, dram_address=0),
        Load(target="matmul_channels", address=0, words=config.columns, dram_address=size),
    ]
    for at in range(0, config.activation_words, part):
        counts = Counter(queue_of(command) for command in commands)
        before = Waits(**{queue: counts[queue] for queue in QUEUES})
        for turn in range(8):
            first = [at + int(offset) for offset in rng.integers(0, 4, 8)]
            words = [int(count) for count in rng.integers(5, 17, 4)]
            output = ("int32", "int16", "residual", "int32")[turn % 4]
            commands += [
                Matmul(
                    activation_address=first[0], weight_source="activations",
                    weight_address=first[1] + 20, depth=words[0], columns=config.columns,
                    output=cast(MatmulOutput, output), out=first[2] + 40 + 8 * turn, waits=before,
                ),
                Add(
                    source=first[3] + 108, second=first[4] + 128,
                    out=first[5] + 148 + 16 * (turn % 2), count=words[1], waits=before,
                ),
                Load(
                    target="activations", address=first[6] + 184 + 4 * turn, words=words[2],
                    dram_address=2 * size + (at + 16 * turn) * word, waits=before,
                ),
                Store(
                    address=first[7] + 232, words=words[3],
                    dram_address=3 * size + (at + 32 * turn) * word, waits=before,
                ),
            ]  # fmt: skip
    counts = Counter(queue_of(command) for command in commands)
    everything = Waits(**{queue: counts[queue] for queue in QUEUES})
    final = Store(address=0, words=config.activation_words, dram_address=size, waits=everything)
    return [*commands, final], dram


def paces(config: CoreConfig) -> list[tuple[list[AnyCommand], list[AnyCommand], int]]:
    """Loads and stores of 100 and of 200 words, and by how many cycles these must differ.

    A DRAM that sends a beat a cycle lets a load or a store move a beat a cycle, or a word a cycle
    where a beat holds several. DRAM of 8 KiB is enough.
    """

    def pair(make: Callable[[int], AnyCommand]) -> tuple[list[AnyCommand], list[AnyCommand], int]:
        short, long = make(100), make(200)
        return [short], [long], max(100, beats(long, config) - beats(short, config))

    targets: list[tuple[LoadTarget, int]] = [
        ("activations", 8), ("weights", 8), ("weights", 4), ("weights", 2),
        ("matmul_channels", 8), ("vector_channels", 8),
    ]  # fmt: skip
    loads = [
        partial(Load, target=target, address=0, dram_address=0, packed_bits=cast(Any, bits))
        for target, bits in targets
    ]
    return [
        *(pair(lambda words, load=load: load(words=words)) for load in loads),
        pair(lambda words: Store(address=0, words=words, dram_address=0)),
    ]


def groups(config: CoreConfig, seed: int = 0) -> tuple[list[AnyCommand], np.ndarray]:
    """Weights of every packing in groups of every size, the last not whole, each under a matmul.

    Returns:
        The commands without waits, and the DRAM image before them; its last
        `config.activation_bytes` show the activation memory at the end.
    """
    rng, size = np.random.default_rng(seed), config.activation_bytes
    dram = rng.integers(0, 256, 8 * size, dtype=np.uint8)
    dram[size : size + CHANNEL_BYTES] = [0, 0, 0, 0, 1, 0, 1, 0]
    commands: list[AnyCommand] = [
        Load(target="activations", address=0, words=200, dram_address=0),
        Load(target="matmul_channels", address=0, words=1, dram_address=size),
    ]
    widenings = [(4, 8), (2, 8), *([(2, 4)] if config.composable else [])]
    loads = [(*bits, group) for bits in widenings for group in get_args(GroupWords)]
    for at, (packed_bits, memory_bits, group_words) in enumerate(loads):
        words = 2 * (group_words + 1) + group_words // 2 + 1
        load = Load(
            target="weights", address=at, words=words, dram_address=2 * size + 1024 * at,
            packed_bits=packed_bits, memory_bits=memory_bits, group_words=group_words,
        )  # fmt: skip
        narrow = memory_bits == 4
        product = Matmul(
            activation_address=0, weight_address=at, depth=written_words(load) << narrow,
            columns=config.columns, scale_by="uniform", output="int32",
            out=200 + 2 * config.columns * at, precision="8x4" if narrow else "8x8",
        )  # fmt: skip
        commands += [load, product]
    commands.append(Store(address=0, words=config.activation_words, dram_address=7 * size))
    return commands, dram


class _Writer:
    def __init__(self, config: CoreConfig, seed: int) -> None:
        self.config = config
        self.rng = np.random.default_rng(seed)
        self.commands: list[AnyCommand] = []
        self.issued: dict[Queue, int] = dict.fromkeys(QUEUES, 0)
        self.dram = bytearray()
        self.free_words = config.activation_words - 4 * STATES
        self.begun: set[int] = set()  # states that a softmax has written
        self.kinds: dict[str, Callable[[], AnyCommand]] = {
            "load": self._any_load,
            "store": self._any_store,
            **{output: partial(self._matmul, output) for output in get_args(MatmulOutput)},
            "norm": self._norm,
            "activate": self._activate,
            "gate": self._gate,
            "rotate": self._rotate,
            "add": self._add,
            "softmax": self._softmax,
            "divide": self._divide,
        }
        self.argmax_begun = False

    def program(self, length: int) -> tuple[list[AnyCommand], np.ndarray]:
        config = self.config
        self._issue(self._load("activations", 0, config.activation_words))
        self._issue(self._load("weights", 0, config.weight_words))
        self._issue(self._load("matmul_channels", 0, config.channel_entries))
        self._issue(self._load("vector_channels", 0, config.channel_entries))
        order = list(self.rng.permutation(list(self.kinds)))
        for index in range(length):
            self._issue(self.kinds[order[index % len(order)]]())
        self._issue(self._store(0, config.activation_words))
        return self.commands, np.frombuffer(bytes(self.dram), np.uint8)

    def _issue(self, command: AnyCommand) -> None:
        waits = Waits(**dict(self.issued))
        self.commands.append(command.model_copy(update={"waits": waits}))
        self.issued[queue_of(command)] += 1

    # Small choices.

    def _upto(self, low: int, high: int) -> int:
        """Uniform in low .. high."""
        return int(self.rng.integers(low, high + 1))

    def _often(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def _even(self, most: int) -> int:
        """Uniform over the even counts up to `most` that leave room for what must lie apart."""
        return 2 * self._upto(1, min(most, self.free_words // 10) // 2)

    def _place(self, words: int, *apart: tuple[int, int]) -> int:
        """First of some words that touch none of the spans (first, words)."""
        while True:
            at = self._upto(0, self.free_words - words)
            if all(at + words <= first or first + size <= at for first, size in apart):
                return at

    def _zero_point(self) -> int:
        return int(self.rng.choice([-128, 127, 0, self._upto(-128, 127)]))

    def _lane(self) -> int | None:
        return self._upto(0, self.config.rows - 1) if self._often(0.3) else None

    def _scale(self, middle: int) -> dict[str, int]:
        """Multiplier and shift, mostly about 2^(16 - middle)."""
        shift = self._upto(middle - 3, middle + 3) if self._often(0.7) else self._upto(1, 47)
        multiplier = self._upto(0, 65535) if self._often(0.8) else self._upto(0, 1) * 65535
        return {"multiplier": multiplier, "shift": shift}

    def _middle(self, middle: int, results: dict[str, Any]) -> int:
        """Four bits further for results of four bits less."""
        return middle + 4 * (results.get("out_bits") == 4)

    # DMA.

    def _load(
        self,
        target: LoadTarget,
        address: int,
        words: int,
        packed_bits: int = 8,
        memory_bits: int = 8,
        group_words: int = 0,
    ) -> Load:
        command = Load(
            target=target,
            address=address,
            words=words,
            dram_address=len(self.dram),
            packed_bits=cast(Any, packed_bits),
            memory_bits=cast(Any, memory_bits),
            group_words=cast(Any, group_words),
        )
        size = beats(command, self.config) * self.config.dma_bytes
        if target.endswith("channels"):
            data = self._entries(words)
        elif target == "activations":
            data = self._lanes(words)
        else:
            data = self._weights(size)
        filler = self.rng.integers(0, 256, size, np.uint8).tobytes()
        self.dram += data + filler[len(data) :]
        return command

    def _entries(self, count: int) -> bytes:
        entries = np.zeros((count, CHANNEL_BYTES), np.uint8)
        sizes = self.rng.choice([1, 100, 1000, 1 << 14, 1 << 16, 1 << 31], count)
        bias = self.rng.integers(-sizes, sizes)
        bias = np.where(self.rng.random(count) < 0.1, -(1 << 31), bias)
        entries[:, :4] = bias.astype("<i4")[:, None].view(np.uint8)
        multiplier = np.where(
            self.rng.random(count) < 0.1, 65535, self.rng.integers(0, 65536, count)
        )
        entries[:, 4:6] = multiplier.astype("<u2")[:, None].view(np.uint8)
        usual = self.rng.integers(18, 32, count)
        entries[:, 6] = np.where(
            self.rng.random(count) < 0.7, usual, self.rng.integers(1, 48, count)
        )
        entries[:, 7] = self.rng.integers(0, 256, count)
        return entries.tobytes()

    def _lanes(self, words: int) -> bytes:
        """Stretches of words: anything, small, corners of int16 or of int8, one value, zeros."""
        rows = self.config.rows
        value = np.empty((words, rows), np.int16)
        at = 0
        while at < words:
            count = min(words - at, self._upto(1, 40))
            shape = (count, rows)
            match self._upto(0, 6):
                case 0 | 1:
                    stretch = self.rng.integers(-(1 << 15), 1 << 15, shape)
                case 2 | 3:
                    size = 1 << self._upto(1, 12)
                    stretch = self.rng.integers(-size, size, shape)
                case 4:
                    stretch = self.rng.choice([-(1 << 15), -1, 0, 1, (1 << 15) - 1], shape)
                case 5:
                    corners = np.array([-128, -127, -1, 0, 1, 127]).astype(np.int8).view(np.uint8)
                    low, high = (self.rng.choice(corners, shape).astype(np.int64) for _ in range(2))
                    stretch = high << 8 | low
                case _:
                    stretch = np.broadcast_to(self.rng.integers(-9, 9, (count, 1)), shape)
            value[at : at + count] = stretch.astype(np.uint16).view(np.int16)
            at += count
        return value.astype("<i2").tobytes()

    def _weights(self, size: int) -> bytes:
        data = self.rng.integers(0, 256, size)
        corners = self.rng.random(size) < 0.3
        return (
            np.where(corners, self.rng.choice([0, 1, 127, 128, 255], size), data)
            .astype(np.uint8)
            .tobytes()
        )

    def _any_load(self) -> Load:
        target = cast(LoadTarget, self.rng.choice(get_args(LoadTarget)))
        words = self._upto(1, 40)
        if target == "activations":
            return self._load(target, self._place(words), words)
        weights = target == "weights"
        size = self.config.weight_words if weights else self.config.channel_entries
        memory_bits = int(self.rng.choice([8, 4])) if weights and self.config.composable else 8
        packings = [bits for bits in (8, 4, 2) if bits <= memory_bits]
        packed_bits = int(self.rng.choice(packings)) if weights else 8
        group = 0
        if weights and self.config.grouped_weights and packed_bits < memory_bits:
            group = int(self.rng.choice(get_args(GroupWords)))
            words += group > 0 and words % (group + 1) == 1
        place = self._upto(0, size - words)
        return self._load(target, place, words, packed_bits, memory_bits, group)

    def _store(self, address: int, words: int) -> Store:
        command = Store(address=address, words=words, dram_address=len(self.dram))
        size = beats(command, self.config) * self.config.dma_bytes
        self.dram += self.rng.integers(0, 256, size, np.uint8).tobytes()
        return command

    def _any_store(self) -> Store:
        words = self._upto(1, 20)
        return self._store(self._upto(0, self.config.activation_words - words), words)

    # The array.

    def _matmul(self, output: MatmulOutput) -> Matmul:
        config = self.config
        most = min(200, config.activation_words, config.weight_words)
        depth = self._upto(1, most) if self._often(0.1) else self._upto(1, 24)
        columns = config.columns if self._often(0.4) else self._upto(1, config.columns)
        precision = self._precision()
        from_activations = precision == "8x8" and self._often(0.4)
        lanes = range(0, max(1, config.rows - config.columns + 1), config.columns)
        words = 2 * columns + 1
        out = self._place(words)
        fields: dict[str, Any] = {}
        if output == "accumulate":
            fields["first"] = self._often(0.3)
            state = self._state(True)
            alpha = self._place(1, (out, words)) if state is None else state + 3
            fields["alpha_address"] = alpha
        elif output == "argmax":
            fields["first"] = not self.argmax_begun or self._often(0.3)
            fields["index_base"] = self._upto(0, 65535 - columns)
            self.argmax_begun = True
        else:
            fields["lane"] = self._lane()
        if output == "int8":
            fields["first_half"] = self._upto(0, 1)
        if output in ("int8", "int16"):
            fields["zero_point"] = self._zero_point()
        return Matmul(
            activation_address=self._upto(0, config.activation_words - depth),
            weight_source="activations" if from_activations else "weights",
            weight_address=self._upto(
                0, (config.activation_words if from_activations else config.weight_words) - depth
            ),
            weight_lane=int(self.rng.choice(lanes)) if from_activations else 0,
            depth=depth,
            columns=columns,
            precision=cast(Any, precision),
            unsigned=precision == "8x8" and self._often(0.4),
            scale_by=cast(ScaleBy, self.rng.choice(get_args(ScaleBy))),
            channel=self._upto(0, config.channel_entries - max(config.rows, columns)),
            output=output,
            out=out,
            **fields,
        )

    def _precision(self) -> str:
        return str(self.rng.choice(get_args(Precision))) if self.config.composable else "8x8"

    # The vector engine.

    def _results(self, most: int) -> tuple[int, dict[str, Any]]:
        """A count of results up to `most`, with their width and their zero point."""
        if self.config.composable and self._often(0.5):
            zero_point = int(self.rng.choice([-8, 7, 0, self._upto(-8, 7)]))
            count = max(4, self._even(most) // 4 * 4)
            return count, {"out_bits": 4, "zero_point": zero_point}
        return self._even(most), {"zero_point": self._zero_point()}

    def _norm(self) -> Norm:
        count, results = self._results(200 if self._often(0.2) else 24)
        source = self._place(count)
        shift = self._upto(1, 47) if self._often(0.2) else self._upto(8, 16)
        usual = (1 << (shift + 4)) // count
        most = ((1 << (shift + 5)) - 1) // count
        return Norm(
            source=source,
            out=self._place(count // 2, (source, count)),
            count=count,
            channel=self._upto(0, self.config.channel_entries - count),
            multiplier=min(65535, usual if self._often(0.6) else self._upto(0, min(65535, most))),
            shift=shift,
            epsilon=int(self.rng.choice([1, self._upto(1, 1000), (1 << 32) - 1])),
            base=self._upto(0, 12) if self._often(0.8) else self._upto(-32, 31),
            centred=self._often(0.5),
            **results,
        )

    def _activate(self) -> Activate:
        count, results = self._results(40)
        source = self._place(count)
        return Activate(
            source=source,
            out=self._place(count // 2, (source, count)),
            count=count,
            function=cast(Any, self.rng.choice(["gelu", "silu"])),
            **results,
            **self._scale(self._middle(24, results)),
        )

    def _gate(self) -> Gate:
        count, results = self._results(24)
        source, second = self._place(count), self._place(count)
        return Gate(
            source=source,
            second=second,
            out=self._place(count // 2, (source, count), (second, count)),
            count=count,
            gate_shift=self._upto(1, 47) if self._often(0.2) else self._upto(4, 18),
            **results,
            **self._scale(self._middle(24, results)),
        )

    def _rotate(self) -> Rotate:
        width = 2 * self._even(20)
        source, table = self._place(width), self._place(width)
        return Rotate(
            source=source,
            table=table,
            out=self._place(width // 2, (source, width), (table, width)),
            count=width // 2,
            lane=self._lane(),
            **self._scale(23),
        )

    def _add(self) -> Add:
        count = self._upto(1, 40)
        source, second = self._place(count), self._place(count)
        elsewhere = self._place(count, (source, count), (second, count))
        apart = abs(source - second) >= count or source == second
        out = int(self.rng.choice([source, second, elsewhere])) if apart else elsewhere
        return Add(source=source, second=second, out=out, count=count)

    def _state(self, begun: bool) -> int | None:
        """A place for a state, or one that holds a state."""
        if not begun:
            return self.free_words + 4 * self._upto(0, STATES - 1)
        return int(self.rng.choice(sorted(self.begun))) if self.begun else None

    def _softmax(self) -> Softmax:
        count = self._upto(1, 40)
        old = self._state(True) if self._often(0.7) else None
        first = old is None
        state = cast(int, self._state(False) if old is None else old)
        self.begun.add(state)
        rows = self.config.rows
        offsets = [(1 << 16) - 1, -(1 << 16), *(self._upto(-rows - 1, count + 1) for _ in range(4))]
        source = self._place(count)
        return Softmax(
            source=source,
            out=self._place((count + 1) // 2, (source, count)),
            state=state,
            count=count,
            offset=int(self.rng.choice(offsets)),
            first=first,
        )

    def _divide(self) -> AnyCommand:
        state = self._state(True)
        if state is None:
            return self._softmax()
        count, results = self._results(24)
        source = self._place(2 * count)
        return Divide(
            source=source,
            state=state,
            out=self._place(count // 2, (source, 2 * count)),
            count=count,
            **results,
            **self._scale(self._middle(23, results)),
        )
