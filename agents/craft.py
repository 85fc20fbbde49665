"""The offline model's craft: what its hardware, RTL and compression roles answer.

Plain hill-climbing with a designer's priors: grow the array while area is left and shrink when it
is not, rewrite the unit on the worst path by the playbook, spend a little quality on bits and
pruning where it is cheap, and do nothing that is measured already or under measurement now. The
planner's direction begins with a word that says which of these is wanted.
"""

import itertools
import json
import math
import random
from collections.abc import Iterator
from typing import Any

from agents.estimates import (
    ACTIVATION_BITS,
    ACTIVATIONS,
    BITS,
    COLUMNS,
    COMPOSABLE,
    LINK,
    MEAN_BITS,
    ROUNDING,
    ROWS,
    STAGES,
    TOWERS,
    WEIGHTS,
    Json,
    apart,
    area_um2,
    gain,
)
from hwlib.config import CoreConfig
from swopt.techniques.resolution import ResolutionKnobs, image_tokens

STEERED = (ROWS, COLUMNS, LINK, ACTIVATIONS, WEIGHTS, COMPOSABLE, STAGES)
"""Knobs that the hardware role turns; the rest it leaves to the sampler's suggestions."""

ARRAY = (ROWS, COLUMNS)

PRUNING = "compression.pruning"
COMPENSATION = f"{PRUNING}.compensation"
SOLVED = {COMPENSATION: "least_squares"}
"""What makes up for most of what channels and heads cost."""

RESOLUTION = "compression.resolution."
RECOVERY = "compression.recovery.steps"
BEHIND_ROUNDING = "compression.recovery.quantization_aware"

TAUGHT = {RECOVERY: 100, BEHIND_ROUNDING: True}
"""What makes up for most of what pruning and few bits cost."""

OVERRIDES = f"{BITS}.overrides"

PENDING = "under measurement now"
"""The section with the designs whose figures are not known yet."""

TOO_DEAR_NATS = 0.15
"""A step that always cost this much more than the parent is not taken again."""

CHEAP_NATS = 0.02
"""Up to this increase of the NLL two steps are taken at once."""

FAIR_TRIES = 2
"""Feasible designs with a rewrite that have to miss the front before it is given up."""

AREA_MARGIN = 0.96
"""Share of the area limit that an expected area may take; the rest is for the RTL role."""

MOST_ELEMENTS = 128
"""Of an array, so that the gate judges a rewrite of it in minutes."""

MOST_CHANGES = 3
"""Knobs of the parent that are changed at once."""


def hardware(sections: Json, chance: random.Random) -> Json:
    """The hardware role's reply."""
    values, parent, word = _values(sections), parent_of(sections), word_of(sections)
    if parent is None or "area_um2" not in parent["metrics"]:
        return {"changes": [], "why": "The suggestion's hardware is measured as it is."}
    target, suggested = sections["target"], _suggested(sections)
    tried, sizes = _tried_hardware(sections), _measured_areas(sections)

    def hopeful(wanted: Json) -> bool:
        if wanted == values:
            return bool(parent["feasible"]) and word not in ("change", "compose")
        return (
            max(wanted[ROWS], wanted[COLUMNS]) <= 4 * min(wanted[ROWS], wanted[COLUMNS])
            and wanted[ROWS] * wanted[COLUMNS] <= MOST_ELEMENTS
            and (wanted[COMPOSABLE] or word != "compose")
            and (wanted[COMPOSABLE] or parent["knobs"].get(ACTIVATION_BITS, 8) == 8)
            and not _hardware_known(wanted, tried)
            and area_um2(wanted, sizes) <= AREA_MARGIN * target["area_limit_um2"]
        )

    if word == "merge" and hopeful(suggested):
        wanted, whose = suggested, "Optuna's accelerator under the parent's model: "
    else:
        fitting = filter(hopeful, _candidates(values, _steps(sections)))
        ranked = sorted(fitting, key=lambda w: (-_merit(w, values, parent, target), _text(w)))
        if not ranked:
            return {"changes": [], "why": "Every accelerator that should fit has been measured."}
        wanted, whose = ranked[0] if chance.random() < 0.8 else chance.choice(ranked[:3]), ""
    move = _differences(wanted, values)
    told = ", ".join(
        f"{path.removeprefix('hardware.')} {_text(values[path])} to {_text(move[path])}"
        for path in move
    )
    share = area_um2(wanted, sizes) / target["area_limit_um2"]
    why = f"{whose}{told or 'hardware as the parent'}; I expect {share:.0%} of the area limit."
    return {"changes": _listed(move), "why": why[:1].upper() + why[1:]}


def rtl(sections: Json) -> Json:
    """The RTL role's reply: the playbook's first rewrite of the unit that is still hopeful."""
    unit = sections["worst path"]["unit_shown"]
    limits_clock = sections["worst path"]["worst_path_unit"] == unit
    parent = parent_of(sections)
    if sections["target"]["clock_hz"] is not None:
        limits_clock = False  # the target has set the clock
    if parent is not None and parent["details"].get("latency_limited_by") == "DRAM bandwidth":
        limits_clock = False  # a faster netlist would wait for the DRAM
    has = [edit["rewrite"] for edit in parent["edits"]] if parent else []
    tried_now = [edit["rewrite"] for row in sections[PENDING] for edit in row["edits"]]
    # What another trial is trying just now comes last, and so does what costs the most.
    ranked = sorted(
        sections["playbook"], key=lambda e: (e["name"] in tried_now, len(e["costs"]), e["name"])
    )
    for entry in ranked:
        wanted = {"energy", "area", "cycles"} | ({"clock"} if limits_clock else set())
        gains = wanted & set(entry["helps"])
        if limits_clock and "clock" in entry["costs"]:
            continue
        if gains and entry["name"] not in has and _still_hopeful(entry["name"], gains, sections):
            return {
                "action": "replace",
                "unit": entry["unit"],
                "source": sections[f"playbook {entry['name']}"],
                "latency": entry["latency"],
                "why": f"{entry['name']} of the playbook helps {' and '.join(sorted(gains))}.",
            }
    why = f"The playbook holds nothing further for the {unit}."
    if not limits_clock:
        why = f"{why} The clock is limited elsewhere."
    return {"action": "keep", "unit": None, "source": None, "latency": None, "why": why}


def compression(sections: Json, chance: random.Random) -> Json:
    """The compression role's reply."""
    values = _values(sections)
    word, fresh = "keep", []
    for word in INSTEAD.get(word_of(sections), []):
        moves = _moves(word, values, sections)
        fresh = [m for m in moves if m and not _plan_known(word, {**values, **m}, m, sections)]
        if fresh:
            break
    if not fresh:
        return {"changes": [], "overrides": [], "why": "The model stays as it is."}
    if word in ("merge", "temper"):
        move = fresh[0]
    else:
        move = fresh[0] if chance.random() < 0.6 else chance.choice(fresh[:4])
    if word in ("narrow", "prune") and _lost_nats(sections) < CHEAP_NATS:
        move = _with_second_step(move, fresh, values, sections)
    steps = [f"{path.removeprefix('compression.')} to {_text(move[path])}" for path in move]
    told = ", ".join(steps) if len(steps) <= 3 else f"{', '.join(steps[:3])} and more"
    knobs = {path: value for path, value in move.items() if path != OVERRIDES}
    named = {**dict.fromkeys(values[OVERRIDES]), **move[OVERRIDES]} if OVERRIDES in move else {}
    return {
        "changes": _listed(knobs),
        "overrides": [{"name": name, "bits": bits} for name, bits in named.items()],
        "why": f"{WORDS[word]}: {told}.",
    }


INSTEAD = {
    "temper": ["temper"],
    "merge": ["merge", "narrow", "prune", "restore"],
    "restore": ["restore"],
    "narrow": ["narrow", "restore"],
    "prune": ["prune", "restore"],
}
"""What is tried after a direction that leaves nothing to do; `keep` and `adopt` are not in it."""

WORDS = {
    "temper": "The model as it is, so that the figures speak of the hardware alone",
    "merge": "Optuna's compression on the parent's hardware",
    "restore": "To restore quality",
    "narrow": "To spend quality on fewer bits",
    "prune": "To spend quality on less work",
}
"""What a direction to the compression role means; `keep` asks for nothing."""


def word_of(sections: Json) -> str:
    """The word that the planner's direction begins with."""
    return str(sections["plan"]["direction"]).split(":")[0]


def parent_of(sections: Json) -> Json | None:
    """The history's row of the plan's parent; `None` where it is the suggestion."""
    wanted = sections["plan"].get("parent_trial")
    found: list[Json] = [row for row in sections["history"] if row["trial"] == wanted]
    return found[0] if found else None


def _candidates(values: Json, steps: dict[str, list[Any]]) -> Iterator[Json]:
    """The parent's knobs with some of them changed; a memory by a factor of two at most."""
    single = [
        (path, value)
        for path in STEERED
        for value in steps[path]
        if value != values[path]
        and (path not in (ACTIVATIONS, WEIGHTS) or abs(math.log2(value / values[path])) <= 1)
    ]
    for count in range(MOST_CHANGES + 1):
        for moves in itertools.combinations(single, count):
            changed = dict(moves)
            if len(changed) == count:
                yield {**values, **changed}


def _merit(wanted: Json, values: Json, parent: Json, target: Json) -> float:
    """What a change is expected to bring, less its risk, in doublings."""
    steps = [apart(wanted[p], values[p]) for p in wanted if wanted[p] != values[p]]
    return gain(wanted, values, parent, target) - sum(0.15 + 0.1 * step for step in steps)


def _measured_areas(sections: Json) -> list[tuple[Json, float]]:
    """Knobs and area of every accelerator that was measured."""
    return [
        (_own_knobs(row, sections), float(row["metrics"]["area_um2"]))
        for row in sections["history"]
        if "area_um2" in row["metrics"]
    ]


def _tried_hardware(sections: Json) -> list[tuple[Json, str]]:
    """Cores that are or will be measured, each with what is known against it."""
    return [(_own_knobs(row, sections), _outcome(row)) for row in _met_before(sections)]


def _outcome(row: Json) -> str:
    """`large` if over the area limit, `tight` if the model does not fit, `refused` otherwise."""
    if row.get("status") == "invalid":
        return "tight" if "activation memory" in row["reason"] else "refused"
    return "large" if row.get("metrics", {}).get("area_share", 0) > 1 else ""


def _hardware_known(wanted: Json, tried: list[tuple[Json, str]]) -> bool:
    """Whether that hardware was tried, or will fare as one that was.

    It will if it is larger all round than one over the area limit; if it has no more activations
    and no fewer rows, whose tokens share a word, than one that the model did not fit; or if it has
    no more memory than one that was refused and is like it in array and in all knobs that this
    role leaves alone.
    """
    return any(
        had == wanted
        or (outcome == "large" and all(wanted[p] >= had[p] for p in had))
        or (
            outcome == "tight"
            and wanted[ACTIVATIONS] <= had[ACTIVATIONS]
            and wanted[ROWS] >= had[ROWS]
        )
        or (
            outcome == "refused"
            and all(wanted[p] == had[p] for p in had if p in ARRAY or p not in STEERED)
            and all(wanted[p] <= had[p] for p in (ACTIVATIONS, WEIGHTS))
        )
        for had, outcome in tried
    )


def _still_hopeful(name: str, gains: set[str], sections: Json) -> bool:
    """Whether the history speaks for a rewrite, or says nothing: one refused is not tried again."""
    tried = [r for r in sections["history"] if any(e["rewrite"] == name for e in r["edits"])]
    measured = [r for r in tried if r["status"] == "ok"]
    if not tried:
        return True
    if not measured:
        return False
    if gains != {"clock"}:
        fair = [r for r in measured if r["feasible"]]  # else it is another knob that fails
        return len(fair) < FAIR_TRIES or any(r["on_front"] for r in fair)
    fastest = {True: 0.0, False: 0.0}
    for row in sections["history"]:
        if row["status"] == "ok":
            clock_hz = row["details"].get("netlist_clock_hz") or row["metrics"]["clock_hz"]
            fastest[row in measured] = max(fastest[row in measured], clock_hz)
    return fastest[True] > fastest[False]


def _moves(word: str, values: Json, sections: Json) -> list[Json]:
    """Changes of the plan that the direction asks for, the most promising first."""
    match word:
        case "temper":
            return [_differences(_defaults(sections), values)]
        case "merge":
            suggested = _suggested(sections)
            if not _composable(sections):
                suggested[ACTIVATION_BITS] = 8
            for tower in _towers(values):
                if len(suggested[f"{PRUNING}.{tower}_blocks"]) == len(
                    _blocks(sections["layers"], tower)
                ):  # no block would be left
                    suggested[f"{PRUNING}.{tower}_blocks"] = values[f"{PRUNING}.{tower}_blocks"]
            if not _fills_rows(suggested, sections):
                suggested |= {path: values[path] for path in values if path.startswith(RESOLUTION)}
            return [_differences(suggested, values)]
        case "restore":
            whole = _differences(_defaults(sections), values)
            repaired: list[Json] = []
            if _narrowed(values) and values[COMPENSATION] == "mean":
                repaired.append(SOLVED)
            if _pruned(values):
                repaired.append(TAUGHT)
            if _few_bits(values) and values[ROUNDING] == "nearest":
                repaired.append({ROUNDING: "compensated"})
            if _few_bits(values) and not values[BEHIND_ROUNDING]:
                repaired.append(TAUGHT)
            return [*repaired, whole, *({path: value} for path, value in whole.items())]
        case "narrow":
            return [*_narrower(values, sections), *_less_work(values, sections)]
        case "prune":
            return [*_less_work(values, sections), *_narrower(values, sections)]
        case _:
            return []


def _fills_rows(wanted: Json, sections: Json) -> bool:
    """Whether an image's tokens are a multiple of the rows of the parent's core."""
    told = {path.removeprefix(RESOLUTION): wanted[path] for path in wanted if RESOLUTION in path}
    if not told:  # of a model that reads no images
        return True
    core = (parent_of(sections) or sections["suggestion"])["knobs"]
    rows: int = core.get(ROWS, CoreConfig().rows)
    return image_tokens(ResolutionKnobs(**told)) % rows == 0


def _pruned(values: Json) -> bool:
    """Whether something was removed that nothing has been taught to make up for."""
    removed = [values[f"{PRUNING}.{tower}_blocks"] for tower in _towers(values)]
    return values[RECOVERY] == 0 and (_narrowed(values) or any(removed))


def _narrowed(values: Json) -> bool:
    """Whether channels or heads were removed."""
    kept: list[float] = [
        values[path] for path in values if path.startswith(PRUNING) and path.endswith("_keep")
    ]
    return min(kept) < 1


def _few_bits(values: Json) -> bool:
    """Whether some weights have fewer than 8 bits."""
    few = [values[path] for path in values if path.startswith(BITS) and path.endswith("bits")]
    return bool(min(bits for bits in few if bits is not None) < 8)


def _narrower(values: Json, sections: Json) -> Iterator[Json]:
    """Fewer bits, whose errors of rounding are made up for from then on."""
    for move in _fewer_bits(values, sections):
        yield move if values[ROUNDING] == "compensated" else {**move, ROUNDING: "compensated"}


def _fewer_bits(values: Json, sections: Json) -> Iterator[Json]:
    """Stored sizes are 8, 4 and 2 bits; the model first, then a tower, a kind, all but a block.

    With two bits the model is taught behind its rounding. Where elements have one width, bits save
    traffic alone, and sensitivity shares them out best.

    Composable elements multiply 4-bit activations by 4-bit weights at twice the speed again.
    """
    towers = _towers(values)
    weights = [values[f"{BITS}.bits"], *(values[f"{BITS}.{t}.bits"] or 8 for t in towers)]
    weights.append(values[MEAN_BITS])
    fewer = [mean for mean in MEANS[_sees(values)] if mean < values[MEAN_BITS]]
    if fewer and not _composable(sections):
        yield {MEAN_BITS: fewer[0]}
    if _composable(sections) and values[ACTIVATION_BITS] == 8 and min(weights) <= 4:
        yield {ACTIVATION_BITS: 4}
    if values[f"{BITS}.bits"] > 4:
        yield {f"{BITS}.bits": 4}
        yield {f"{BITS}.bits": 4, f"{BITS}.head_bits": 8}
        for tower in towers:
            if values[f"{BITS}.{tower}.bits"] is None:
                yield {f"{BITS}.{tower}.bits": 4}
    for tower in towers:
        removed = values[f"{PRUNING}.{tower}_blocks"]
        left = [i for i in _blocks(sections["layers"], tower) if i not in removed]
        if values[f"{BITS}.{tower}.mlp_bits"] is None:
            yield {f"{BITS}.{tower}.mlp_bits": 2, **TAUGHT}
            if len(left) > 1:
                kept = {**values[OVERRIDES], f"{tower}.{left[0]}": 4}
                yield {f"{BITS}.{tower}.mlp_bits": 2, OVERRIDES: kept, **TAUGHT}
        elif values[f"{BITS}.{tower}.attention_bits"] is None:
            yield {f"{BITS}.{tower}.attention_bits": 2, **TAUGHT}
    if fewer and _composable(sections):
        yield {MEAN_BITS: fewer[0]}


MEANS = {True: (4.0, 3.0, 2.5), False: (6.0, 5.0, 4.5, 4.0)}
"""Mean bits that are tried one after the other, by whether a model reads images: a language model
bears fewer. Measured sensitivity says which layers get more."""


def _towers(values: Json) -> list[str]:
    """The towers that the model has: those that knobs speak of."""
    return [tower for tower in TOWERS if f"{PRUNING}.{tower}_blocks" in values]


def _sees(values: Json) -> bool:
    return "vision" in _towers(values)


def _composable(sections: Json) -> bool:
    """Whether the parent's elements are composable."""
    return bool((parent_of(sections) or sections["suggestion"])["knobs"].get(COMPOSABLE, False))


def _less_work(values: Json, sections: Json) -> Iterator[Json]:
    """MLP channels down to half, then whole blocks from the end, then more channels."""
    towers, step = _towers(values), 0.25 if _sees(values) else 0.125
    for tower in towers:
        keep = values[f"{PRUNING}.{tower}_mlp_keep"]
        if keep > 0.5:
            yield {f"{PRUNING}.{tower}_mlp_keep": keep - step, **SOLVED}
    for tower in towers:
        removed = values[f"{PRUNING}.{tower}_blocks"]
        left = [i for i in _blocks(sections["layers"], tower) if i not in removed]
        if len(left) > 1:
            yield {f"{PRUNING}.{tower}_blocks": sorted([*removed, left[-1]])}
    for tower in towers:
        keep = values[f"{PRUNING}.{tower}_mlp_keep"]
        if 0.25 < keep <= 0.5:
            yield {f"{PRUNING}.{tower}_mlp_keep": keep - 0.125, **SOLVED}


def _with_second_step(move: Json, fresh: list[Json], values: Json, sections: Json) -> Json:
    """`move` with the next step of another technique, where both together are new."""
    for other in fresh:
        both = {**move, **other}
        if not _techniques(move) & _techniques(other) and not _plan_known(
            "", {**values, **both}, both, sections
        ):
            return both
    return move


def _techniques(move: Json) -> set[str]:
    """The compression techniques that a move turns the knobs of."""
    return {path.split(".")[1] for path in move}


def _lost_nats(sections: Json) -> float:
    parent = parent_of(sections)
    return float(parent["metrics"].get("nll_increase_nats", 0.0)) if parent else 0.0


def _plan_known(word: str, wanted: Json, move: Json, sections: Json) -> bool:
    """Whether a plan is known, or one of its steps has always cost too much quality.

    A restored plan is mostly an old one: there the parent's hardware has to be known with it.
    """
    parent = parent_of(sections)
    for row in _met_before(sections):
        if _own_knobs(row, sections) == wanted and (
            word not in ("restore", "temper") or _same_hardware(row, parent)
        ):
            return True
    base = _lost_nats(sections)
    for path, value in move.items():
        costs = [
            row["metrics"]["nll_increase_nats"]
            for row in sections["history"]
            if "nll_increase_nats" in row["metrics"] and row["knobs"].get(path) == value
        ]
        if costs and min(costs) > base + TOO_DEAR_NATS:
            return True
    return False


def _same_hardware(row: Json, parent: Json | None) -> bool:
    def hardware_of(design: Json) -> tuple[Json, Any]:
        knobs = {p: v for p, v in design["knobs"].items() if p.startswith("hardware.")}
        return knobs, design["edits"]

    return parent is not None and hardware_of(row) == hardware_of(parent)


def _met_before(sections: Json) -> list[Json]:
    """Rows of every design that is measured or under measurement."""
    return [*sections["history"], *sections[PENDING]]


def _values(sections: Json) -> Json:
    """The parent's knobs of this role by path."""
    return {k["path"]: k["value"] for k in sections["knobs"]}


def _defaults(sections: Json) -> Json:
    return {k["path"]: k["default"] for k in sections["knobs"]}


def _own_knobs(row: Json, sections: Json) -> Json:
    """A design's knobs of this role by path; a row shows those alone that are not the default."""
    return {path: row["knobs"].get(path, value) for path, value in _defaults(sections).items()}


def _suggested(sections: Json) -> Json:
    return _own_knobs(sections["suggestion"], sections)


def _differences(wanted: Json, values: Json) -> Json:
    return {path: wanted[path] for path in wanted if wanted[path] != values[path]}


def _steps(sections: Json) -> dict[str, list[Any]]:
    """The values of each knob that is declared as `one of ...`."""
    return {
        k["path"]: json.loads(f"[{k['is'].removeprefix('one of ')}]")
        for k in sections["knobs"]
        if k["is"].startswith("one of ")
    }


def _blocks(layers: list[str], tower: str) -> list[int]:
    inside = (name.split(".") for name in layers if name.startswith(f"{tower}."))
    return sorted({int(parts[1]) for parts in inside if parts[1].isdigit()})


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _listed(move: Json) -> list[Json]:
    return [{"path": path, "value": value} for path, value in move.items()]
