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

Json = dict[str, Any]

ROWS, COLUMNS = "hardware.array.rows", "hardware.array.columns"
LINK = "hardware.dma.bytes_per_cycle"
ACTIVATIONS, WEIGHTS = (
    "hardware.scratchpad.activation_bytes",
    "hardware.scratchpad.weight_bytes",
)
BITS = "compression.quantization"
PRUNING = "compression.pruning"
OVERRIDES = f"{BITS}.overrides"
TOWERS = ("vision", "decoder")

PENDING = "under measurement now"
"""The section with the designs whose figures are not known yet."""

TOO_DEAR_NATS = 0.15
"""A step that always cost this much more than the parent is not taken again."""

CHEAP_NATS = 0.02
"""Up to this increase of the NLL two steps are taken at once."""

ELEMENT_UM2 = 700.0
"""Prior of an array element's area in a 45 nm library."""

COLUMN_UM2 = 11_000.0
"""Prior of a column's requantizer and drain."""

BANK_UM2_PER_BYTE = 3.2
"""Prior of a scratchpad's area."""

AREA_MARGIN = 0.96
"""Share of the area limit that an expected area may take; the rest is for the RTL role."""

WORTH = {ROWS: 1.0, COLUMNS: 1.0, LINK: 0.45, WEIGHTS: 0.2, ACTIVATIONS: 0.15}
"""Doublings of speed that a doubling of each knob is thought to bring."""


def hardware(sections: Json, chance: random.Random) -> Json:
    """The hardware role's reply."""
    values, parent, word = _values(sections), parent_of(sections), word_of(sections)
    if parent is None or "area_um2" not in parent["metrics"]:
        return {"changes": [], "why": "The suggestion's hardware is measured as it is."}
    limit_um2 = AREA_MARGIN * sections["target"]["area_limit_um2"]
    steps, measured = _steps(sections), _measured_hardware(sections)
    clocks = _clocks(sections, parent, steps[LINK])
    ranked = sorted(
        (-_merit(wanted, values, clocks), json.dumps(wanted, sort_keys=True), wanted)
        for wanted in (
            dict(zip(steps, choice, strict=True)) for choice in itertools.product(*steps.values())
        )
        if max(wanted[ROWS], wanted[COLUMNS]) <= 4 * min(wanted[ROWS], wanted[COLUMNS])
        and (
            parent["feasible"] and word != "change"
            if wanted == values
            else _area_um2(wanted, sections) <= limit_um2 and not _hardware_known(wanted, measured)
        )
    )
    if not ranked:
        return {"changes": [], "why": "Every accelerator that should fit has been measured."}
    suggested = _suggested(sections)
    if word == "merge" and any(wanted == suggested for *_, wanted in ranked):
        wanted, whose = suggested, "Optuna's accelerator under the parent's model: "
    else:
        _, _, wanted = ranked[0] if chance.random() < 0.8 else chance.choice(ranked[:3])
        whose = ""
    move = {path: wanted[path] for path in wanted if wanted[path] != values[path]}
    told = ", ".join(
        f"{path.removeprefix('hardware.')} {values[path]} to {move[path]}" for path in move
    )
    share = _area_um2(wanted, sections) / sections["target"]["area_limit_um2"]
    why = f"{whose}{told or 'hardware as the parent'}; I expect {share:.0%} of the area limit."
    return {"changes": _listed(move), "why": why[:1].upper() + why[1:]}


def rtl(sections: Json) -> Json:
    """The RTL role's reply: the playbook's first rewrite of the unit that is still hopeful."""
    unit = sections["worst path"]["unit_shown"]
    limits_clock = sections["worst path"]["worst_path_unit"] == unit
    parent = parent_of(sections)
    if parent is not None and parent["details"].get("clock_limited_by") == "DRAM link":
        limits_clock = False  # a faster netlist would wait for the link
    has = [edit["rewrite"] for edit in parent["edits"]] if parent else []
    tried_now = [edit["rewrite"] for row in sections[PENDING] for edit in row["edits"]]
    # What another trial is trying just now comes last, and so does what costs the most.
    ranked = sorted(
        sections["playbook"], key=lambda e: (e["name"] in tried_now, len(e["costs"]), e["name"])
    )
    for entry in ranked:
        wanted = {"energy", "area"} | ({"clock"} if limits_clock else set())
        gains = wanted & set(entry["helps"])
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
        why = "The units keep: the clock is limited elsewhere."
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
    steps = [f"{path.removeprefix('compression.')} to {json.dumps(move[path])}" for path in move]
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


def _merit(wanted: Json, values: Json, clocks: dict[int, float]) -> float:
    """A designer's guess of what a change brings, in doublings of speed, less its risk."""
    gain = sum(worth * math.log2(wanted[path] / values[path]) for path, worth in WORTH.items())
    gain += math.log2(clocks[wanted[LINK]] / clocks[values[LINK]])
    changed = [path for path in wanted if wanted[path] != values[path]]
    return gain - sum(0.15 + 0.1 * abs(math.log2(wanted[p] / values[p])) for p in changed)


def _clocks(sections: Json, parent: Json, widths: list[int]) -> dict[int, float]:
    """Expected clock in Hz for each width of the link: the netlist's or what DRAM can carry."""
    netlist_hz = parent["details"].get("netlist_clock_hz") or parent["metrics"]["clock_hz"]
    carried = sections["target"]["dram_bytes_per_s"]
    return {width: min(netlist_hz, carried / width) for width in widths}


def _area_um2(wanted: Json, sections: Json) -> float:
    """The measured area of the most similar accelerator plus what the prior says of the rest."""

    def prior(knobs: Json) -> float:
        elements, banks = knobs[ROWS] * knobs[COLUMNS], knobs[ACTIVATIONS] + knobs[WEIGHTS]
        return float(
            ELEMENT_UM2 * elements + COLUMN_UM2 * knobs[COLUMNS] + BANK_UM2_PER_BYTE * banks
        )

    def distance(knobs: Json) -> float:
        return sum(abs(math.log2(wanted[path] / knobs[path])) for path in wanted)

    measured = [
        (_own_knobs(row, sections), float(row["metrics"]["area_um2"]))
        for row in sections["history"]
        if "area_um2" in row["metrics"]
    ]
    # Of equally similar ones the largest: area over the limit is worth nothing.
    knobs, area_um2 = min(measured, key=lambda m: (distance(m[0]), -m[1]))
    return area_um2 + prior(wanted) - prior(knobs)


def _measured_hardware(sections: Json) -> list[tuple[Json, bool]]:
    """Accelerators that are or will be measured, and whether each was over the area limit."""
    return [
        (_own_knobs(row, sections), row.get("metrics", {}).get("area_share", 0) > 1)
        for row in _met_before(sections)
    ]


def _hardware_known(wanted: Json, measured: list[tuple[Json, bool]]) -> bool:
    """Whether that hardware was measured, or is larger all round than one over the area limit."""
    return any(
        had == wanted or (too_large and all(wanted[p] >= had[p] for p in had))
        for had, too_large in measured
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
        return any(r["on_front"] for r in measured)
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
            return [_differences(_suggested(sections), values)]
        case "restore":
            whole = _differences(_defaults(sections), values)
            return [whole, *({path: value} for path, value in whole.items())]
        case "narrow":
            return [*_fewer_bits(values, sections), *_less_work(values, sections)]
        case "prune":
            return [*_less_work(values, sections), *_fewer_bits(values, sections)]
        case _:
            return []


def _fewer_bits(values: Json, sections: Json) -> Iterator[Json]:
    """Stored sizes are 8, 4 and 2 bits; the model first, then a tower, a kind, all but a block."""
    if values[f"{BITS}.bits"] > 4:
        yield {f"{BITS}.bits": 4}
        yield {f"{BITS}.bits": 4, f"{BITS}.head_bits": 8}
        for tower in TOWERS:
            if values[f"{BITS}.{tower}.bits"] is None:
                yield {f"{BITS}.{tower}.bits": 4}
    for tower in TOWERS:
        removed = values[f"{PRUNING}.{tower}_blocks"]
        left = [i for i in _blocks(sections["layers"], tower) if i not in removed]
        if values[f"{BITS}.{tower}.mlp_bits"] is None:
            yield {f"{BITS}.{tower}.mlp_bits": 2}
            if len(left) > 1:
                kept = {**values[OVERRIDES], f"{tower}.{left[0]}": 4}
                yield {f"{BITS}.{tower}.mlp_bits": 2, OVERRIDES: kept}
        elif values[f"{BITS}.{tower}.attention_bits"] is None:
            yield {f"{BITS}.{tower}.attention_bits": 2}


def _less_work(values: Json, sections: Json) -> Iterator[Json]:
    """MLP channels down to half, then whole blocks from the end, then more channels."""
    for tower in TOWERS:
        keep = values[f"{PRUNING}.{tower}_mlp_keep"]
        if keep > 0.5:
            yield {f"{PRUNING}.{tower}_mlp_keep": keep - 0.25}
    for tower in TOWERS:
        removed = values[f"{PRUNING}.{tower}_blocks"]
        left = [i for i in _blocks(sections["layers"], tower) if i not in removed]
        if len(left) > 1:
            yield {f"{PRUNING}.{tower}_blocks": sorted([*removed, left[-1]])}
    for tower in TOWERS:
        keep = values[f"{PRUNING}.{tower}_mlp_keep"]
        if 0.25 < keep <= 0.5:
            yield {f"{PRUNING}.{tower}_mlp_keep": keep - 0.125}


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


def _listed(move: Json) -> list[Json]:
    return [{"path": path, "value": value} for path, value in move.items()]
