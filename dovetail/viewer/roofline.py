"""The roofline of a program as an SVG: one dot a layer, both axes logarithmic."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from dovetail.formatting import plain_number
from evaluators.roofline import PRODUCTS, Work, kind
from hwlib.commands import Matmul, Precision
from swopt.compiler import network as net
from swopt.compiler.listing import label
from swopt.compiler.program import Program

WIDTH, HEIGHT = 820.0, 500.0
LEFT, RIGHT, TOP, BOTTOM = 74.0, 200.0, 42.0, 60.0

COLOURS = ("#2463b0", "#c0561a", "#17693a", "#7a3fa0", "#8a6d00", "#55606e")
"""Of the parts of a model, in the order in which they appear."""

STYLE = (
    "text{fill:#55606e;font-size:12.5px} .t{fill:#1b2430;font-weight:600;font-size:14px}"
    ".g{stroke:#e3e1da} .roof{stroke:#1b2430;stroke-width:1.8;fill:none} .dot{fill-opacity:.75;"
    "stroke:#fff;stroke-width:1}"
)


@dataclass(frozen=True)
class _Dot:
    """One layer: products for a byte of DRAM, and products a cycle."""

    x: float
    y: float
    part: str
    attention: bool
    title: str


@dataclass(frozen=True)
class _Frame:
    """Decades that the axes span."""

    x: tuple[int, int]
    y: tuple[int, int]

    def at(self, x: float, y: float) -> tuple[float, float]:
        """A place on the page."""
        wide = (math.log10(x) - self.x[0]) / (self.x[1] - self.x[0])
        high = (math.log10(y) - self.y[0]) / (self.y[1] - self.y[0])
        right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
        return LEFT + wide * (right - LEFT), bottom - high * (bottom - TOP)


def picture(
    program: Program, network: net.Network, works: Sequence[Work], measured: Sequence[int] | None
) -> str:
    """The SVG.

    Args:
        program: Whose.
        network: What it was lowered from.
        works: Work of each operator.
        measured: Cycles of each operator on the RTL; by default dots stand at their bound.
    """
    cycles = measured or [work.roof_cycles for work in works]
    dots = _dots(network, works, cycles)
    config = program.config
    elements = config.rows * config.columns
    used = {command.precision for command in program.commands if isinstance(command, Matmul)}
    roofs = {name: elements * PRODUCTS[name] for name in PRODUCTS if name in used}
    frame = _frame(dots, max(roofs.values(), default=elements), config.dma_bytes)
    what = "measured on the RTL" if measured else "as bounded by array and DMA"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" '
            'font-family="ui-sans-serif, system-ui, sans-serif">',
            f'<style>{STYLE}</style><rect width="{WIDTH:g}" height="{HEIGHT:g}" fill="#fff"/>',
            f'<text class="t" x="{LEFT:g}" y="24">Layers on a core of {config.rows} x '
            f"{config.columns}, {what}</text>",
            *_axes(frame),
            *_roofs(frame, roofs, config.dma_bytes),
            *_marks(frame, dots),
            *_legend(dots),
            "</svg>",
            "",
        ]
    )


def _dots(network: net.Network, works: Sequence[Work], cycles: Sequence[int]) -> list[_Dot]:
    """What has products and moves bytes; the rest has no place on the axes."""
    dots = []
    for operator, work, taken in zip(network.operators, works, cycles, strict=True):
        if work.products and work.intensity and taken:
            name = label(operator)
            dots.append(
                _Dot(
                    work.intensity,
                    work.products / taken,
                    name.split(".")[0],
                    kind(operator) == "attention",
                    f"{name}: {work.products} products, {work.dram_bytes} bytes, {taken} cycles",
                )
            )
    return dots


def _frame(dots: Sequence[_Dot], peak: int, beat: int) -> _Frame:
    """Whole decades around every dot, the ridge and the peak."""
    xs = [dot.x for dot in dots] + [peak / beat]
    ys = [dot.y for dot in dots] + [peak * 1.2, peak / 8]
    return _Frame(
        (math.floor(math.log10(min(xs) / 1.5)), math.ceil(math.log10(max(xs) * 1.5))),
        (math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))),
    )


def _axes(frame: _Frame) -> list[str]:
    left, bottom = frame.at(10.0 ** frame.x[0], 10.0 ** frame.y[0])
    right, top = frame.at(10.0 ** frame.x[1], 10.0 ** frame.y[1])
    drawn = []
    for decade in range(frame.x[0], frame.x[1] + 1):
        x, _ = frame.at(10.0**decade, 10.0 ** frame.y[0])
        drawn.append(f'<path class="g" d="M{x:.1f} {top:.1f}V{bottom:.1f}"/>')
        drawn.append(
            f'<text x="{x:.1f}" y="{bottom + 18:.1f}" text-anchor="middle">'
            f"{plain_number(10.0**decade)}</text>"
        )
    for decade in range(frame.y[0], frame.y[1] + 1):
        _, y = frame.at(10.0 ** frame.x[0], 10.0**decade)
        drawn.append(f'<path class="g" d="M{left:.1f} {y:.1f}H{right:.1f}"/>')
        drawn.append(
            f'<text x="{left - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">'
            f"{plain_number(10.0**decade)}</text>"
        )
    middle, height = (left + right) / 2, (top + bottom) / 2
    drawn.append(
        f'<text x="{middle:.1f}" y="{bottom + 42:.1f}" text-anchor="middle">products of the layer '
        "for a byte of DRAM</text>"
    )
    drawn.append(
        f'<text transform="translate(22 {height:.1f}) rotate(-90)" text-anchor="middle">'
        "products of the layer a cycle</text>"
    )
    return drawn


def _roofs(frame: _Frame, roofs: dict[Precision, int], beat: int) -> list[str]:
    drawn = []
    for name, peak in roofs.items():
        ridge = peak / beat
        start = max(10.0 ** frame.x[0], 10.0 ** frame.y[0] / beat)
        x0, y0 = frame.at(start, start * beat)
        x1, y1 = frame.at(ridge, peak)
        x2, _ = frame.at(10.0 ** frame.x[1], peak)
        drawn.append(f'<path class="roof" d="M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}H{x2:.1f}"/>')
        drawn.append(
            f'<text x="{x2 + 8:.1f}" y="{y1 + 4:.1f}">array, {name}: {peak} a cycle</text>'
        )
    x, y = frame.at(start * 1.6, start * 1.6 * beat)
    drawn.append(f'<text x="{x + 8:.1f}" y="{y + 8:.1f}">DMA: {beat} bytes a cycle</text>')
    return drawn


def _marks(frame: _Frame, dots: Sequence[_Dot]) -> list[str]:
    colours = _colours(dots)
    drawn = []
    for dot in dots:
        x, y = frame.at(dot.x, dot.y)
        title = f"<title>{escape(dot.title)}</title>"
        drawn.append(_shape(dot.attention, x, y, colours[dot.part], title))
    return drawn


def _shape(attention: bool, x: float, y: float, colour: str, inside: str = "") -> str:
    """A diamond for an attention, a circle for a layer."""
    if attention:
        return (
            f'<path class="dot" fill="{colour}" d="M{x:.1f} {y - 7:.1f}l7 7-7 7-7-7z">'
            f"{inside}</path>"
        )
    return (
        f'<circle class="dot" fill="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="5.5">{inside}</circle>'
    )


def _legend(dots: Sequence[_Dot]) -> list[str]:
    """Parts of the model by colour, and attention by its shape."""
    colours = _colours(dots)
    entries = [(False, colour, part) for part, colour in colours.items()]
    entries.append((True, "#55606e", "attention"))
    x, drawn = WIDTH - RIGHT + 20, []
    for at, (attention, colour, name) in enumerate(entries):
        y = HEIGHT - BOTTOM - 22 * (len(entries) - at) + 10
        drawn.append(_shape(attention, x, y, colour))
        drawn.append(f'<text x="{x + 14:.1f}" y="{y + 4:.1f}">{escape(name)}</text>')
    return drawn


def _colours(dots: Sequence[_Dot]) -> dict[str, str]:
    parts = list(dict.fromkeys(dot.part for dot in dots))
    return {part: COLOURS[at % len(COLOURS)] for at, part in enumerate(parts)}
