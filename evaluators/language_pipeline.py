"""The evaluator of language models: bits per byte of code, and the cost of prompt and answer."""

from evaluators.design import DesignPoint
from evaluators.gatekeeper import Gatekeeper
from evaluators.language_design import LanguageDesignBench
from evaluators.metrics import Evaluation, Stage
from evaluators.target import Target
from evaluators.window_scores import figures

WINDOWS = 8
"""Windows of a split, one a module."""

SET = "code"
"""Name of the one set of test figures."""


class LanguagePipeline(Gatekeeper):
    """Bits per byte, synthesis and timing, predicted cycles, blocks and head on the RTL, energy."""

    name: str = "language-pipeline"
    """Name in evaluations."""

    model: str = "smollm2-135m"
    """What `swopt.workloads.language_models.load` takes."""

    windows: int = WINDOWS
    """Windows that scores are taken of."""

    def evaluate(self, design: DesignPoint, target: Target, on_stage: Stage) -> Evaluation:
        """Measures a design; a fault of the design, or of a tool on it, becomes its status."""
        return LanguageDesignBench(self, design, target).evaluation(self.name, on_stage)

    def test(self, design: DesignPoint) -> dict[str, dict[str, float]]:
        """Scores design, baseline and float model on the windows of test modules."""
        own = LanguageDesignBench(self, design, Target())
        base = LanguageDesignBench(self, DesignPoint(hardware=design.hardware), Target())
        ours, theirs = own.scores("test"), own.float_scores("test")
        return {SET: figures(ours, base.scores("test"), theirs)}
