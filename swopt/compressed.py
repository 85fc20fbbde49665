"""A compressed model: what a plan made of a workload's model, ready to be scored and traced."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from swopt.compiler.integer import IntegerLinear
from swopt.workloads.tiny_vlm import FLOAT_OPERATORS
from swopt.workloads.vqa import Questions
from swopt.workloads.workload import Workload


@dataclass(frozen=True)
class LinearTrace:
    """One linear layer in the inference of one question.

    Attributes:
        question: Index of the question among those recorded.
        name: The layer's name.
        x_q: int8 `[M, K]`, what went in.
        y_q: int8 or int32 `[M, N]`, what came out.
        layer: Weights, bias and requantizer.
    """

    question: int
    name: str
    x_q: NDArray[np.int8]
    y_q: NDArray[np.int8] | NDArray[np.int32]
    layer: IntegerLinear


@dataclass(frozen=True)
class CompressedModel:
    """The integer model that a plan leaves.

    Attributes:
        workload: Whose model it was.
        model: The whole model, with integers in the place of its linear layers.
        layers: Those layers by name, in order of execution; removed ones are missing.
    """

    workload: Workload
    model: torch.nn.Module
    layers: dict[str, IntegerLinear]

    @property
    def float_operators(self) -> tuple[str, ...]:
        """What ran in float because the core does not compute it yet."""
        return FLOAT_OPERATORS

    @property
    def model_bytes(self) -> int:
        """Bytes of the packed weights of the linear layers."""
        return sum(layer.packed_bytes for layer in self.layers.values())

    def score(self, questions: Questions) -> torch.Tensor:
        """Log-probabilities over the workload's answer set, float32 `[n, answers]`.

        Equal questions give equal bits on one machine with one torch thread.
        """
        return self.workload.score(self.model, questions)

    def record(self, questions: Questions) -> list[LinearTrace]:
        """Every linear layer's operands and result, one inference a question, question by question.

        Within a question the layers come in order of execution.
        """
        traces: list[LinearTrace] = []
        for index in range(len(questions)):
            for name, x_q, y_q in self._one_inference(questions.take([index])):
                traces.append(LinearTrace(index, name, x_q, y_q, self.layers[name]))
        return traces

    def _one_inference(
        self, question: Questions
    ) -> list[tuple[str, NDArray[np.int8], NDArray[np.int8] | NDArray[np.int32]]]:
        from contextlib import ExitStack

        with ExitStack() as stack:
            open_traces = {n: stack.enter_context(m.tracing()) for n, m in self.layers.items()}
            self.score(question)
        return [
            (name, x_q.numpy(), y_q.numpy())
            for name, trace in open_traces.items()
            for x_q, y_q in trace
        ]
