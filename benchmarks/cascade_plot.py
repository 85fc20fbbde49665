"""Accuracy over energy of cascades as an SVG: a curve a self-test, a ring at its threshold."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

Place = tuple[float, float]
"""Energy of a question in uJ, accuracy."""

WIDTH, HEIGHT = 900.0, 500.0
LEFT, RIGHT, TOP, BOTTOM = 70.0, 240.0, 42.0, 60.0

COLOURS = ("#1b2430", "#2463b0", "#c0561a", "#17693a", "#6fa0dc", "#e39a6b", "#6fb58c", "#8a8f98")
"""Of the curves in their order; the last is that of the control."""

STYLE = (
    "text{fill:#55606e;font-size:12.5px} .t{fill:#1b2430;font-weight:600;font-size:14px}"
    ".g{stroke:#e3e1da} .c{stroke-width:1.8;fill:none;stroke-linejoin:round} "
    ".ring{fill:#fff;stroke-width:2.4} .one{fill:#1b2430}"
)


@dataclass(frozen=True)
class Curve:
    """One self-test at every threshold.

    Attributes:
        name: In the legend.
        path: Places from never escalating to always.
        chosen: At the threshold that validation chose; None for a control.
    """

    name: str
    path: Sequence[Place]
    chosen: Place | None


@dataclass(frozen=True)
class Dot:
    """One model alone.

    Attributes:
        name: Beside the dot.
        energy_uj: Of a question.
        accuracy: On the same questions.
        standard_error: Drawn as a bar; None for none.
    """

    name: str
    energy_uj: float
    accuracy: float
    standard_error: float | None


@dataclass(frozen=True)
class _Axis:
    """A linear axis between two edges of the page, with its labelled places."""

    low: float
    high: float
    start: float
    end: float
    step: float

    @classmethod
    def around(cls, values: Sequence[float], start: float, end: float) -> "_Axis":
        """Whole steps around all values."""
        rough = (max(values) - min(values) or 1.0) / 6
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(f * power for f in (1, 2, 5, 10) if f * power >= rough * (1 - 1e-9))
        low = math.floor(min(values) / step) * step
        return cls(low, math.ceil(max(values) / step) * step, start, end, step)

    def at(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def marks(self) -> list[float]:
        return [
            self.low + i * self.step for i in range(round((self.high - self.low) / self.step) + 1)
        ]


def picture(curves: Sequence[Curve], dots: Sequence[Dot]) -> str:
    """The SVG; the last of `curves` is drawn dashed, as the control."""
    places = [place for curve in curves for place in curve.path]
    bars = [d.accuracy + s * (d.standard_error or 0.0) for d in dots for s in (-1, 1)]
    across = _Axis.around(
        [0.0, *(x for x, _ in places), *(d.energy_uj for d in dots)], LEFT, WIDTH - RIGHT
    )
    up = _Axis.around([*(y for _, y in places), *bars], HEIGHT - BOTTOM, TOP)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" '
            'font-family="ui-sans-serif, system-ui, sans-serif">',
            f'<style>{STYLE}</style><rect width="{WIDTH:g}" height="{HEIGHT:g}" fill="#fff"/>',
            f'<text class="t" x="{LEFT:g}" y="24">Test accuracy, mean of the image sets</text>',
            *_grid(across, up),
            *_lines(across, up, curves),
            *_dots(across, up, dots),
            *_legend(curves),
            "</svg>",
            "",
        ]
    )


def _grid(across: _Axis, up: _Axis) -> list[str]:
    drawn = []
    for mark in across.marks():
        x = across.at(mark)
        drawn.append(f'<path class="g" d="M{x:.1f} {up.end:.1f}V{up.start:.1f}"/>')
        drawn.append(
            f'<text x="{x:.1f}" y="{up.start + 18:.1f}" text-anchor="middle">{mark:g}</text>'
        )
    for mark in up.marks():
        y = up.at(mark)
        drawn.append(f'<path class="g" d="M{across.start:.1f} {y:.1f}H{across.end:.1f}"/>')
        drawn.append(
            f'<text x="{across.start - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{mark:.2f}</text>'
        )
    middle = (across.start + across.end) / 2
    drawn.append(
        f'<text x="{middle:.1f}" y="{up.start + 42:.1f}" text-anchor="middle">'
        "energy of a question, uJ</text>"
    )
    return drawn


def _lines(across: _Axis, up: _Axis, curves: Sequence[Curve]) -> list[str]:
    drawn = []
    for curve, colour in zip(curves, _colours(curves), strict=True):
        steps = "L".join(f"{across.at(x):.1f} {up.at(y):.1f}" for x, y in curve.path)
        dashed = ' stroke-dasharray="6 5"' if curve is curves[-1] else ""
        drawn.append(
            f'<path class="c" stroke="{colour}"{dashed} d="M{steps}">'
            f"<title>{escape(curve.name)}</title></path>"
        )
    for curve, colour in zip(curves, _colours(curves), strict=True):
        if curve.chosen is not None:
            x, y = curve.chosen
            drawn.append(
                f'<circle class="ring" stroke="{colour}" cx="{across.at(x):.1f}" '
                f'cy="{up.at(y):.1f}" r="5"><title>{escape(curve.name)}: {x:.1f} uJ, {y:.3f}'
                "</title></circle>"
            )
    return drawn


def _dots(across: _Axis, up: _Axis, dots: Sequence[Dot]) -> list[str]:
    drawn = []
    for dot in dots:
        x, y = across.at(dot.energy_uj), up.at(dot.accuracy)
        if dot.standard_error is not None:
            top, bottom = (up.at(dot.accuracy + s * dot.standard_error) for s in (1, -1))
            drawn.append(f'<path class="c" stroke="#1b2430" d="M{x:.1f} {top:.1f}V{bottom:.1f}"/>')
        drawn.append(f'<rect class="one" x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>')
        drawn.append(f'<text x="{x + 8:.1f}" y="{y - 7:.1f}">{escape(dot.name)}</text>')
    return drawn


def _legend(curves: Sequence[Curve]) -> list[str]:
    x, drawn = WIDTH - RIGHT + 24, []
    for row, (curve, colour) in enumerate(zip(curves, _colours(curves), strict=True)):
        y = TOP + 14 + 22 * row
        dashed = ' stroke-dasharray="6 5"' if curve is curves[-1] else ""
        drawn.append(f'<path class="c" stroke="{colour}"{dashed} d="M{x:.1f} {y:.1f}h26"/>')
        drawn.append(f'<text x="{x + 34:.1f}" y="{y + 4:.1f}">{escape(curve.name)}</text>')
    y = TOP + 14 + 22 * len(curves)
    drawn.append(
        f'<circle class="ring" stroke="#1b2430" cx="{x + 13:.1f}" cy="{y:.1f}" r="5"/>'
        f'<text x="{x + 34:.1f}" y="{y + 4:.1f}">threshold of validation</text>'
    )
    y += 22
    drawn.append(
        f'<rect class="one" x="{x + 9:.1f}" y="{y - 4:.1f}" width="8" height="8"/>'
        f'<text x="{x + 34:.1f}" y="{y + 4:.1f}">one model alone</text>'
    )
    return drawn


def _colours(curves: Sequence[Curve]) -> Sequence[str]:
    """As many colours as curves, the control's last."""
    return [*COLOURS[: len(curves) - 1], COLOURS[-1]]
