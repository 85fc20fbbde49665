"""Several tokens of a draft checked by one program on the core, at the price of one token.

A step of generation computes the token group of its token anew, and in the head each lane keeps
the greatest logit of its own token. So the program that reads a draft is the step's own: it leaves
the choice behind every token of the last group, as long as a draft ends with its group. Keys and
values of tokens that are turned down are written over by the program after it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hwlib.config import CoreConfig
from swopt.compiler.dram import Bytes
from swopt.compiler.generation import Generation
from swopt.compiler.host import Inputs
from swopt.compiler.language_model import IntegerLanguageModel
from swopt.compiler.program import Program, token


def choices(program: Program, dram: Bytes, count: int) -> list[int]:
    """The likeliest tokens behind the last tokens of a program.

    Args:
        program: One with a head.
        dram: The DRAM after it.
        count: How many, 1 or more, no more than the last token group has.

    Raises:
        ValueError: The program has no head, or does not have that many choices.
    """
    if program.logits is None:
        raise ValueError("the program has no logits, so it has no choices")
    last = program.logits.lane
    if not 1 <= count <= last + 1:
        raise ValueError(
            f"the last token group has {last + 1} tokens, and 1 to {last + 1} choices behind them, "
            f"not {count}"
        )
    lanes = range(last + 1 - count, last + 1)
    return [
        token(replace(program, logits=replace(program.logits, lane=lane)), dram) for lane in lanes
    ]


def programs_of(first: int, count: int, rows: int) -> int:
    """Programs that read `count` tokens behind `first` others: one for each token group."""
    return (first + count - 1) // rows - first // rows + 1


@dataclass
class CoreDecoder:
    """A model on the core in the middle of one text; a `swopt.techniques.speculative.Decoder`.

    Every call is a program for each token group that it reads in, prompts too.

    Args:
        model: In integers.
        config: The core.
        room: Most tokens of the text.
        run: Runs a program and gives the DRAM after it.

    Attributes:
        tokens: Whose keys and values are kept.
        programs: How many programs were run.
    """

    model: IntegerLanguageModel
    config: CoreConfig
    room: int
    run: Callable[[Program], Bytes]
    tokens: list[int] = field(default_factory=list)
    programs: int = 0
    _generation: Generation | None = None
    _dram: Bytes = field(default_factory=lambda: np.zeros(0, np.uint8))

    def cut(self, length: int) -> None:
        """As `Decoder.cut`: nothing is moved, what is beyond is written over."""
        del self.tokens[length:]

    def extend(self, tokens: Sequence[int]) -> list[int]:
        """As `Decoder.extend`.

        Raises:
            LoweringError: There are more tokens than room was made for, or the model does not fit.
        """
        rows, end, found = self.config.rows, len(self.tokens) + len(tokens), list[int]()
        text = [*self.tokens, *tokens]
        while len(self.tokens) < end:
            first = len(self.tokens)
            self.tokens = text[: min(end, first - first % rows + rows)]
            found += self._read(len(self.tokens) - first)
        return found

    def _read(self, count: int) -> list[int]:
        """The choices behind the last `count` tokens, which are of one token group."""
        words = self.model.words[np.asarray(self.tokens)]
        if self._generation is None:
            inputs = Inputs(words=words)
            self._generation = Generation(self.model.network, self.config, inputs, self.room)
            program = self._generation.prompt()
        else:
            program = self._generation.step(words, self._dram)
        self._dram = self.run(program)
        self.programs += 1
        return choices(program, self._dram, count)
