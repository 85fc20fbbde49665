"""How well a language model predicts windows of code, and how two compare on the same windows."""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evaluators.accuracy import paired
from hwlib.frozen import Frozen

if TYPE_CHECKING:
    from swopt.workloads.code import CodeScore


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


def figures(
    design: WindowScores, baseline: WindowScores, uncompressed: WindowScores
) -> dict[str, float]:
    """Figures of the one look at test windows, and paired differences to the baseline."""
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
