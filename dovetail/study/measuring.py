"""A study from its first design to its report: what was measured before is not measured again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agents.rewrites import Rewrite
from dovetail.errors import EvaluatorBroken
from dovetail.side_by_side import side_by_side
from dovetail.study.entries import Entry, StudyList
from dovetail.study.folder import ScoresOnTest, StudyFolder
from evaluators.design import DesignPoint
from evaluators.metrics import Evaluation, Evaluator
from evaluators.target import Target

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """An entry with what was measured of it.

    Attributes:
        entry: What.
        evaluation: On validation questions and on the core.
        test: On test questions; None where the evaluation has no figures.
    """

    entry: Entry
    evaluation: Evaluation
    test: ScoresOnTest | None

    @property
    def edp_js(self) -> float:
        """Energy times latency of a question, in joule-seconds."""
        return self.evaluation.metrics["energy_j"] * self.evaluation.metrics["latency_s"]


@dataclass(frozen=True)
class Study:
    """Who measures, what for, and where it is kept.

    Attributes:
        listed: What.
        evaluator: Measures; each call in a process of its own.
        target: Technology and limits.
        folder: Where figures are kept.
        workers: Designs at once.
        tell: Told what goes on, a line a time.
    """

    listed: StudyList
    evaluator: Evaluator
    target: Target
    folder: StudyFolder
    workers: int
    tell: Tell

    def rows(self, playbook: Sequence[Rewrite]) -> list[Row]:
        """Every row, the baseline first.

        Raises:
            EvaluatorBroken: No core of the baseline could be measured under the area limit.
        """
        candidates = self.measured(self.listed.baselines())
        baseline = self.best(candidates)
        others = self.measured(self.listed.entries(baseline.entry.design.hardware, playbook))
        stacks = self.measured(self.listed.fitted(playbook))
        return [baseline, *(row for row in candidates if row is not baseline), *others, *stacks]

    def best(self, rows: Sequence[Row]) -> Row:
        """The row of least energy-delay product under the area limit.

        Raises:
            EvaluatorBroken: There is none.
        """
        limit = self.target.area_limit_um2
        able = [
            row
            for row in rows
            if row.evaluation.status == "ok" and row.evaluation.metrics["area_um2"] <= limit
        ]
        if not able:
            reasons = "; ".join({row.evaluation.reason or "over the area limit" for row in rows})
            raise EvaluatorBroken(f"no core serves as a baseline: {reasons}")
        return min(able, key=lambda row: row.edp_js)

    def measured(self, wanted: Sequence[Entry]) -> list[Row]:
        """Rows of some entries, measured now or before."""
        return side_by_side(self._row, wanted, self.workers)

    def _row(self, entry: Entry) -> Row:
        evaluation = self.folder.evaluation(entry.design)
        if evaluation is None:
            self.tell(f"measuring {entry.part}: {entry.name}")
            evaluation = self.evaluator.evaluate(entry.design, self.target, lambda stage: None)
            # A tool that failed, or ran out of time, may do better another time.
            if evaluation.status in ("ok", "invalid"):
                self.folder.keep(entry.design, evaluation)
        if evaluation.status != "ok":
            self.tell(f"{entry.name}: {evaluation.status}, {evaluation.reason}")
            return Row(entry, evaluation, None)
        return Row(entry, evaluation, self._test(entry.design))

    def _test(self, design: DesignPoint) -> ScoresOnTest:
        scores = self.folder.test(design)
        if scores is None:
            scores = ScoresOnTest(figures=self.evaluator.test(design))
            self.folder.keep(design, scores)
        return scores
