"""The Pareto plot as plain geometry; the template draws it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from dovetail import history
from dovetail.formatting import metric
from dovetail.history import TrialRecord

WIDTH, HEIGHT = 520.0, 340.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 18.0, 14.0, 50.0

LOG_FROM = 8.0
"""An axis whose values span more than this factor is logarithmic."""

Kind = Literal["front", "baseline", "dominated", "infeasible"]


@dataclass(frozen=True)
class Point:
    """One trial in the plot."""

    trial: int
    x: float
    y: float
    kind: Kind
    on_front: bool
    title: str


@dataclass(frozen=True)
class Tick:
    """One labelled place on an axis."""

    at: float
    label: str


@dataclass(frozen=True)
class Panel:
    """One plot: an objective against another; both are better towards the lower left."""

    title: str
    x_label: str
    y_label: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    points: Sequence[Point]
    line: str
    """SVG path from the first to the last of what no other beats in these two objectives."""
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right: float = WIDTH - RIGHT
    top: float = TOP
    bottom: float = HEIGHT - BOTTOM


def panel(
    title: str, trials: Sequence[TrialRecord], x_name: str, y_name: str, labels: tuple[str, str]
) -> Panel:
    """The panel of two objectives over all trials that have figures."""
    measured = [(t, t.told.values) for t in trials if t.told is not None and t.told.values]
    on_front = {t.index for t in history.front([t for t, _ in measured])}
    x_at, x_ticks = _axis([v[x_name] for _, v in measured], x_name, LEFT, WIDTH - RIGHT)
    y_at, y_ticks = _axis([v[y_name] for _, v in measured], y_name, HEIGHT - BOTTOM, TOP)
    points = [
        Point(
            trial=t.index,
            x=x_at(v[x_name]),
            y=y_at(v[y_name]),
            kind=_kind(t, on_front),
            on_front=t.index in on_front,
            title=f"trial {t.index}: {metric(x_name, v[x_name])}, {metric(y_name, v[y_name])}",
        )
        for t, v in measured
    ]
    # Drawn last is on top: the front over the rest, the baseline over all.
    order = {"infeasible": 0, "dominated": 1, "front": 2, "baseline": 3}
    points.sort(key=lambda p: (order[p.kind], p.trial))
    line = _boundary([p for p in points if p.on_front])
    return Panel(title, *labels, x_ticks, y_ticks, points, line)


def _kind(trial: TrialRecord, on_front: set[int]) -> Kind:
    if trial.index == 0:
        return "baseline"
    if not trial.feasible:
        return "infeasible"
    return "front" if trial.index in on_front else "dominated"


def _boundary(points: Sequence[Point]) -> str:
    """A staircase through the points that no other beats in both of these objectives."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, -p.y)):
        if not best or point.y > best[-1].y:  # lower on the page is the lower value
            best.append(point)
    if len(best) < 2:
        return ""
    steps = [f"H{p.x:.1f} V{p.y:.1f}" for p in best[1:]]
    return " ".join([f"M{best[0].x:.1f} {best[0].y:.1f}", *steps])


def _axis(
    values: Sequence[float], name: str, start: float, end: float
) -> tuple[Callable[[float], float], list[Tick]]:
    """Where a value stands between two edges of the page, and the ticks."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    logarithmic = low > 0 and high / low > LOG_FROM
    scale: Callable[[float], float] = math.log10 if logarithmic else float
    a, b = scale(low), scale(high)
    margin = (b - a) * 0.08 or abs(a) * 0.1 or 1.0
    a, b = a - margin, b + margin

    def at(value: float) -> float:
        return start + (scale(value) - a) / (b - a) * (end - start)

    marks = _log_marks(a, b) if logarithmic else _even_marks(a, b)
    return at, [Tick(at(mark), metric(name, mark)) for mark in marks]


def _log_marks(a: float, b: float) -> list[float]:
    decades = range(math.floor(a), math.ceil(b) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        marks = [s * 10.0**d for d in decades for s in steps if a <= math.log10(s * 10.0**d) <= b]
        if len(marks) <= 7:
            return marks
    return marks[:: math.ceil(len(marks) / 7)]


def _even_marks(a: float, b: float) -> list[float]:
    rough = (b - a) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    # No 2.5: a mark would have a digit more than its label.
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= rough)
    first = math.ceil(a / step)
    return [round(i * step, 12 - math.floor(math.log10(step))) for i in
            range(first, math.floor(b / step) + 1)]  # fmt: skip
