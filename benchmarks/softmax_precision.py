"""The integer softmax beside the float one, on the attention logits of real questions.

    python benchmarks/softmax_precision.py [--questions 16]

The scores are those of `tiny-vlm` at w8a8 on validation questions: every layer, head, row. Float:
the softmax of the exact scaled products q . k. Integer: their int16 scores through
`swopt.compiler.twin.softmax_block`, block by block, each probability over the row's total. For each
size of the exponential's table and of the block: the mean and the greatest divergence
KL(integer | float) of a row in nats (the other way round a probability that is rounded to 0 makes
it infinite), the mean total variation, and the row's total over the exact sum of its exponentials.
Prints Markdown.
"""

import argparse
import math
import platform
from importlib.metadata import version

import torch

from hwlib.reference import tables
from swopt.compiler import network as net
from swopt.compiler import twin
from swopt.compiler.integer_model import integer_model
from swopt.plan import CompressionPlan
from swopt.workloads.workload import load_workload

ENTRIES = (4, 8, 16, 32)
"""Sizes of the exponential's table."""

BLOCKS = (16, 64, 256)
"""Keys of a block; 256 is more than any question has."""


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=16, help="validation questions")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    workload = load_workload()
    rows = [
        scores_of(operator, made)
        for made, operators in made_by_questions(chosen.questions)
        for operator in operators
    ]
    count = sum(exact.shape[0] * exact.shape[1] for exact, _, _ in rows)
    print(f"{workload.describe()}; {count} rows of {chosen.questions} questions")
    print(f"torch {version('torch')}, {platform.machine()}\n")
    print("| table | block | KL, mean, nats | KL, greatest | total variation, mean | ", end="")
    print("total over exact sum, mean | least |")
    print("|---|---|---|---|---|---|---|")
    for entries in ENTRIES:
        for block in BLOCKS:
            found = [compared(*each, block=block, entries=entries) for each in rows]
            kl, apart, total = (torch.cat(part) for part in zip(*found, strict=True))
            print(
                f"| {entries} | {block} | {kl.mean():.1e} | {kl.max():.1e} | {apart.mean():.4f} | "
                f"{total.mean():.3f} | {total.min():.3f} |"
            )


def made_by_questions(
    count: int,
) -> list[tuple[dict[str, torch.Tensor], list[net.Attention]]]:
    """The integer tensors of some validation questions, and the attentions of the network."""
    workload = load_workload()
    model = integer_model(workload, CompressionPlan())
    validation = workload.validation()
    step = max(1, len(validation) // count)
    attentions = [op for op in model.network.operators if isinstance(op, net.Attention)]
    return [
        (
            {
                name: torch.from_numpy(tensor)
                for name, tensor in twin.tensors(model.network, inputs).items()
            },
            attentions,
        )
        for inputs in model.host.inputs(validation.take(list(range(0, step * count, step))))
    ]


def scores_of(
    op: net.Attention, made: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Exact scores in octaves, int16 scores, and what a row sees, `[heads, rows, keys]`."""
    q, k = (
        made[name].reshape(len(made[name]), -1, op.head_dim).transpose(0, 1).long()
        for name in (op.q, op.k)
    )
    k = k[torch.arange(op.heads) * op.kv_heads // op.heads]
    sums = q @ k.mT
    exact = sums.double() * op.score.multiplier / 2.0**op.score.shift / tables.OCTAVE
    rounded = twin.round_shift(sums * op.score.multiplier, op.score.shift)
    integer = rounded.clamp(-(1 << 15), (1 << 15) - 1).to(torch.int16)
    at = torch.arange(q.shape[1])
    return exact, integer, (at <= at[:, None]) | (not op.causal)


def compared(
    exact: torch.Tensor, scores: torch.Tensor, seen: torch.Tensor, block: int, entries: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """KL in nats, total variation, and total over the exact sum of each row, `[heads * rows]`."""
    masked = exact.masked_fill(~seen, -torch.inf)
    p = torch.softmax(masked * math.log(2), -1)
    maximum = torch.full(scores.shape[:-1], twin.EMPTY)
    total, values = torch.zeros(scores.shape[:-1], dtype=torch.int64), torch.zeros_like(exact)
    for start in range(0, scores.shape[-1], block):
        span = slice(start, start + block)
        made, maximum, total, alpha = twin.softmax_block(
            scores[..., span], seen[..., span], maximum, total, entries
        )
        # What the weighted sums of earlier blocks are worth after this one's shift.
        values = values / 2.0 ** alpha[..., None].double()
        values[..., span] = made.double()
    q = values / total[..., None]
    ratio = torch.where(q > 0, q.clamp(min=1e-30).log() - p.clamp(min=1e-300).log(), 0.0)
    true_sum = (2.0 ** (masked - maximum[..., None].double())).sum(-1) * tables.PROBABILITY_MAX
    variation = (p - q).abs().sum(-1) / 2
    return (q * ratio).sum(-1).flatten(), variation.flatten(), (total / true_sum).flatten()


if __name__ == "__main__":
    main()
