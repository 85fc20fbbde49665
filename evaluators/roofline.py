"""Per operator: products, memory accesses and DRAM bytes of a program, beside the least there are.

Everything is counted from the commands; nothing is simulated. Each engine is taken at the rate that
docs/accelerator.md gives it without conflicts, so the roof of an operator is a bound on its cycles,
not a forecast: the drain, the vector engine and waits come on top.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Self

from evaluators.traffic import array_cycles
from hwlib.commands import (
    CHANNEL_BYTES,
    QUEUES,
    AnyCommand,
    Load,
    Matmul,
    Precision,
    Queue,
    Store,
    beats,
    queue_of,
    reads,
    writes,
)
from hwlib.config import CoreConfig
from swopt.compiler import network as net
from swopt.compiler.linear_program import form_of
from swopt.compiler.network import read_by
from swopt.compiler.pass_program import rotary_name
from swopt.compiler.program import Program

PRODUCTS: Mapping[Precision, int] = {"8x8": 1, "8x4": 2, "4x4": 4}
"""Products of an element in a cycle."""

STREAM_BYTES = 2
"""Of a channel of an input, of a cosine and of a sine."""

LOGIT_BYTES = 4

TOKEN_BYTES = 2


@dataclass(frozen=True)
class Work:
    """What a program does for an operator, and the least that it could.

    Attributes:
        products: Of the operator, without padding; of the head, for the last token alone.
        array_products: That the array computes, padding and second passes included.
        array_cycles: Of the array while it fetches operands.
        read_bytes, written_bytes: Of DRAM, in whole beats.
        read_cycles, write_cycles: Of the two DMA streams: a beat, or a word where a beat holds
            several.
        activation_reads, activation_writes: Words of the activation memory that commands touch,
            each counted once a command.
        weight_reads, weight_writes: Words of the weight memory, likewise.
        least_read_bytes: Each weight at its packed bits, each channel entry, input, kept key and
            value, and each table of a rotation once.
        least_written_bytes: Logits and token once.
        least_array_cycles: Products over those that the array has room for in a cycle.
    """

    products: int = 0
    array_products: int = 0
    array_cycles: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    read_cycles: int = 0
    write_cycles: int = 0
    activation_reads: int = 0
    activation_writes: int = 0
    weight_reads: int = 0
    weight_writes: int = 0
    least_read_bytes: int = 0
    least_written_bytes: int = 0
    least_array_cycles: int = 0

    def __add__(self, other: Self) -> Self:
        return type(self)(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def dram_bytes(self) -> int:
        """Read and written."""
        return self.read_bytes + self.written_bytes

    @property
    def least_bytes(self) -> int:
        """The least to read and to write."""
        return self.least_read_bytes + self.least_written_bytes

    @property
    def intensity(self) -> float | None:
        """Products of the operator for a byte of DRAM; None where nothing is moved."""
        return self.products / self.dram_bytes if self.dram_bytes else None

    @property
    def dram_cycles(self) -> int:
        """Of the busier DMA stream."""
        return max(self.read_cycles, self.write_cycles)

    @property
    def roof_cycles(self) -> int:
        """No fewer cycles can do these commands: the busier of array and DMA."""
        return max(self.array_cycles, self.dram_cycles)

    def least_cycles(self, config: CoreConfig) -> int:
        """No program of the operator on this core takes fewer cycles."""
        streams = (self.least_read_bytes, self.least_written_bytes)
        return max(self.least_array_cycles, *(-(-size // config.dma_bytes) for size in streams))


def work(program: Program, network: net.Network) -> tuple[Work, ...]:
    """The work of each operator of the network that the program was lowered from.

    Raises:
        LoweringError: The network holds a layer that the program's core cannot compute.
    """
    found = _least(program, network)
    for command, operator in zip(program.commands, program.operators, strict=True):
        found[operator] += _of_command(command, program.config)
    return tuple(found)


def kind(operator: net.Operator) -> str:
    """What sort of operator it is, in one word."""
    return type(operator).__name__.lower()


def by_kind(network: net.Network, works: Sequence[Work]) -> dict[str, Work]:
    """The sums over operators of one kind, in the order in which kinds appear."""
    sums: dict[str, Work] = {}
    for operator, each in zip(network.operators, works, strict=True):
        sums[kind(operator)] = sums.get(kind(operator), Work()) + each
    return sums


def total(works: Sequence[Work]) -> Work:
    """Of the whole program."""
    return sum(works, Work())


def completed_cycles(
    program: Program, network: net.Network, completed: Mapping[Queue, Sequence[int]]
) -> tuple[int, ...]:
    """A run's cycles shared out among the operators.

    Queues overlap. A matmul has the cycles before its completion in which the array fetches for it,
    as far back as the matmul before it was complete; every other cycle goes to the operator whose
    command completes next (the first in program order of those that complete at once). The shares
    add up to the run's cycles.

    Args:
        program: What ran.
        network: What it was lowered from.
        completed: Cycle in which each command was complete, by queue, the run's first being 0.
    """
    done = {queue: iter(completed[queue]) for queue in QUEUES}
    ended = [next(done[queue_of(command)]) + 1 for command in program.commands]
    order = sorted(range(len(ended)), key=lambda index: (ended[index], index))
    cycles = [ended[index] for index in order]
    shares, clock = [0] * len(network.operators), 0

    def give(end: int) -> None:
        """Cycles up to `end` to those that complete next."""
        nonlocal clock
        while clock < end:
            at = bisect_right(cycles, clock)
            until = min(end, cycles[at])
            shares[program.operators[order[at]]] += until - clock
            clock = until

    for command, operator, end in zip(program.commands, program.operators, ended, strict=True):
        if isinstance(command, Matmul) and end > clock:
            give(end - array_cycles(command))
            shares[operator] += end - clock
            clock = end
    give(max(cycles, default=0))
    return tuple(shares)


def _of_command(command: AnyCommand, config: CoreConfig) -> Work:
    read = _words(reads(command))
    written = _words(writes(command))
    busy_cycles = array_products = 0
    moved = {"read": (0, 0), "written": (0, 0)}
    match command:
        case Matmul():
            busy_cycles = array_cycles(command)
            elements = config.rows * config.columns
            array_products = busy_cycles * elements * PRODUCTS[command.precision]
        case Load() | Store():
            count = beats(command, config)
            stream = "read" if isinstance(command, Load) else "written"
            moved[stream] = (count * config.dma_bytes, max(count, command.words))
        case _:
            pass
    return Work(
        array_products=array_products,
        array_cycles=busy_cycles,
        read_bytes=moved["read"][0],
        read_cycles=moved["read"][1],
        written_bytes=moved["written"][0],
        write_cycles=moved["written"][1],
        activation_reads=read.get("activations", 0),
        activation_writes=written.get("activations", 0),
        weight_reads=read.get("weights", 0),
        weight_writes=written.get("weights", 0),
    )


def _words(spans: Sequence[tuple[str, int, int]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for memory, _, words in spans:
        counts[memory] = counts.get(memory, 0) + words
    return counts


def _least(program: Program, network: net.Network) -> list[Work]:
    """Products of each operator, and the least bytes and cycles for them."""
    tokens = {brought.name: brought.layout.tokens for brought in program.inputs}
    tables: set[str] = set()
    found = []
    for operator in network.operators:
        if operator.y not in tokens:
            tokens[operator.y] = _tokens(operator, tokens)
        found.append(_least_of(operator, tokens, tables, program.config))
    return found


def _tokens(operator: net.Operator, tokens: Mapping[str, int]) -> int:
    """Tokens of what an operator makes."""
    match operator:
        case net.Concatenate():
            return tokens[operator.first] + tokens[operator.second]
        case net.Shuffle():
            return tokens[operator.x] // operator.joined
        case net.Linear() if operator.output == "logits":
            return 1
        case _:
            return tokens[read_by(operator)[0]]


def _least_of(
    operator: net.Operator, tokens: Mapping[str, int], tables: set[str], config: CoreConfig
) -> Work:
    """The same of one operator; `tables` are those of rotations that others have counted."""
    match operator:
        case net.Input():
            return Work(least_read_bytes=STREAM_BYTES * tokens[operator.y] * operator.channels)
        case net.Norm():
            return Work(least_read_bytes=CHANNEL_BYTES * len(operator.gamma))
        case net.Rotate():
            name = rotary_name(operator)
            size = 0 if name in tables else STREAM_BYTES * tokens[operator.y] * operator.head_dim
            tables.add(name)
            return Work(least_read_bytes=size)
        case net.Linear():
            outputs, inputs = operator.weight.shape
            last = operator.output == "logits"
            products = (1 if last else tokens[operator.x]) * outputs * inputs
            return Work(
                products=products,
                least_read_bytes=operator.weight_bytes + CHANNEL_BYTES * outputs,
                least_written_bytes=LOGIT_BYTES * outputs + TOKEN_BYTES if last else 0,
                least_array_cycles=_least_cycles(
                    products, form_of(operator, config).precision, config
                ),
            )
        case net.Attention():
            products = 2 * operator.heads * operator.head_dim * _pairs(operator, tokens)
            past = 2 * operator.past * operator.kv_heads * operator.head_dim
            return Work(
                products=products,
                least_read_bytes=past + CHANNEL_BYTES,
                least_array_cycles=_least_cycles(products, "8x8", config),
            )
        case _:
            return Work()


def _least_cycles(products: int, precision: Precision, config: CoreConfig) -> int:
    return -(-products // (config.rows * config.columns * PRODUCTS[precision]))


def _pairs(operator: net.Attention, tokens: Mapping[str, int]) -> int:
    """Pairs of a query and a key that it sees."""
    queries, keys = tokens[operator.q], operator.past + tokens[operator.k]
    if not operator.causal:
        return queries * keys
    return queries * operator.past + queries * (queries + 1) // 2
