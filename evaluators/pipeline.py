"""The shipped evaluator: every stage that a design goes through, cheap first.

It stops at the first stage that fails, and what fails becomes a status of the design. Each stage
is kept in the user's store under the content of everything that it depends on.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from evaluators.bench import DesignBench
from evaluators.design import DesignPoint
from evaluators.gatekeeper import Gatekeeper
from evaluators.inputs import MODEL_TOOLS, data_of, numbers_of
from evaluators.metrics import Evaluation, Stage
from evaluators.target import Target
from hwlib.behaviour import built_of
from hwlib.edit import CoreUnitName
from hwlib.frozen import Frozen

if TYPE_CHECKING:
    from evaluators.accuracy import Answered
    from hwlib.elaborate import UnitNetlist
    from swopt.compiler.integer_model import IntegerModel
    from swopt.plan import CompressionPlan
    from swopt.techniques.recovery import Taught
    from swopt.techniques.sensitivity import Sensitivities
    from swopt.workloads.workload import Workload


class Scores(Frozen):
    """A model's log-probabilities over the answer set."""

    log_probabilities: tuple[tuple[float, ...], ...]
    """One row a question, one column an answer."""


class Pipeline(Gatekeeper):
    """Accuracy, lowering, synthesis and timing, RTL simulation with energy."""

    name: str = "pipeline"
    """Name in evaluations."""

    data_dir: Path | None = None
    """Folder of the image sets; None looks where `swopt.workloads.medmnist` says."""

    checkpoint: Path | None = None
    """Folder of another model than the shipped one, as `dovetail finetune` makes it."""

    def evaluate(self, design: DesignPoint, target: Target, on_stage: Stage) -> Evaluation:
        """Measures a design; a fault of the design, or of a tool on it, becomes its status."""
        return DesignBench(self, design, target).evaluation(self.name, on_stage)

    def test(self, design: DesignPoint) -> dict[str, dict[str, float]]:
        """Scores design, baseline and float model on the test questions, by image set."""
        import torch

        from evaluators.accuracy import figures_by_set

        workload = self.workload()
        # Side by side, each with one thread, as in every evaluation.
        with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            models = pool.map(partial(self._tested, workload), (design, DesignPoint()))
            theirs = self.uncompressed(workload, "test")
            ours, baseline = models
        return figures_by_set(ours, baseline, theirs)

    def _tested(self, workload: "Workload", design: DesignPoint) -> "Answered":
        """A design's answers to the test questions; asked once."""
        units = self.units(design)
        model = partial(self.model, workload, design, units)
        return self._answered(workload, "test", numbers_of(workload, design, units), model)

    def uncompressed(self, workload: "Workload", split: Literal["val", "test"]) -> "Answered":
        """The float model's answers; asked once."""
        return self._answered(workload, split, {"workload": data_of(workload)}, lambda: None)

    def _answered(
        self,
        workload: "Workload",
        split: Literal["val", "test"],
        inputs: dict[str, str],
        model: "Callable[[], IntegerModel | None]",
    ) -> "Answered":
        from evaluators.accuracy import Answered, answer

        def measure() -> Scores:
            _one_thread()
            seen = answer(workload, model(), split).log_probabilities
            return Scores(log_probabilities=tuple(map(tuple, seen.tolist())))

        kept = self.kept("answers", inputs | {"split": split}, MODEL_TOOLS, Scores, measure)
        questions = workload.test() if split == "test" else workload.validation()
        scores = np.array(kept.log_probabilities)
        return Answered(scores, workload.labels(split), questions.sets)

    def model(
        self,
        workload: "Workload",
        design: DesignPoint,
        units: "Mapping[CoreUnitName, UnitNetlist]",
    ) -> "IntegerModel":
        """What a design's compression makes of the workload's model, in its core's arithmetic.

        Args:
            workload: The model and its questions.
            design: Its compression, and the core's tables.
            units: Netlists of its edits, of which the approximate ones count.

        Raises:
            ValueError: The plan breaks a law of the model, or a constant does not fit the core.
        """
        from swopt.compiler.integer_model import integer_model

        _one_thread()
        return integer_model(
            workload,
            design.compression,
            design.hardware.exponential_entries,
            built_of(units),
            partial(self.sensitivities, workload),
            partial(self.taught, workload),
        )

    def sensitivities(self, workload: "Workload") -> "Sensitivities":
        """What rounding each layer of the workload's model costs; measured once."""
        from swopt.techniques.sensitivity import Sensitivities

        def measure() -> Sensitivities:
            from swopt.compiler.integer_model import measure_sensitivities

            _one_thread()
            return measure_sensitivities(workload)

        inputs, tools = {"workload": data_of(workload)}, ("torch", "transformers")
        return self.kept("sensitivity", inputs, tools, Sensitivities, measure)

    def taught(
        self, workload: "Workload", plan: "CompressionPlan", teach: "Callable[[], Taught]"
    ) -> "Taught":
        """What recovery teaches under a plan; taught once."""
        from swopt.techniques.recovery import Taught

        inputs = {"workload": data_of(workload), "plan": plan.model_dump_json()}
        return self.kept("recovery", inputs, MODEL_TOOLS, Taught, teach)

    def workload(self) -> "Workload":
        """The model and its questions; the model itself is built when it is first asked for."""
        from swopt.workloads.workload import load_workload

        return load_workload(self.data_dir, self.checkpoint)


def _one_thread() -> None:
    """Sums of floats depend on the number of threads, and figures are to be the same to the bit."""
    import torch

    torch.set_num_threads(1)
