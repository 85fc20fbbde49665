"""The study as a picture: for each row what it gains, what it takes, and what it costs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from dovetail.study.measuring import Row
from dovetail.viewer.study_page import TITLES, accuracy_of

WIDTH, ROW, TOP, NAMES = 980.0, 20.0, 64.0, 320.0
PANEL, GAP = 195.0, 25.0

STYLE = (
    "text{font-size:12px;fill:#1c2430}.t{font-size:15px;font-weight:600}.h{font-weight:600}"
    ".g{stroke:#d9dee5;fill:none}.z{stroke:#8894a3;fill:none}.b{fill:#3b6fb6}.m{fill:#7a9c59}"
    ".e{stroke:#b4532a;stroke-width:1.6;fill:none}.d{fill:#b4532a}.n{fill:#55606e}"
)


@dataclass(frozen=True)
class _Axis:
    """One panel.

    Attributes:
        left: Of its edge on the page.
        low, high: Values at its edges, as `scale` has them.
        scale: From a value.
    """

    left: float
    low: float
    high: float
    scale: Callable[[float], float] = float

    def at(self, value: float) -> float:
        share = (self.scale(value) - self.low) / (self.high - self.low)
        return self.left + PANEL * min(1.0, max(0.0, share))


def svg(rows: Sequence[Row], best: Row) -> str:
    """The picture of all rows that have figures, part after part."""
    baseline = rows[0]
    able = [row for row in rows if row.evaluation.status == "ok"]
    gains = [baseline.edp_js / row.edp_js for row in able]
    memory = [float(row.evaluation.details["memory_of_float16"]) for row in able]
    spread = [
        abs(found.mean) + found.standard_error
        for row in able
        if (found := accuracy_of(row)) is not None
    ]
    left = [NAMES + at * (PANEL + GAP) for at in range(3)]
    most = math.log10(max(gains) * 1.3)
    wide = 100 * max(spread) * 1.05
    axes = (
        _Axis(left[0], min(0.0, math.log10(min(gains))), most, math.log10),
        _Axis(left[1], 0.0, max(memory) * 1.05),
        _Axis(left[2], -wide, wide),
    )
    body, y = [], TOP
    body += _line(baseline, "baseline", baseline, axes, y)
    for part, title in TITLES.items():
        mine = [row for row in able[1:] if row.entry.part == part]
        if mine:
            y += ROW * 1.6
            body.append(f'<text class="h" x="12" y="{y:.1f}">{escape(title)}</text>')
        for row in mine:
            y += ROW
            name = row.entry.name + (" ★" if row is best else "")
            body += _line(row, name, baseline, axes, y)
    height = y + 40
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {height:g}" '
            'font-family="ui-sans-serif, system-ui, sans-serif">',
            f'<style>{STYLE}</style><rect width="{WIDTH:g}" height="{height:g}" fill="#fff"/>',
            *_grid(axes, height - 24),
            *body,
            "</svg>",
            "",
        ]
    )


def _line(row: Row, name: str, baseline: Row, axes: tuple[_Axis, ...], y: float) -> list[str]:
    gain, memory, points = axes
    ratio = baseline.edp_js / row.edp_js
    share = float(row.evaluation.details["memory_of_float16"])
    start, end = sorted((gain.at(1.0), gain.at(ratio)))
    drawn = [
        f'<text class="n" x="{NAMES - 10:g}" y="{y:.1f}" text-anchor="end">'
        f"{escape(name[:52])}</text>",
        f'<rect class="b" x="{start:.1f}" y="{y - 11:.1f}" width="{max(1.0, end - start):.1f}" '
        f'height="13"><title>{ratio:.2f} times less EDP</title></rect>',
        f'<text x="{end + 4:.1f}" y="{y:.1f}">{ratio:.1f}</text>',
        f'<rect class="m" x="{memory.left:.1f}" y="{y - 11:.1f}" '
        f'width="{memory.at(share) - memory.left:.1f}" height="13">'
        f"<title>{share:.3f} of float16</title></rect>",
    ]
    if (found := accuracy_of(row)) is not None:
        low, high = (
            points.at(100 * (found.mean + side * found.standard_error)) for side in (-1, 1)
        )
        drawn.append(f'<path class="e" d="M{low:.1f} {y - 4:.1f}H{high:.1f}"/>')
        drawn.append(
            f'<circle class="d" cx="{points.at(100 * found.mean):.1f}" cy="{y - 4:.1f}" r="3.5"/>'
        )
    return drawn


def _grid(axes: tuple[_Axis, ...], bottom: float) -> list[str]:
    gain, memory, points = axes
    ticks = (
        (gain, [n for n in (1, 2, 5, 10, 20, 50) if n < 10**gain.high], "EDP, times less"),
        (memory, [n / 10 for n in range(11) if n / 10 < memory.high], "memory, of float16"),
        (points, [n for n in range(-40, 41, 5) if abs(n) < points.high], "accuracy, points, ± SE"),
    )
    drawn = []
    for axis, marks, title in ticks:
        drawn.append(f'<text class="t" x="{axis.left:.1f}" y="24">{title}</text>')
        for mark in marks:
            x = axis.at(mark)
            kind = "z" if (mark == 1 and axis is gain) or mark == 0 else "g"
            drawn.append(f'<path class="{kind}" d="M{x:.1f} 48V{bottom:.1f}"/>')
            drawn.append(f'<text x="{x:.1f}" y="42" text-anchor="middle">{mark}</text>')
    return drawn
