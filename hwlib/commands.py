"""The commands of the core that runs a whole model, and their 256-bit encoding.

A program is a list of commands. Each goes to one of four queues (load, matmul, vector, store) in
program order, and each queue begins and completes its commands in order. A command waits for
counts: `waits.matmul = 3` holds it until three matmul commands of the program are complete. The
matmul queue fetches the next tile's operands while a tile drains, so a matmul that reads what an
earlier one wrote waits for it too.

Words and layouts. A word of the activation memory holds 16 bits for each of the R rows (lanes); one
of the weight memory 16 bits for each of the C columns. An int16 tensor takes one word a channel, an
int8 tensor one word for two channels (2i in the low byte of each lane, 2i + 1 in the high byte), an
int4 tensor one word for four channels (4i in the lowest nibble), an int32 tensor two words a
channel (low half first). Weights are int8 or int4 in the same way, a column for a lane. Lane r of
token group g is token g * R + r. Composable cores alone compute with 4 bits.
"""

from typing import Annotated, Literal, get_args

from pydantic import Field

from hwlib.config import LANE_BYTES, CoreConfig
from hwlib.frozen import Frozen

COMMAND_BITS = 256

FACTOR_BITS = 4
"""Bits of a column's factor in the header of a group of weights."""

CHANNEL_BYTES = 8
"""One entry of a channel table in DRAM, little-endian: int32 bias, uint16 multiplier, uint8 shift,
a byte that is ignored."""

Queue = Literal["load", "matmul", "vector", "store"]
QUEUES: tuple[Queue, ...] = get_args(Queue)

Address = Annotated[int, Field(ge=0, lt=1 << 16)]
Count = Annotated[int, Field(ge=1, lt=1 << 16)]
DRAM_BYTES = 1 << 32
"""What a DRAM address reaches."""

DramAddress = Annotated[int, Field(ge=0, lt=DRAM_BYTES)]
Completed = Annotated[int, Field(ge=0)] | None
Multiplier = Annotated[int, Field(ge=0, lt=1 << 16)]
Shift = Annotated[int, Field(ge=1, le=47)]
Int8 = Annotated[int, Field(ge=-128, le=127)]
OutBits = Literal[8, 4]
GroupWords = Literal[0, 4, 8, 16, 32, 64]
Lane = Annotated[int, Field(ge=0, lt=32)] | None


class Waits(Frozen):
    """How many commands of each queue must be complete before this one begins."""

    load: Completed = None
    """Load commands of the program so far, or None for no matter."""

    matmul: Completed = None
    """Matmul commands."""

    vector: Completed = None
    """Vector commands."""

    store: Completed = None
    """Store commands."""


class Command(Frozen):
    """What every command has."""

    waits: Waits = Waits()
    """What must be complete first."""


LoadTarget = Literal["activations", "weights", "matmul_channels", "vector_channels"]


class Load(Command):
    """DRAM to a memory or a channel table."""

    kind: Literal["load"] = "load"
    target: LoadTarget
    """Where the words go."""
    address: Address
    """First word or entry written."""
    words: Count
    """Words or entries; of grouped weights the headers count, too."""
    dram_address: DramAddress
    """First byte, a multiple of the beat. What is left of the last beat is dropped."""
    packed_bits: Literal[8, 4, 2] = 8
    """Weights only: bits of one weight in DRAM, two's complement, lowest first; they are widened to
    `memory_bits`. A word is then 2 * columns * packed_bits / memory_bits bytes: for each column its
    weights in the order of their channels."""
    memory_bits: Literal[8, 4] = 8
    """Weights only: bits of one weight in the weight memory, at least `packed_bits`. A word holds
    two weights a column, or four."""
    group_words: GroupWords = 0
    """Weights that are widened, on cores with grouped weights: in DRAM a header stands before each
    so many words, as long as a word. The lowest `FACTOR_BITS` of each column's part of it are one
    less than what that column's weights are multiplied by as they are widened; of the products the
    lowest `memory_bits` count. The last group may have fewer words; 0: no headers."""


class Store(Command):
    """Activation memory to DRAM."""

    kind: Literal["store"] = "store"
    address: Address
    """First word read."""
    words: Count
    """Words; the last beat is padded with zeros."""
    dram_address: DramAddress
    """First byte, a multiple of the beat."""


Precision = Literal["8x8", "8x4", "4x4"]
MatmulOutput = Literal["int8", "int16", "residual", "int32", "accumulate", "argmax"]
ScaleBy = Literal["column", "uniform", "lane"]


class Matmul(Command):
    """One tile of a product: R rows by up to C columns, over any depth, and what becomes of it.

    sum[r, c] = sum over d < depth and h < 2 of a[d][r].byte[h] * w[d][c].byte[h], wrapping at 32
    bits, where a is read from the activation memory and w from either memory. From the activation
    memory, column c reads lane `weight_lane` + c, and columns beyond the last lane read 0.

    That is `precision` 8x8. On composable cores weights from the weight memory may have 4 bits: at
    8x4 word d // 2 of the weights serves word d of the activations, with nibbles 2 (d % 2) + h; at
    4x4 both words hold four nibbles, h < 4.

    Each column c < `columns` is then drained in turn. With the channel entry e(c, r):

        biased = (sum + e.bias) wrapped to 32 bits
        scaled = (biased * e.multiplier + 2^(e.shift - 1)) >> e.shift, arithmetic

    and, by `output`:
    - int8: sat8(scaled + zero_point) into byte (first_half + c) % 2 of word
      out + (first_half + c) // 2 (only the halves that are given are written),
    - int16: sat16(scaled + zero_point) into word out + c,
    - residual: word out + c becomes sat16(word + sat16(scaled)),
    - int32: sat32(scaled) into words out + 2c (low half) and out + 2c + 1,
    - accumulate: words out + 2c, out + 2c + 1 as int32 become sum, if `first`, else
      (word >> alpha) + sum wrapped to 32 bits, where alpha is the low five bits of the lane of the
      word at `alpha_address` (no channel entry is used),
    - argmax: each lane keeps the greatest sat32(scaled) seen since a command with `first`, and the
      index (`index_base` + c) at which it was first seen; at the end the index is in word out.
    """

    kind: Literal["matmul"] = "matmul"
    activation_address: Address
    """First word of the activations."""
    weight_source: Literal["weights", "activations"] = "weights"
    """The memory that the second operand is read from."""
    weight_address: Address
    """First word of the second operand."""
    weight_lane: Annotated[int, Field(ge=0, lt=32)] = 0
    """First lane of a second operand from the activation memory: a multiple of C."""
    depth: Count
    """Words of the activations: half of the inner product's length, or a quarter at 4x4."""
    columns: Annotated[int, Field(ge=1, le=32)]
    """Columns that are drained."""
    precision: Precision = "8x8"
    """Bits of an activation and of a weight."""
    unsigned: bool = False
    """8x8: whether the activations' bytes are unsigned."""
    scale_by: ScaleBy = "column"
    """Channel entry e(c, r): channel + c, channel, or channel + r."""
    channel: Address = 0
    """First channel entry."""
    output: MatmulOutput = "int8"
    """What becomes of the sums."""
    out: Address
    """First word written."""
    first_half: Literal[0, 1] = 0
    """int8: byte of the first column."""
    zero_point: Int8 = 0
    """int8 and int16: added after scaling."""
    lane: Lane = None
    """Only this lane is written; None for all. Not for accumulate and argmax."""
    first: bool = False
    """accumulate and argmax: forget what was before."""
    alpha_address: Address = 0
    """accumulate: the word of shifts."""
    index_base: Address = 0
    """argmax: index of the first column; that of the last is at most 65535."""


class Norm(Command):
    """LayerNorm or RMSNorm of int16 channels to int8 or int4 (`hwlib.reference.vector`).

    mean, r, shift = norm_statistics(x, multiplier, shift, epsilon, base, centred); z = normalize(x,
    mean, r, shift); y = affine(z, gamma, beta, e.shift, zero_point, out_bits) with beta = e.bias
    and gamma = e.multiplier as int16 of entry e = channel + c of the vector channel table.
    """

    kind: Literal["norm"] = "norm"
    source: Address
    """First word, int16."""
    out: Address
    """First word, of `out_bits`."""
    count: Count
    """Channels, even, and a multiple of 4 where results have 4 bits."""
    channel: Address
    """First entry of the vector channel table."""
    multiplier: Multiplier
    """About 2^(shift + 4) / count."""
    shift: Shift
    """Shift of the mean."""
    epsilon: Annotated[int, Field(ge=1, lt=1 << 32)] = 1
    """Added to count^2 times the variance."""
    base: Annotated[int, Field(ge=-32, le=31)]
    """Shift of the second pass for a deviation of one bit."""
    centred: bool
    """LayerNorm; else RMSNorm."""
    zero_point: Int8 = 0
    """Added after scaling."""
    out_bits: OutBits = 8
    """Bits of a result: 8, or 4 on composable cores."""


class Activate(Command):
    """y = scale(activate(x, function), multiplier, shift, zero_point, out_bits), of int16."""

    kind: Literal["activate"] = "activate"
    source: Address
    """First word, int16 in 1/64."""
    out: Address
    """First word, of `out_bits`."""
    count: Count
    """Channels, even, and a multiple of 4 where results have 4 bits."""
    function: Literal["gelu", "silu"]
    """Which table."""
    multiplier: Multiplier
    """Of the scale."""
    shift: Shift
    """Of the scale."""
    zero_point: Int8 = 0
    """Added after scaling."""
    out_bits: OutBits = 8
    """Bits of a result: 8, or 4 on composable cores."""


class Gate(Command):
    """y = scale(gate(g, up, gate_shift), multiplier, shift, zero_point, out_bits), of two int16."""

    kind: Literal["gate"] = "gate"
    source: Address
    """First word of g, int16 in 1/64."""
    second: Address
    """First word of up, int16."""
    out: Address
    """First word, of `out_bits`."""
    count: Count
    """Channels, even, and a multiple of 4 where results have 4 bits."""
    gate_shift: Shift
    """Shift of the product."""
    multiplier: Multiplier
    """Of the scale."""
    shift: Shift
    """Of the scale."""
    zero_point: Int8 = 0
    """Added after scaling."""
    out_bits: OutBits = 8
    """Bits of a result: 8, or 4 on composable cores."""


class Rotate(Command):
    """Rotary embedding of one head: y = scale(rotate(...), multiplier, shift, 0), int16 to int8.

    Channel j < count pairs with channel j + count; words table + 2j and table + 2j + 1 hold cosine
    and sine of each lane's token.
    """

    kind: Literal["rotate"] = "rotate"
    source: Address
    """First word, int16, 2 * count channels."""
    table: Address
    """First word of the cosines and sines, Q1.14."""
    out: Address
    """First word, int8, 2 * count channels."""
    count: Count
    """Pairs of channels, even: half of the head's width."""
    multiplier: Multiplier
    """Of the scale."""
    shift: Shift
    """Of the scale."""
    lane: Lane = None
    """Only this lane is written; None for all."""


class Add(Command):
    """Sum of two int16 tensors, saturating."""

    kind: Literal["add"] = "add"
    source: Address
    """First word of one."""
    second: Address
    """First word of the other."""
    out: Address
    """First word of the sum; may be one of the two."""
    count: Count
    """Words."""


class Softmax(Command):
    """One block of keys (`hwlib.reference.softmax.block`): int16 scores to bytes 0..127.

    Row r sees key i of the block where i - r <= offset. The state is four words: maximum (octaves),
    low and high half of the total, alpha. An odd count gets a 0 behind it.
    """

    kind: Literal["softmax"] = "softmax"
    source: Address
    """First word of the scores, one a key."""
    out: Address
    """First word of the probabilities, two keys a word."""
    state: Address
    """First of the four words of state."""
    count: Count
    """Keys of the block."""
    offset: Annotated[int, Field(ge=-(1 << 16), lt=1 << 16)] = (1 << 16) - 1
    """How far row 0 sees; the default is everything."""
    first: bool = False
    """The rows have seen no key: what the state holds is ignored."""


class Divide(Command):
    """y = scale(divide(weighted, total), multiplier, shift, zero_point, out_bits), of int32."""

    kind: Literal["divide"] = "divide"
    source: Address
    """First word of the weighted sums, int32."""
    state: Address
    """First of the four words of state."""
    out: Address
    """First word, of `out_bits`."""
    count: Count
    """Channels, even, and a multiple of 4 where results have 4 bits."""
    multiplier: Multiplier
    """Of the scale."""
    shift: Shift
    """Of the scale."""
    zero_point: Int8 = 0
    """Added after scaling."""
    out_bits: OutBits = 8
    """Bits of a result: 8, or 4 on composable cores."""


Vector = Norm | Activate | Gate | Rotate | Add | Softmax | Divide
AnyCommand = Load | Store | Matmul | Vector

KINDS: tuple[type[Command], ...] = (
    Load,
    Store,
    Matmul,
    Norm,
    Activate,
    Gate,
    Rotate,
    Add,
    Softmax,
    Divide,
)
"""Every kind; its place is its opcode."""


def queue_of(command: AnyCommand) -> Queue:
    """The queue that runs it."""
    return queue_of_kind(type(command))


def queue_of_kind(kind: type[Command]) -> Queue:
    """The queue that runs commands of a kind."""
    queues: dict[type[Command], Queue] = {Load: "load", Store: "store", Matmul: "matmul"}
    return queues.get(kind, "vector")


WAIT_BITS = 16

NORM_CHANNELS = 2048
"""Most channels of a norm: the lanes' sums are that wide."""

_COMMON = {
    "opcode": 4,
    **{
        f"{part}_{queue}": width for queue in QUEUES for part, width in (("waits", 1), ("wait", 16))
    },
}
_FIELDS: dict[str, dict[str, int]] = {
    "load": {
        "target": 2, "address": 16, "words": 16, "dram_address": 32, "packed_bits": 2,
        "memory_bits": 1, "group_words": 3,
    },
    "store": {"address": 16, "words": 16, "dram_address": 32},
    "matmul": {
        "activation_address": 16, "weight_address": 16, "depth": 16, "out": 16, "channel": 16,
        "alpha_address": 16, "index_base": 16, "zero_point": 8, "columns": 6, "weight_lane": 5,
        "output": 3, "scale_by": 2, "weight_source": 1, "unsigned": 1, "first_half": 1, "first": 1,
        "masked": 1, "lane": 5, "precision": 2,
    },
}  # fmt: skip
_VECTOR_FIELDS = {
    "source": 16, "second": 16, "out": 16, "count": 16, "channel": 16, "multiplier": 16,
    "shift": 6, "zero_point": 8, "extra": 32, "small": 6, "flag": 1, "masked": 1, "lane": 5,
    "out_bits": 1,
}  # fmt: skip
"""The vector commands share one layout. `second` is also table and state; `extra` is epsilon or
offset; `small` is base or gate_shift; `flag` is centred, silu or first."""


def command_bits(queue: Queue, config: CoreConfig) -> int:
    """Bits of a queue's commands that a core has a use for."""
    return max(
        low + width
        for name, (low, width) in layout(queue).items()
        if name != "group_words" or config.grouped_weights
    )


def layout(kind: str) -> dict[str, tuple[int, int]]:
    """Field -> (lowest bit, width) of a kind of command; bits beyond are 0."""
    fields = _COMMON | _FIELDS.get(kind, _VECTOR_FIELDS)
    at, places = 0, {}
    for name, width in fields.items():
        places[name] = (at, width)
        at += width
    return places


_CHOICES: dict[str, tuple[object, ...]] = {
    "target": get_args(LoadTarget),
    "packed_bits": (8, 4, 2),
    "memory_bits": (8, 4),
    "group_words": get_args(GroupWords),
    "precision": get_args(Precision),
    "out_bits": get_args(OutBits),
    "output": get_args(MatmulOutput),
    "scale_by": get_args(ScaleBy),
    "weight_source": ("weights", "activations"),
}


def encode(command: AnyCommand) -> int:
    """The command as a 256-bit word; fields that do not count are 0."""
    values: dict[str, int] = {"opcode": KINDS.index(type(command))}
    for queue in QUEUES:
        wait = getattr(command.waits, queue)
        values[f"waits_{queue}"] = int(wait is not None)
        values[f"wait_{queue}"] = (wait or 0) % (1 << WAIT_BITS)
    for name, value in command:
        if name in ("waits", "kind"):
            continue
        if name == "lane":
            values["masked"], values["lane"] = int(value is not None), value or 0
        elif name in _CHOICES:
            values[name] = _CHOICES[name].index(value)
        else:
            values[_VECTOR_NAMES.get((command.kind, name), name)] = (
                value == "silu" if name == "function" else int(value)
            )
    word = 0
    for name, (low, width) in layout(command.kind).items():
        word |= (int(values.get(name, 0)) & (1 << width) - 1) << low
    return word


_VECTOR_NAMES: dict[tuple[str, str], str] = {
    ("norm", "epsilon"): "extra",
    ("norm", "base"): "small",
    ("norm", "centred"): "flag",
    ("activate", "function"): "flag",
    ("gate", "gate_shift"): "small",
    ("rotate", "table"): "second",
    ("softmax", "state"): "second",
    ("softmax", "offset"): "extra",
    ("softmax", "first"): "flag",
    ("divide", "state"): "second",
}


def capacity(memory: str, config: CoreConfig) -> int:
    """Words of a memory or entries of a table."""
    sizes = {"activations": config.activation_words, "weights": config.weight_words}
    return sizes.get(memory, config.channel_entries)


Span = tuple[str, int, int]
"""Memory or table, first word, words."""


def reads(command: AnyCommand) -> list[Span]:
    """What a command reads."""
    match command:
        case Load():
            return []
        case Store():
            return [("activations", command.address, command.words)]
        case Matmul():
            return _matmul_reads(command)
        case Norm():
            entries = ("vector_channels", command.channel, command.count)
            return [("activations", command.source, command.count), entries]
        case Activate():
            return [("activations", command.source, command.count)]
        case Gate() | Add():
            return [("activations", at, command.count) for at in (command.source, command.second)]
        case Rotate():
            width = 2 * command.count
            return [("activations", at, width) for at in (command.source, command.table)]
        case Softmax():
            state = [] if command.first else [("activations", command.state, 3)]
            return [("activations", command.source, command.count), *state]
        case Divide():
            state = [("activations", command.state, 4)]
            return [("activations", command.source, 2 * command.count), *state]


def _matmul_reads(command: Matmul) -> list[Span]:
    spans: list[Span] = [
        ("activations", command.activation_address, command.depth),
        (command.weight_source, command.weight_address, weight_depth(command)),
    ]
    if command.output == "accumulate":
        if not command.first:
            spans.append(("activations", command.alpha_address, 1))
            spans.append(("activations", command.out, 2 * command.columns))
        return spans
    if command.output == "residual":
        spans.append(("activations", command.out, command.columns))
    entries = {"column": command.columns, "uniform": 1, "lane": 0}[command.scale_by]
    spans.append(("matmul_channels", command.channel, entries))
    return spans


def weight_depth(command: Matmul) -> int:
    """Words that a matmul reads of its second operand."""
    return (command.depth + 1) // 2 if command.precision == "8x4" else command.depth


def writes(command: AnyCommand) -> list[Span]:
    """What a command writes."""
    match command:
        case Load():
            return [(command.target, command.address, written_words(command))]
        case Store():
            return []
        case Matmul():
            words = {
                "int8": (command.first_half + command.columns + 1) // 2,
                "int16": command.columns,
                "residual": command.columns,
                "int32": 2 * command.columns,
                "accumulate": 2 * command.columns,
                "argmax": 1,
            }[command.output]
            return [("activations", command.out, words)]
        case Norm() | Activate() | Gate() | Divide():
            return [("activations", command.out, command.count * command.out_bits // 16)]
        case Rotate() | Add():
            return [("activations", command.out, command.count)]
        case Softmax():
            probabilities = ("activations", command.out, (command.count + 1) // 2)
            return [probabilities, ("activations", command.state, 4)]


def written_words(command: Load) -> int:
    """Words that a load writes: those of DRAM less the headers."""
    if not command.group_words:
        return command.words
    return command.words - -(-command.words // (command.group_words + 1))


def word_bytes(command: Load | Store, config: CoreConfig) -> int:
    """Bytes that one word of a load or store takes in DRAM."""
    if isinstance(command, Store) or command.target == "activations":
        return LANE_BYTES * config.rows
    if command.target == "weights":
        return LANE_BYTES * config.columns * command.packed_bits // command.memory_bits
    return CHANNEL_BYTES


def beats(command: Load | Store, config: CoreConfig) -> int:
    """Beats of the DMA stream that a load or store takes."""
    return -(-word_bytes(command, config) * command.words // config.dma_bytes)
