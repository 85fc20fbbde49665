"""The study as a page of Markdown: the table, what the whole stack comes to, and the commands."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dovetail.formatting import metric
from dovetail.study.entries import Part, StudyList, described
from dovetail.study.folder import Header
from dovetail.study.measuring import Row
from evaluators.metrics import Evaluation
from swopt.workloads.vqa import SYNTHETIC

ONE_SIDED = 1.645
"""Standard errors from a mean to its one-sided 95 % bound."""

TITLES: Mapping[Part, str] = {
    "alone": "alone, on the baseline's core",
    "usual": "usual settings of papers, alone",
    "cumulative": "one after the other, on the baseline's core",
    "fitted": "the whole stack on each core",
    "without": "the stack of the baseline's core, less one",
    "ladder": "the stack, smaller and smaller",
    "control": "controls",
    "cores": "the baseline on other cores",
}
"""Headings of the parts, in the order of the page."""

COLUMNS = (
    "design",
    "EDP, times less",
    "latency",
    "energy",
    "cycles",
    "clock",
    "area, µm²",
    "memory, of float16",
    "NLL increase, nats, validation",
    "accuracy, points, test",
)


MEASURED_ON_GATES = (
    "Energy of gates as they switch in the RTL's run, SRAM and DRAM by accesses; no glitches, no "
    "clock tree. Cycles are those of the RTL."
)

MEASURED_ON_BLOCKS = (
    "Cycles of prompt and tokens are predicted. Energy is the power of gates as they switch in "
    "blocks and head on the RTL, over those cycles; SRAM and DRAM by accesses; no glitches, no "
    "clock tree."
)

MODELLED = (
    "Cycles are predicted, energy is modelled from figures per operation: nothing ran on the RTL."
)


@dataclass(frozen=True)
class Accuracy:
    """A difference of accuracy to the baseline, the mean over image sets.

    Attributes:
        mean: In shares.
        standard_error: Paired.
    """

    mean: float
    standard_error: float

    @property
    def lower_bound(self) -> float:
        """One-sided, 95 %."""
        return self.mean - ONE_SIDED * self.standard_error


def accuracy_of(row: Row) -> Accuracy | None:
    """Over the medical sets, or the synthetic one where there is no other."""
    if row.test is None:
        return None
    figures = row.test.figures
    sets = [name for name in figures if name != SYNTHETIC] or list(figures)
    mean = sum(figures[name]["accuracy_difference"] for name in sets) / len(sets)
    squares = sum(figures[name]["accuracy_difference_se"] ** 2 for name in sets)
    return Accuracy(mean, math.sqrt(squares) / len(sets))


def page(listed: StudyList, header: Header, rows: Sequence[Row], best: Row, command: str) -> str:
    """The page.

    Args:
        listed: What was measured.
        header: What was measured on.
        rows: All rows, the baseline first.
        best: The row of the stack that its core was fitted to.
        command: What a person types to measure it again.
    """
    versions = ", ".join(f"{name} {each}" for name, each in header.versions.items())
    answers = listed.scored == "answers"
    accuracy = "the mean over the medical sets" if answers else "that of the next token"
    lines = [
        f"# The techniques, one by one and stacked: {listed.workload}",
        "",
        f"`{command}`: {header.data}. {versions}.",
        "",
        f"The limit is {header.target.area_limit_um2:,.0f} µm² of Nangate 45 nm, typical corner, "
        "before layout; baseline and whole stack choose their cores under it, and other rows that "
        f"lie over it say so. DRAM is {header.target.dram.upper()}. EDP is energy times latency of "
        f"{listed.asked}; the baseline is w8a8 on the core of least EDP under the limit, whose "
        f"gain is 1. {_meaning(rows[0].evaluation)} Memory is all that is kept of "
        f"the model; ± is one paired standard error. Accuracy is {accuracy}. A row's name leads to "
        "its evaluation.",
        "",
        *_table(rows, best, header.target.area_limit_um2),
        "",
        *([*_aims(rows[0], best), "", *_by_set(best)] if answers else _limits(rows)),
        "",
        *_shuffled(best),
    ]
    return "\n".join(lines) + "\n"


def _meaning(evaluation: Evaluation) -> str:
    """What cycles and energy are."""
    if evaluation.energy_is_modelled:
        return MODELLED
    predicted = evaluation.details.get("cycle_figures") == "predicted"
    return MEASURED_ON_BLOCKS if predicted else MEASURED_ON_GATES


def _table(rows: Sequence[Row], best: Row, limit_um2: float) -> Iterator[str]:
    baseline = rows[0]
    yield "| " + " | ".join(COLUMNS) + " |"
    yield "|" + "---|" * len(COLUMNS)
    core = described(baseline.entry.design.hardware)
    yield _line(baseline, f"**baseline: w8a8 on {core}**", baseline, limit_um2)
    for part, title in TITLES.items():
        of_part = [row for row in rows[1:] if row.entry.part == part]
        if of_part:
            yield f"| **{title}** |" + " |" * (len(COLUMNS) - 1)
        for row in of_part:
            name = row.entry.name + (f" ({row.entry.note})" if row.entry.note else "")
            yield _line(row, f"**{name}**" if row is best else name, baseline, limit_um2)


def _line(row: Row, name: str, baseline: Row, limit_um2: float) -> str:
    found = row.evaluation.metrics
    if row.evaluation.status != "ok":
        cells = [name, row.evaluation.status, row.evaluation.reason]
        return "| " + " | ".join(cells + [""] * (len(COLUMNS) - 3)) + " |"
    accuracy = accuracy_of(row)
    cells = [
        f"[{name}](evaluations/{row.entry.design.id}.json)",
        f"{baseline.edp_js / row.edp_js:.2f}",
        metric("latency_s", found["latency_s"]),
        metric("energy_j", found["energy_j"]),
        f"{found['cycles']:,.0f}",
        metric("clock_hz", found["clock_hz"]),
        f"{found['area_um2']:,.0f}{' over' if found['area_um2'] > limit_um2 else ''}",
        _memory(found["memory_bytes"], float(row.evaluation.details["memory_of_float16"])),
        f"{found['nll_increase_nats']:+.4f} ± {found['nll_increase_se_nats']:.4f}",
        f"{100 * accuracy.mean:+.1f} ± {100 * accuracy.standard_error:.1f}" if accuracy else "",
    ]
    return "| " + " | ".join(cells) + " |"


def _memory(count: float, share: float) -> str:
    size = f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
    return f"{size}, {share:.3f}"


def _aims(baseline: Row, best: Row) -> Iterator[str]:
    """What the whole stack comes to, beside what was aimed at."""
    accuracy = accuracy_of(best)
    if accuracy is None:
        return
    half = float(best.evaluation.details["memory_of_float16"])
    area = best.evaluation.metrics["area_um2"] / baseline.evaluation.metrics["area_um2"]
    yield "| of the whole stack | aimed at | measured |"
    yield "|---|---|---|"
    yield f"| EDP, times less | at least 5 | {baseline.edp_js / best.edp_js:.1f} |"
    yield f"| area, of the baseline's | | {area:.2f} |"
    yield f"| memory, of the float16 model's | at most 1/6 = 0.167 | {half:.3f} |"
    yield f"| accuracy, points | at least -1 | {100 * accuracy.mean:+.2f} |"
    yield f"| its lower bound, 95 %, one-sided | at least -3 | {100 * accuracy.lower_bound:+.2f} |"


LIMITS = (0.02, 0.10)
"""Shares of the float model's bits per byte that may be lost."""


def _limits(rows: Sequence[Row]) -> Iterator[str]:
    """The least memory and EDP among the rows that lose no more than a share of bits per byte."""
    able = [row for row in rows if row.evaluation.status == "ok"]
    yield "| bits per byte, at most | least EDP, times less | least memory, of float16 |"
    yield "|---|---|---|"
    for limit in LIMITS:
        within = [row for row in able if _lost(row) <= limit]
        if not within:
            yield f"| {limit:.0%} over the float model | no row | no row |"
            continue
        edp = min(within, key=lambda row: row.edp_js)
        memory = min(within, key=lambda row: float(row.evaluation.details["memory_of_float16"]))
        share = float(memory.evaluation.details["memory_of_float16"])
        yield (
            f"| {limit:.0%} over the float model | {rows[0].edp_js / edp.edp_js:.2f}: "
            f"{edp.entry.name}, {_lost(edp):+.1%} | {share:.3f}: {memory.entry.name}, "
            f"{_lost(memory):+.1%} |"
        )


def _lost(row: Row) -> float:
    """Share of the float model's bits per byte that came on top."""
    found = row.evaluation.details
    return float(found["bits_per_byte"]) / float(found["bits_per_byte_of_float"]) - 1


def _shuffled(best: Row) -> Iterator[str]:
    assert best.test is not None
    yield "With the true answers dealt to other questions, nothing may be left of what models know:"
    yield ""
    yield "| set | accuracy, baseline → stack | answers shuffled |"
    yield "|---|---|---|"
    for name, found in best.test.figures.items():
        if "design_accuracy_shuffled" in found:
            cells = [
                f"{found[f'baseline_accuracy{kind}']:.3f} → {found[f'design_accuracy{kind}']:.3f}"
                for kind in ("", "_shuffled")
            ]
            yield f"| {name} | {cells[0]} | {cells[1]} |"


def _by_set(best: Row) -> Iterator[str]:
    assert best.test is not None
    kinds = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "auc": "AUC"}
    yield "| set | " + " | ".join(f"{each}, baseline → stack" for each in kinds.values()) + " |"
    yield "|---|" + "---|" * len(kinds)
    for name, found in best.test.figures.items():
        cells = []
        for kind in kinds:
            if f"{kind}_difference" not in found:
                cells.append("")
                continue
            ours, theirs = found[f"design_{kind}"], found[f"baseline_{kind}"]
            error = found[f"{kind}_difference_se"]
            cells.append(f"{theirs:.3f} → {ours:.3f} ({ours - theirs:+.3f} ± {error:.3f})")
        yield f"| {name} | " + " | ".join(cells) + " |"
