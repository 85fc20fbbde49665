"""The test figures of a run in rows, as the report and the terminal show them."""

from collections.abc import Mapping

HEADINGS = (
    "data set",
    "scored",
    "majority",
    "baseline accuracy",
    "design accuracy",
    "paired difference",
    "balanced accuracy",
    "AUC",
    "bits per byte",
    "NLL difference, nats",
)
"""Each `±` is one standard error; differences are of paired answers; `a → b` is from the baseline
to the design."""


MISSING = "–"


def table(results: Mapping[str, Mapping[str, float]]) -> tuple[list[str], list[list[str]]]:
    """Headings, and a row for each data set; a figure that it lacks is `–`.

    Headings that no data set has a figure for are left out.
    """
    rows = [_cells(data, figures) for data, figures in results.items()]
    kept = [at for at in range(len(HEADINGS)) if any(row[at] != MISSING for row in rows)]
    return [HEADINGS[at] for at in kept], [[row[at] for at in kept] for row in rows]


def _cells(data: str, figures: Mapping[str, float]) -> list[str]:
    return [
        data,
        _scored(figures),
        _cell("{:.1%}", figures, "baseline_majority"),
        _cell("{:.1%} ± {:.1%}", figures, "baseline_accuracy", "baseline_accuracy_se"),
        _cell("{:.1%} ± {:.1%}", figures, "design_accuracy", "design_accuracy_se"),
        _cell("{:+.1%} ± {:.1%}", figures, "accuracy_difference", "accuracy_difference_se"),
        _cell(
            "{:.1%} → {:.1%}",
            figures,
            "baseline_balanced_accuracy",
            "design_balanced_accuracy",
        ),
        _cell("{:.3f} → {:.3f}", figures, "baseline_auc", "design_auc"),
        _cell("{:.3f} → {:.3f}", figures, "baseline_bits_per_byte", "design_bits_per_byte"),
        _cell("{:+.3f} ± {:.3f}", figures, "nll_difference_nats", "nll_difference_se_nats"),
    ]


def _scored(figures: Mapping[str, float]) -> str:
    of_code = _cell("{:.0f} windows", figures, "windows")
    return _cell("{:.0f} questions", figures, "questions") if of_code == MISSING else of_code


def _cell(form: str, figures: Mapping[str, float], *names: str) -> str:
    if any(name not in figures for name in names):
        return MISSING
    return form.format(*(figures[name] for name in names)).replace("%", " %")
