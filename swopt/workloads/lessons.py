"""What a compressed model is taught: to answer, or to go on, as the uncompressed one does."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from swopt.techniques.resolution import ResolutionKnobs, worded
from swopt.workloads import tiny_vlm
from swopt.workloads.checkpoint import token_id
from swopt.workloads.workload import Workload

BATCH = 48
"""Questions of a step."""

_SEED = 11


def distillation(
    workload: Workload, model: Any, resolution: ResolutionKnobs
) -> Callable[[int], torch.Tensor]:
    """The loss of each step: KL divergence of the model's answers from the uncompressed model's.

    Training images come in a new order and with new questions each time all have been seen; the
    uncompressed model reads them as it was trained to, whatever `resolution` is.

    Args:
        workload: Whose training images and model.
        model: Who learns.
        resolution: How much of a question the model reads.
    """
    tokenizer, whole = workload.vlm.tokenizer, workload.vlm.model
    tokens = [token_id(tokenizer, answer) for answer in workload.answers]
    rng = np.random.default_rng(_SEED)
    asked = workload.practice(0)
    order = rng.permutation(len(asked))
    rounds = 0

    def lesson(step: int) -> torch.Tensor:
        nonlocal asked, order, rounds
        if len(order) < BATCH:
            rounds += 1
            asked = workload.practice(rounds)
            order = rng.permutation(len(asked))
        questions, order = asked.take(order[:BATCH]), order[BATCH:]
        target = tiny_vlm.next_token_logits(tokenizer, whole, questions)
        logits = tiny_vlm.padded_logits(tokenizer, model, worded(questions, resolution))
        return functional.kl_div(
            torch.log_softmax(logits[:, tokens], -1),
            torch.log_softmax(target[:, tokens], -1),
            reduction="batchmean",
            log_target=True,
        )

    return lesson


def continuation(
    whole: Any,
    model: Any,
    texts: torch.Tensor,
    prefix: Sequence[int],
    past: Callable[[], Any] | None = None,
) -> Callable[[int], torch.Tensor]:
    """The loss of each step, of a language model: mean KL divergence of the next token's
    distribution from the uncompressed model's, over one text.

    Args:
        whole: The uncompressed model.
        model: Who learns.
        texts: To be read, int64 `[n, tokens]`; in a new order each time all have been seen.
        prefix: Tokens that stand in front of every text, whose own answers do not count.
        past: Gives the keys and values of the prefix that `model` goes on from; None has it read
            the prefix itself.
    """
    rng = np.random.default_rng(_SEED)
    order: list[int] = []
    before = torch.tensor(tuple(prefix), dtype=torch.long)

    def lesson(step: int) -> torch.Tensor:
        if not order:
            order.extend(rng.permutation(len(texts)).tolist())
        ids = torch.cat((before, texts[order.pop()]))[None]
        with torch.no_grad():
            target = whole(input_ids=ids, use_cache=False).logits[0, len(before) :]
        if past is None:
            logits = model(input_ids=ids, use_cache=False).logits[0, len(before) :]
        else:
            own = ids[:, len(before) :]
            logits = model(input_ids=own, past_key_values=past(), use_cache=True).logits[0]
        return functional.kl_div(
            torch.log_softmax(logits, -1),
            torch.log_softmax(target, -1),
            reduction="batchmean",
            log_target=True,
        )

    return lesson
