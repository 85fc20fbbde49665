"""Which designs a study measures: written down, not searched for.

The settings were chosen on validation questions; where a paper has a usual setting, it stands
beside ours. Hardware is chosen by the same rule on both sides: of some cores under the area limit,
the one with the least energy-delay product, for the baseline under w8a8 and for the stack under all
of its techniques.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from agents.rewrites import Rewrite
from evaluators.design import DesignPoint
from hwlib.config import CoreConfig
from hwlib.edit import RtlEdit
from hwlib.frozen import Frozen

Part = Literal["cores", "alone", "usual", "cumulative", "fitted", "without", "ladder", "control"]
"""Where an entry stands in the table."""

Change = Mapping[str, Mapping[str, Any]]
"""Knobs by part of a design: `hardware` and the fields of a compression plan."""


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


@dataclass(frozen=True)
class StudyList:
    """What is measured of one model.

    Attributes:
        workload: The model.
        asked: What the energy-delay product is of, in words.
        scored: What quality is: answers to questions, or bits per byte of text.
        cores: Cores that the baseline and the stack choose from, as what differs from the default.
        stack: The techniques of software, in the order in which they are added.
        alone: Each of them with what it cannot do without.
        usual: Settings as papers have them, with whose they are.
        controls: What tells a cause from another, with what it is.
        rewrites: Names of playbook entries, the last technique of the stack.
        ladder: The stack, smaller and smaller, for what a limit of quality allows.
        together: What goes too where a technique is left out, since it needs it.
    """

    workload: str
    asked: str
    scored: Literal["answers", "bits per byte"]
    cores: tuple[Mapping[str, Any], ...]
    stack: Mapping[str, Change]
    alone: Mapping[str, Change]
    usual: Mapping[str, tuple[Change, str]]
    controls: Mapping[str, tuple[Change, str]]
    rewrites: tuple[str, ...]
    ladder: Mapping[str, Change] = field(default_factory=dict)
    together: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def baselines(self) -> list[Entry]:
        """w8a8 on each core."""
        return [
            Entry(part="cores", name=f"w8a8 on {described(c)}", design=DesignPoint(hardware=c))
            for c in (CoreConfig(**each) for each in self.cores)
        ]

    def entries(self, core: CoreConfig, playbook: Iterable[Rewrite]) -> list[Entry]:
        """Every other row on the core of the baseline; those of `fitted` have cores of their own.

        Args:
            core: The baseline's.
            playbook: Where RTL edits come from.
        """
        base, edits = DesignPoint(hardware=core), self._edits(playbook)

        def row(part: Part, name: str, changes: Iterable[Change], note: str = "") -> Entry:
            return Entry(part=part, name=name, design=changed(base, changes), note=note)

        names = list(self.stack)
        whole = changed(base, self.stack.values())
        return [
            *(row("alone", name, [each]) for name, each in self.alone.items()),
            Entry(part="alone", name=RTL_EDITS, design=_with(base, edits)),
            *(row("usual", name, [each], note) for name, (each, note) in self.usual.items()),
            *(
                row("cumulative", f"+ {name}", [self.stack[each] for each in names[: at + 1]])
                for at, name in enumerate(names)
            ),
            Entry(part="cumulative", name=f"+ {RTL_EDITS}", design=_with(whole, edits)),
            *self._without(base, edits),
            *(
                Entry(part="ladder", name=name, design=_with(changed(whole, [each]), edits))
                for name, each in self.ladder.items()
            ),
            *(row("control", name, [each], note) for name, (each, note) in self.controls.items()),
        ]

    def fitted(self, playbook: Iterable[Rewrite]) -> list[Entry]:
        """The whole stack on each core that the baseline chose from, by the same rule."""
        edits, found = self._edits(playbook), []
        for each in self.cores:
            base = DesignPoint(hardware=CoreConfig(**each))
            design = _with(changed(base, self.stack.values()), edits)
            found.append(Entry(part="fitted", name=described(base.hardware), design=design))
        return found

    def _without(self, base: DesignPoint, edits: tuple[RtlEdit, ...]) -> list[Entry]:
        rows = []
        for name in self.stack:
            gone = (name, *self.together.get(name, ()))
            changes = [change for each, change in self.stack.items() if each not in gone]
            note = f"and without {' and '.join(gone[1:])}, which needs it" if gone[1:] else ""
            design = _with(changed(base, changes), edits)
            rows.append(Entry(part="without", name=name, design=design, note=note))
        whole = changed(base, self.stack.values())
        return [*rows, Entry(part="without", name=RTL_EDITS, design=whole)]

    def _edits(self, playbook: Iterable[Rewrite]) -> tuple[RtlEdit, ...]:
        found = {each.name: each for each in playbook}
        return tuple(
            RtlEdit(unit=found[name].unit, source=found[name].source, latency=found[name].latency)
            for name in self.rewrites
        )


RTL_EDITS = "RTL edits"


def both(first: Change, second: Change) -> Change:
    """Two changes as one; the second has the last word."""
    parts = dict.fromkeys([*first, *second])
    return {part: {**first.get(part, {}), **second.get(part, {})} for part in parts}


def described(core: CoreConfig) -> str:
    """A core in a few words."""
    kib = core.activation_bytes // 1024
    return f"{core.rows} x {core.columns}, {kib} KiB, {core.dma_bytes} bytes a beat"


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
