"""The report of a compiled program in Markdown: its roof and its accesses, beside the least."""

from collections.abc import Sequence

from dovetail.formatting import plain_number
from evaluators.roofline import Work, by_kind, kind, total
from hwlib.config import CoreConfig
from swopt.compiler import network as net
from swopt.compiler.listing import label

PICTURE = "roofline.svg"

DEFINITIONS = """\
**Products** are multiplications of the operator without padding, of the head for the last token
alone. The **array** computes more: tiles that are not full, odd depths, second passes for argmax,
and products with ones that turn values round. **Array cycles** are those in which it fetches
operands; the drain and the vector engine are not in them. **DMA cycles** are those of the busier of
the two streams, a beat or a word a cycle. The **roof** is the greater of the two: these commands
cannot take fewer cycles, and take more where the drain, the vector engine or a wait stands in the
way. A sum's roof is the greater of its sums, as if its layers overlapped entirely.

**Least** is what no program of the same operators on this core goes below. DRAM: each weight at its
packed bits, each channel entry, input, kept key and value, and each rotary table once; logits and
token once. Cycles: products over those that the array has room for, or these bytes over the beat.
Streams and tensors between layers need not leave the core, so they are in no bound.

**DRAM bytes** are whole beats. **Words** are those that commands read and write in a memory, each
counted once a command: a norm and a softmax go over their words a second time, and the drain writes
a word of int8 once for each half. Loads of weights and entries belong to the operator that first
needs them, loads of what was kept of keys and values to their attention.
"""

MEASURED = """
**Measured** are cycles on the RTL, shared out so that they add up to the whole run. A matmul has
the cycles before its completion in which the array fetches for it; every other cycle goes to the
operator whose command completes next. What hides behind products of another operator has no cycles
of its own, so loads and norms may show fewer than their roof.
"""


def page(
    title: str,
    facts: Sequence[str],
    network: net.Network,
    works: Sequence[Work],
    config: CoreConfig,
    measured: Sequence[int] | None,
) -> str:
    """The report.

    Args:
        title: Its heading.
        facts: Sentences about the whole program.
        network: What was compiled.
        works: Work of each operator.
        config: The core.
        measured: Cycles of each operator on the RTL, if they were measured.
    """
    layers = [
        (label(operator), work, measured[at] if measured else None)
        for at, (operator, work) in enumerate(zip(network.operators, works, strict=True))
        if work != Work()
    ]
    kinds = [
        (name, work, _measured_of(name, network, measured))
        for name, work in by_kind(network, works).items()
        if work != Work()
    ]
    everything = [("everything", total(works), sum(measured) if measured else None)]
    parts = [
        f"# {title}",
        *facts,
        f"![The roofline of its layers]({PICTURE})",
        "## By kind",
        _roof_table([*kinds, *everything], config),
        _access_table([*kinds, *everything]),
        "## Roof, layer by layer",
        _roof_table(layers, config),
        "## Accesses, layer by layer",
        _access_table(layers),
        "## What the columns are",
        DEFINITIONS.rstrip() + (f"\n{MEASURED.rstrip()}" if measured else ""),
    ]
    return "\n\n".join(parts) + "\n"


Row = tuple[str, Work, int | None]
"""Name, work, and measured cycles."""


def _measured_of(name: str, network: net.Network, measured: Sequence[int] | None) -> int | None:
    if measured is None:
        return None
    pairs = zip(network.operators, measured, strict=True)
    return sum(cycles for operator, cycles in pairs if kind(operator) == name)


def _roof_table(rows: Sequence[Row], config: CoreConfig) -> str:
    columns = ["products", "array's", "array cycles", "DMA cycles", "roof", "least cycles"]
    if any(cycles is not None for _, _, cycles in rows):
        columns.append("measured")
    body: list[tuple[str, list[float | None]]] = [
        (
            name,
            [
                work.products,
                work.array_products,
                work.array_cycles,
                work.dram_cycles,
                work.roof_cycles,
                work.least_cycles(config),
                cycles,
            ],
        )
        for name, work, cycles in rows
    ]
    return _table(columns, body)


def _access_table(rows: Sequence[Row]) -> str:
    columns = [
        "DRAM bytes read", "written", "least", "products a byte", "activation words read",
        "written", "weight words read", "written",
    ]  # fmt: skip
    body: list[tuple[str, list[float | None]]] = [
        (
            name,
            [
                work.read_bytes,
                work.written_bytes,
                work.least_bytes,
                work.intensity,
                work.activation_reads,
                work.activation_writes,
                work.weight_reads,
                work.weight_writes,
            ],
        )
        for name, work, _ in rows
    ]
    return _table(columns, body)


def _table(columns: Sequence[str], rows: Sequence[tuple[str, Sequence[float | None]]]) -> str:
    """A table in Markdown; values beyond the columns are left out."""
    lines = [
        "| | " + " | ".join(columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for name, values in rows:
        kept = values[: len(columns)]
        shown = ("–" if value is None else plain_number(value) for value in kept)
        lines.append(f"| {name} | " + " | ".join(shown) + " |")
    return "\n".join(lines)
