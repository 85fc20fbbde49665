"""Numbers and texts as a person reads them; inside the house everything is SI."""

import math
import unicodedata

_PREFIXES = {
    -15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T",
}  # fmt: skip

UNITS = {
    "_s": "s", "_j": "J", "_w": "W", "_hz": "Hz", "_nats": "nats", "_um2": "µm²", "_bytes": "B",
}  # fmt: skip
"""Unit of a metric by the suffix of its name."""

FIXED = frozenset({"nats", "µm²"})
"""Units that take no prefix."""


def quantity(value: float, unit: str) -> str:
    """A value with its unit and an SI prefix, three significant digits: `1.23 ms`."""
    if not math.isfinite(value):
        return f"{value} {unit}".strip()
    if unit in FIXED or not unit:
        return f"{plain_number(value)} {unit}".strip()
    exponent = 0 if value == 0 else math.floor(math.log10(abs(value)) / 3) * 3
    exponent = min(12, max(-15, exponent))
    scaled = f"{value / 10**exponent:.3g}"
    if abs(float(scaled)) >= 1000 and exponent < 12:
        exponent += 3
        scaled = f"{value / 10**exponent:.3g}"
    return f"{scaled} {_PREFIXES[exponent]}{unit}".strip()


def metric(name: str, value: float) -> str:
    """A metric's value with the unit that its name ends in."""
    return quantity(value, unit_of(name))


def unit_of(name: str) -> str:
    """The unit that a metric's name ends in; empty for a count or a share."""
    return next((unit for suffix, unit in UNITS.items() if name.endswith(suffix)), "")


def plain_number(value: float) -> str:
    """Three significant digits below a thousand, whole and in groups above."""
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.2e}"


def duration(seconds: float) -> str:
    """`12 s`, `3 min 05 s` or `2 h 07 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def safe(text: str) -> str:
    """Text for a terminal: line feeds and tabs stay, every other control character goes.

    Escape sequences, carriage returns and bidi marks could forge what a person reads.
    """
    kept = "\n\t"
    return "".join(
        c for c in text if c in kept or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co")
    )


def one_line(text: str, limit: int = 200) -> str:
    """The same on one line, cut to `limit` characters."""
    line = " ".join(safe(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
