"""The whole integer model beside the float one, and its inference on the RTL of the core.

    python benchmarks/whole_model.py [--questions 8] [--rows 8 --columns 8]

For each plan: the increase of the validation NLL over the float model, with the weights
alone rounded and with everything in integers; and for some questions the cycles of a whole
inference on the netlist in Verilator, after every tensor was compared with the integer model's.
Prints Markdown.
"""

import argparse
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from evaluators import cache
from evaluators.accuracy import Answered, Paired, answer, paired
from evaluators.silicon.simulation import Dram, simulate_core
from hwlib.config import CoreConfig
from hwlib.elaborate import elaborate_core
from swopt.compiler import twin
from swopt.compiler.integer_model import IntegerModel, integer_model, weight_only_model
from swopt.compiler.program import lower, token, unpack
from swopt.plan import CompressionPlan
from swopt.techniques.pruning import PruningKnobs
from swopt.techniques.quantization import QuantizationKnobs
from swopt.workloads.workload import Workload, load_workload

FOUR = QuantizationKnobs(bits=4)

ALL_FOUR = QuantizationKnobs(bits=4, activation_bits=4)

PRUNED = PruningKnobs(decoder_blocks=(1,), vision_mlp_keep=0.5, decoder_mlp_keep=0.75)

PLANS: Mapping[str, CompressionPlan] = {
    "w8a8": CompressionPlan(),
    "w4a8": CompressionPlan(quantization=FOUR),
    "w2a8": CompressionPlan(quantization=QuantizationKnobs(bits=2)),
    "w4a8, pruned": CompressionPlan(pruning=PRUNED, quantization=FOUR),
    "w4a4": CompressionPlan(quantization=ALL_FOUR),
    "w4a4, pruned": CompressionPlan(pruning=PRUNED, quantization=ALL_FOUR),
}
"""`pruned`: without decoder block 1, with 50 % and 75 % of the MLP channels."""


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=8, help="questions that the RTL answers")
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--columns", type=int, default=8)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    workload = load_workload()
    config = CoreConfig(rows=chosen.rows, columns=chosen.columns)
    cores = [config, config.model_copy(update={"composable": True})]
    uncompressed = answer(workload, None, "val")
    tools = {name: version(name) for name in ("torch", "amaranth", "verilator")}
    shown = ", ".join(f"{name} {number}" for name, number in tools.items())
    print(f"{workload.describe()}; {len(uncompressed.sets)} validation questions")
    print(f"core of {config.rows} x {config.columns}, {shown}, {platform.machine()}\n")
    print("| plan | NLL increase, weights alone rounded | all in integers | ", end="")
    print("cycles, fixed elements | composable | tensors equal |")
    print("|---|---|---|---|---|---|")
    for name, plan in PLANS.items():
        rounded = weight_only_model(workload, plan)
        alone = increase(workload.score(rounded, workload.validation()), uncompressed)
        model = integer_model(workload, plan, config.exponential_entries)
        cells, equal = [], 0
        for core in cores:
            if plan.quantization.activation_bits == 4 and not core.composable:
                cells.append("")
                continue
            cycles, tensors = on_core(workload, model, core, chosen.questions)
            cells.append(f"{cycles:,.0f}")
            equal += tensors
        whole = increase(model.score(workload.validation()), uncompressed)
        print(f"| {name} | {nats(alone)} | {nats(whole)} | {cells[0]} | {cells[1]} | {equal} |")


def increase(scores: torch.Tensor, uncompressed: Answered) -> Paired:
    """Of the validation NLL over the float model."""
    ours = Answered(scores.double().numpy(), uncompressed.labels, uncompressed.sets)
    return paired(ours.nll_nats(), uncompressed.nll_nats())


def nats(difference: Paired) -> str:
    """A paired difference with its standard error."""
    return f"{difference.mean:+.4f} ± {difference.standard_error:.4f}"


def on_core(
    workload: Workload, model: IntegerModel, config: CoreConfig, questions: int
) -> tuple[float, int]:
    """Mean cycles of an inference, and how many tensors were compared, all equal.

    Raises:
        AssertionError: A tensor or a token on the RTL is not the integer model's.
    """
    validation, netlist = workload.validation(), elaborate_core(config)
    step = max(1, len(validation) // questions)
    cycles, compared = [], 0
    for index in range(0, step * questions, step):
        inputs = model.host.inputs(validation.take([index]))[0]
        expected = twin.tensors(model.network, inputs)
        for trace in (True, False):
            program = lower(model.network, inputs, config, trace=trace)
            run = simulate_core(
                netlist, program.commands, program.dram, config, simulators(), Dram()
            )
            dram = np.frombuffer(run.dram, np.uint8)
            for name, tensor in unpack(program, dram).items():
                assert np.array_equal(tensor, expected[name]), f"question {index}: {name} differs"
                compared += 1
            assert token(program, dram) == int(np.argmax(expected[model.network.logits][-1]))
        cycles.append(run.total_cycles)  # of the program without the stores of a trace
    return float(np.mean(cycles)), compared


def simulators() -> Path:
    """Where built simulators are kept."""
    return cache.root() / "simulators"


if __name__ == "__main__":
    main()
