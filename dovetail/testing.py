"""Fakes for tests of a run: an evaluator and a proposer that take microseconds.

They are shipped, so that whoever writes a proposer, an evaluator or a viewer can try it against a
whole run without a model or a synthesizer. Their figures mean nothing.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from agents.llm import ReplayMiss
from agents.proposer import Context, ModelCall, Proposal, Proposer, Rejection, Role
from dovetail.errors import Missing
from dovetail.settings import Settings
from dovetail.workshop import Bench, Estimate, OnCall
from evaluators import space
from evaluators.design import DesignPoint
from evaluators.metrics import Evaluation, Provenance, Stage, Verdict
from evaluators.target import Target
from hwlib.edit import RtlEdit

if TYPE_CHECKING:
    from dovetail.compiling import Case

LAYERS = (
    *("vision.0", "vision.0.mlp.up", "vision.1", "vision.1.mlp.up"),
    *("decoder.0", "decoder.0.mlp.up", "decoder.1", "decoder.1.mlp.up"),
)


@dataclass(frozen=True)
class ToyEvaluator:
    """Figures from a closed formula of the knobs; they mean nothing."""

    name: str = "toy"
    delay_s: float = 0.0
    """Time an evaluation takes, for tests that interrupt one."""

    def gate(self, design: DesignPoint) -> tuple[Verdict, ...]:
        """Accepts an edit whose source contains `amaranth`."""
        return tuple(
            Verdict(
                unit=edit.unit,
                accepted="amaranth" in edit.source,
                reason="it names amaranth" if "amaranth" in edit.source else "it is no hardware",
                shown="tested" if "amaranth" in edit.source else None,
            )
            for edit in design.edits
        )

    def evaluate(self, design: DesignPoint, target: Target, on_stage: Stage) -> Evaluation:
        """A bigger array is faster and larger; fewer bits are smaller and worse."""
        on_stage("accuracy")
        time.sleep(self.delay_s)
        on_stage("synthesis")
        hardware = design.hardware
        plan = design.compression
        elements = hardware.rows * hardware.columns
        bits = plan.quantization.bits
        kept = (plan.pruning.vision_mlp_keep + plan.pruning.decoder_mlp_keep) / 2
        cycles = round(2e6 * kept * (0.5 + bits / 16) / elements)
        nll = 0.55 + 0.4 * (8 - bits) ** 2 / 36 + 0.3 * (1 - kept) ** 2
        area = 60_000.0 + 2_500.0 * elements
        return Evaluation(
            design_id=design.id,
            evaluator=self.name,
            status="ok",
            metrics={
                "nll_nats": nll,
                "nll_increase_nats": nll - 0.55,
                "nll_increase_se_nats": 0.01,
                "memory_bytes": 8e4 * bits / 8,
                "accuracy": max(0.0, 1.0 - nll / 2),
                "cycles": float(cycles),
                "clock_hz": 8e8 - 1e6 * elements,
                "latency_s": cycles / (8e8 - 1e6 * elements),
                "area_um2": area,
                "energy_j": 2e-12 * cycles * elements * bits / 8 + 1e-9 * area / 1e3,
            },
            details={"memory_of_float16": bits / 16},
            provenance=(
                Provenance(
                    evaluator=self.name,
                    versions={"toy": "1"},
                    command="dovetail evaluate DESIGN.json",
                    inputs={"design": design.id},
                ),
            ),
        )

    def test(self, design: DesignPoint) -> dict[str, dict[str, float]]:
        """One made-up data set, by the names of the real figures."""
        return {
            "toy": {
                "questions": 100.0,
                "baseline_accuracy": 0.81,
                "baseline_accuracy_se": 0.039,
                "design_accuracy": 0.8,
                "design_accuracy_se": 0.04,
                "accuracy_difference": -0.01,
                "accuracy_difference_se": 0.01,
                "nll_difference_nats": 0.015,
                "nll_difference_se_nats": 0.004,
            }
        }


@dataclass
class ScriptedProposer:
    """Asks two made-up questions a trial and follows the answers; like agents, without a model."""

    recorded: Mapping[int, Sequence[ModelCall]]
    on_call: OnCall
    live: bool = True
    """Whether a question that is not on record may be answered afresh."""
    asked: list[str] = field(default_factory=list)
    """Prompts that were answered afresh."""

    def propose(self, context: Context) -> Proposal:
        """Changes one knob of the suggestion, as the reply says; every third trial edits RTL."""
        known = ", ".join(f"{t.index}:{t.evaluation.status}" for t in context.history)
        plan = self._ask(context.trial, "planner", f"seed {context.seed}, known {known}; where to?")
        reply = self._ask(context.trial, "compression", f"plan {plan.reply}; which bits?")
        answer = json.loads(reply.reply)
        rejections: tuple[Rejection, ...] = ()
        design = context.suggestion
        try:
            design = space.with_changes(design, answer["changes"])
        except ValueError as error:
            rejections = (Rejection(role="compression", call=0, reason=str(error)),)
        if context.trial % 3 == 2:
            source = "from amaranth import *\n" if context.trial % 2 else "print('gain')\n"
            edit = RtlEdit(unit="rescaler", source=source, latency=1)
            design = design.model_copy(update={"edits": (edit,)})
        return Proposal(
            parent_trial=context.history[-1].index if context.history else None,
            design=design,
            author="agents",
            rationale=answer["rationale"],
            rejections=rejections,
        )

    def _ask(self, trial: int, role: Role, prompt: str) -> ModelCall:
        sha256 = hashlib.sha256(prompt.encode()).hexdigest()
        for call in self.recorded.get(trial, ()):
            if call.request_sha256 == sha256:
                self.on_call(trial, call, "record")
                return call
        if not self.live:
            raise ReplayMiss(trial, role, 0)
        self.asked.append(f"{trial} {role}")
        bits = 9 if trial % 4 == 1 else 2 + int(sha256[:4], 16) % 7  # the space refuses 9
        changes = {"compression.quantization.bits": bits}
        call = ModelCall(
            role=role,
            call=0,
            model="scripted",
            request_sha256=sha256,
            messages=({"role": "user", "content": prompt},),
            reply=json.dumps({"changes": changes, "rationale": f"{bits} bits may do."}),
            input_tokens=len(prompt.split()),
            output_tokens=8,
        )
        self.on_call(trial, call, "server")
        return call


@dataclass(frozen=True)
class ToyWorkshop:
    """A workshop of fakes."""

    delay_s: float = 0.0
    """Time an evaluation takes."""

    def bench(self, settings: Settings) -> Bench:
        """No data at all, and it says so."""
        return Bench(
            evaluator=ToyEvaluator(delay_s=self.delay_s),
            data="no data: made-up figures of the toy evaluator",
            data_sha256={},
            layers=LAYERS,
        )

    def case(
        self,
        design: DesignPoint,
        question: int,
        data_dir: Path | None,
        checkpoint: Path | None = None,
    ) -> "Case":
        """None: figures from a formula have no model that could be compiled."""
        raise Missing("the toy workshop has no model to compile")

    def proposer(
        self, settings: Settings, recorded: Mapping[int, Sequence[ModelCall]], on_call: OnCall
    ) -> Proposer:
        """The scripted proposer."""
        return ScriptedProposer(recorded, on_call)

    def replayer(
        self, settings: Settings, recorded: Mapping[int, Sequence[ModelCall]], on_call: OnCall
    ) -> Proposer:
        """The scripted proposer without new answers."""
        return ScriptedProposer(recorded, on_call, live=False)

    def estimate(self, settings: Settings, bench: Bench) -> Estimate | None:
        """Two short questions a trial."""
        return Estimate(2 * settings.iterations, 20 * settings.iterations, 16 * settings.iterations)
