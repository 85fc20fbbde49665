"""Which designs the study of `tiny-vlm` measures: written down, not searched for.

The settings were chosen on validation questions; where a paper has a usual setting, it stands
beside ours. Hardware is chosen by the same rule on both sides: of some cores under the area limit,
the one with the least energy-delay product, for the baseline under w8a8 and for the stack under all
of its techniques.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from agents.rewrites import Rewrite
from evaluators.design import DesignPoint
from hwlib.config import CoreConfig
from hwlib.edit import RtlEdit
from hwlib.frozen import Frozen

Part = Literal["cores", "alone", "usual", "cumulative", "fitted", "without", "control"]
"""Where an entry stands in the table."""


class Entry(Frozen):
    """One row of the study."""

    part: Part
    """Where it stands."""

    name: str
    """What is measured."""

    design: DesignPoint
    """The design."""

    note: str = ""
    """What a reader should know of it."""


CORES: tuple[Mapping[str, Any], ...] = (
    {},
    {"dma_bytes": 16},
    {"columns": 16, "dma_bytes": 16},
    {"rows": 16, "dma_bytes": 16, "activation_bytes": 32768},
    {"rows": 16, "columns": 16, "dma_bytes": 16, "activation_bytes": 32768, "weight_bytes": 8192},
)
"""Cores that the baseline and the stack choose from, as what differs from the default one."""

BITS: Mapping[str, Any] = {"bits": 4, "mean_bits": 3.5}
NARROW: Mapping[str, Any] = {"activation_bits": 4}
BLOCKS: Mapping[str, Any] = {"vision_blocks": (1, 2, 3)}
CHANNELS: Mapping[str, Any] = {"vision_mlp_keep": 0.25, "decoder_mlp_keep": 0.25}
READ: Mapping[str, Any] = {"wording": "shortest"}
TAUGHT: Mapping[str, Any] = {"steps": 200}
REWRITES = (
    "array_shared_operands",
    "rescaler_booth",
    "inverse_sqrt_one_cycle",
    "activation_coarse_table",
)

Change = Mapping[str, Mapping[str, Any]]
"""Knobs by part of a design: `hardware` and the fields of a compression plan."""

STACK: Mapping[str, Change] = {
    "bits by sensitivity, composable elements": {
        "quantization": BITS,
        "hardware": {"composable": True},
    },
    "4-bit activations": {"quantization": NARROW},
    "vision blocks pruned": {"pruning": BLOCKS},
    "MLP channels pruned": {"pruning": CHANNELS},
    "shortest wording": {"resolution": READ},
    "recovery by adapters": {"recovery": TAUGHT},
}
"""The techniques of software, in the order in which they are added."""

ALONE: Mapping[str, Change] = {
    **{name: change for name, change in STACK.items() if name != "recovery by adapters"},
    "4-bit activations": {
        "quantization": {"bits": 4, **NARROW},
        "hardware": {"composable": True},
    },
}
"""Each with what it cannot do without; recovery alone has nothing to win back."""

USUAL: Mapping[str, tuple[Change, str]] = {
    "4 bits in every layer": (
        {"quantization": {"bits": 4}, "hardware": {"composable": True}},
        "the equal bits that mixed precision is compared with (HAWQ)",
    ),
    "a quarter of the vision blocks": (
        {"pruning": {"vision_blocks": (2,)}},
        "25 % of the blocks (ShortGPT)",
    ),
    "a quarter of the MLP channels": (
        {"pruning": {"vision_mlp_keep": 0.75, "decoder_mlp_keep": 0.75}},
        "20 to 25 % of the channels (LLM-Pruner)",
    ),
    "half of the pixels": (
        {"resolution": {"image_width": 16}},
        "fewer pixels without other training",
    ),
}
"""Settings as papers have them, with whose they are."""

CONTROLS: Mapping[str, tuple[Change, str]] = {
    "other vision blocks pruned": (
        {"pruning": {"vision_blocks": (0, 1)}},
        "as many blocks, but not those whose influence is least",
    ),
    "composable elements under w8a8": ({"hardware": {"composable": True}}, "hardware alone"),
}


def cores() -> list[Entry]:
    """The baselines: w8a8 on each core."""
    return [
        Entry(part="cores", name=f"w8a8 on {described(c)}", design=DesignPoint(hardware=c))
        for c in (CoreConfig(**each) for each in CORES)
    ]


def described(core: CoreConfig) -> str:
    """A core in a few words."""
    kib = core.activation_bytes // 1024
    return f"{core.rows} x {core.columns}, {kib} KiB, {core.dma_bytes} bytes a beat"


def entries(core: CoreConfig, playbook: Iterable[Rewrite]) -> list[Entry]:
    """Every other row, on the core of the baseline; the fitted cores are those of the whole stack.

    Args:
        core: The baseline's.
        playbook: Where RTL edits come from.
    """
    base = DesignPoint(hardware=core)
    edits = _edits(playbook)
    rows = [
        Entry(part="alone", name=name, design=changed(base, [each])) for name, each in ALONE.items()
    ]
    rows.append(Entry(part="alone", name="RTL edits", design=_with(base, edits)))
    rows += [
        Entry(part="usual", name=name, design=changed(base, [each]), note=note)
        for name, (each, note) in USUAL.items()
    ]
    names = list(STACK)
    rows += [
        Entry(
            part="cumulative",
            name=f"+ {name}",
            design=changed(base, [STACK[each] for each in names[: at + 1]]),
        )
        for at, name in enumerate(names)
    ]
    whole = changed(base, STACK.values())
    rows.append(Entry(part="cumulative", name="+ RTL edits", design=_with(whole, edits)))
    rows += _without(base, edits)
    rows += [
        Entry(part="control", name=name, design=changed(base, [each]), note=note)
        for name, (each, note) in CONTROLS.items()
    ]
    return rows


def fitted(playbook: Iterable[Rewrite]) -> list[Entry]:
    """The whole stack on each core that the baseline had, among which it chooses as that did."""
    edits, found = _edits(playbook), []
    for each in CORES:
        base = DesignPoint(hardware=CoreConfig(**each))
        design = _with(changed(base, STACK.values()), edits)
        found.append(Entry(part="fitted", name=described(base.hardware), design=design))
    return found


def _without(base: DesignPoint, edits: tuple[RtlEdit, ...]) -> list[Entry]:
    rows = []
    for left_out in STACK:
        changes = [change for name, change in STACK.items() if name != left_out]
        note = ""
        if "hardware" in STACK[left_out]:
            # Elements of 8-bit products can do nothing with narrow activations.
            changes = [change for change in changes if change != STACK["4-bit activations"]]
            note = "and without 4-bit activations, which need both"
        rows.append(
            Entry(
                part="without",
                name=left_out,
                design=_with(changed(base, changes), edits),
                note=note,
            )
        )
    rows.append(Entry(part="without", name="RTL edits", design=changed(base, STACK.values())))
    return rows


def changed(base: DesignPoint, changes: Iterable[Change]) -> DesignPoint:
    """A design with some knobs changed, in turn."""
    document = base.model_dump()
    for change in changes:
        for part, knobs in change.items():
            home = document if part == "hardware" else document["compression"]
            home[part] = home[part] | dict(knobs)
    return DesignPoint.model_validate(document)


def _with(design: DesignPoint, edits: tuple[RtlEdit, ...]) -> DesignPoint:
    return DesignPoint.model_validate(design.model_dump() | {"edits": edits})


def _edits(playbook: Iterable[Rewrite]) -> tuple[RtlEdit, ...]:
    by_name = {each.name: each for each in playbook}
    return tuple(
        RtlEdit(unit=by_name[name].unit, source=by_name[name].source, latency=by_name[name].latency)
        for name in REWRITES
    )
