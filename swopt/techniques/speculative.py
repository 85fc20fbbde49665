"""Speculative decoding: a cheap drafter guesses some tokens, one call of the target checks them.

With greedy decoding a drafted token is kept where it is the target's own choice behind all tokens
before it, so the text is the one that the target writes alone, whatever the drafter guesses, as far
as the target gives the same token in one call about several as in calls about one each. Integers
do (`swopt.compiler.decoding`); floats may round otherwise and are to be tested.
(Leviathan et al., ICML 2023, with temperature 0.)

Drafts come from the text itself (prompt look-up, Saxena 2023: what followed the last few tokens
when they stood in the text before), or from a smaller model with the same tokens.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

from pydantic import Field

from hwlib.frozen import Frozen
from swopt.techniques.pruning import BlockIndex
from swopt.techniques.quantization import WeightBits

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class SpeculativeKnobs(Frozen):
    """Who drafts, and how far. The neutral default drafts nothing."""

    draft: Literal["none", "prompt_lookup", "model", "compressed"] = "none"
    """`prompt_lookup` looks in the text so far, `model` asks a separate model, `compressed` the
    target without some blocks and with fewer bits."""

    draft_tokens: Annotated[int, Field(ge=1, le=31)] = 4
    """Most tokens that are drafted for one call of the target."""

    ngram: Annotated[int, Field(ge=1, le=8)] = 3
    """Prompt look-up: most last tokens that are looked for; where they were not there before, one
    fewer, down to one."""

    draft_model: Annotated[str, Field(max_length=256)] = ""
    """A separate draft's name, as `swopt.workloads.language_models.load` takes it."""

    draft_without_blocks: tuple[BlockIndex, ...] = ()
    """Compressed draft: indices of the decoder blocks that it lacks, ascending, each once."""

    draft_bits: WeightBits = 8
    """Compressed draft: bits of its weights; 8 leaves them as they are where the draft is in
    float."""


class Decoder(Protocol):
    """A causal language model that is in the middle of one text, with its keys and values kept."""

    @property
    def tokens(self) -> Sequence[int]:
        """The tokens whose keys and values it keeps."""
        ...

    def extend(self, tokens: Sequence[int]) -> list[int]:
        """Reads tokens behind those that it has.

        Args:
            tokens: One or more.

        Returns:
            Behind each of them, the likeliest next token, the lowest index of equals.
        """
        ...

    def cut(self, length: int) -> None:
        """Forgets all tokens but the first `length`."""
        ...


class Drafter(Protocol):
    """Guesses how a text goes on."""

    def propose(self, text: Sequence[int], count: int) -> list[int]:
        """At most `count` tokens behind `text`; none is a guess, too.

        Args:
            text: One token or more.
            count: 1 or more.
        """
        ...


@dataclass(frozen=True)
class Round:
    """One call of the target after the prompt.

    Attributes:
        length: Tokens of the text before it; the last of them is the first that is read.
        drafted: Tokens that were read behind that one.
        accepted: How many of them stayed; one more of the target's own follows them, unless the
            text ends with them.
    """

    length: int
    drafted: int
    accepted: int


@dataclass(frozen=True)
class Generated:
    """What was written behind a prompt.

    Attributes:
        tokens: The new tokens, at least one.
        rounds: The calls of the target after the one that read the prompt.
    """

    tokens: tuple[int, ...]
    rounds: tuple[Round, ...]

    @property
    def target_calls(self) -> int:
        """Calls of the target, that of the prompt among them."""
        return 1 + len(self.rounds)

    @property
    def drafted(self) -> int:
        """Tokens that were drafted."""
        return sum(each.drafted for each in self.rounds)

    @property
    def accepted(self) -> int:
        """Drafted tokens that the target would have written."""
        return sum(each.accepted for each in self.rounds)

    @property
    def tokens_per_call(self) -> float | None:
        """Tokens that a call after the prompt gave; None where the answer is one token, which the
        prompt's own call gives."""
        return (len(self.tokens) - 1) / len(self.rounds) if self.rounds else None


def generate(
    target: Decoder,
    drafter: Drafter | None,
    prompt: Sequence[int],
    new_tokens: int,
    *,
    draft_tokens: int = SpeculativeKnobs().draft_tokens,
    stop: Collection[int] = (),
    token_group: int | None = None,
) -> Generated:
    """Writes on greedily: what the target would write alone, in as few of its calls as drafts save.

    Args:
        target: What it already keeps of the prompt's beginning is not read again.
        drafter: None writes a token a call.
        prompt: One token or more.
        new_tokens: How many to write, 1 or more; fewer where a token of `stop` comes first.
        draft_tokens: Most tokens of a draft.
        stop: Tokens that end the text; one of them is the last that is written.
        token_group: A call reads no token beyond the multiple of `token_group` positions that its
            first one is in, as the core, which gives the choices behind one token group at a time;
            None for no such law.

    Raises:
        ValueError: There is no prompt, or nothing is to be written or drafted.
    """
    if not prompt:
        raise ValueError("a text needs a prompt of at least 1 token to be gone on with, and has 0")
    if min(new_tokens, draft_tokens, token_group or 1) < 1:
        raise ValueError(
            f"new tokens, draft tokens and a token group must be 1 or more, not {new_tokens}, "
            f"{draft_tokens} and {token_group}"
        )
    text = [*prompt, follow(target, prompt)]
    end, rounds = len(prompt) + new_tokens, []
    while len(text) < end and text[-1] not in stop:
        first = len(text) - 1
        room = min(draft_tokens, end - len(text) - 1)
        if token_group is not None:
            room = min(room, token_group - 1 - first % token_group)
        draft = drafter.propose(text, room)[:room] if drafter and room > 0 else []
        found = target.extend([text[-1], *draft])
        accepted = _shared(draft, found)
        written = _until([*draft[:accepted], found[accepted]], stop)
        rounds.append(Round(len(text), len(draft), min(accepted, len(written))))
        text += written
        target.cut(len(text) - 1)
    return Generated(tuple(text[len(prompt) :]), tuple(rounds))


def follow(decoder: Decoder, text: Sequence[int]) -> int:
    """Brings a decoder to the end of a text, reading what it does not keep.

    Args:
        decoder: Whatever it was reading before.
        text: One token or more; the last is read in any case.

    Returns:
        The likeliest next token.
    """
    kept = min(_shared(decoder.tokens, text), len(text) - 1)
    decoder.cut(kept)
    return decoder.extend(text[kept:])[-1]


def _until(tokens: list[int], stop: Collection[int]) -> list[int]:
    """The tokens up to the first that is one of `stop`, that one among them."""
    end = next((i for i, token in enumerate(tokens) if token in stop), len(tokens))
    return tokens[: end + 1]


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two texts have in common from their start on."""
    for index, (ours, theirs) in enumerate(zip(a, b, strict=False)):
        if ours != theirs:
            return index
    return min(len(a), len(b))


@dataclass(frozen=True)
class PromptLookup:
    """Drafts what followed the last tokens when they last stood in the text.

    Attributes:
        ngram: Most tokens that are looked for, 1 or more.
    """

    ngram: int = SpeculativeKnobs().ngram

    def propose(self, text: Sequence[int], count: int) -> list[int]:
        """As `Drafter.propose`; the longest match wins, of equally long ones the latest."""
        for n in range(min(self.ngram, len(text) - 1), 0, -1):
            last = list(text[-n:])
            for end in range(len(text) - 1, n - 1, -1):
                if list(text[end - n : end]) == last:
                    return list(text[end : end + count])
        return []


@dataclass(frozen=True)
class ModelDrafter:
    """Drafts what another model would write.

    Attributes:
        decoder: The model; what it read of drafts that were turned down, it forgets.
    """

    decoder: Decoder

    def propose(self, text: Sequence[int], count: int) -> list[int]:
        """As `Drafter.propose`: `count` tokens, each by a call."""
        draft = [follow(self.decoder, text)]
        while len(draft) < count:
            draft += self.decoder.extend(draft[-1:])
        return draft


@dataclass
class Recorded:
    """A decoder that has been asked before: its choice behind every beginning of one text.

    What it says behind any other text is its choice at that position, so it is right as long as
    the tokens that it is given are the text's. `generate` keeps nothing that follows a token which
    is not: with the target's own text the rounds are those of the decoder itself.

    Attributes:
        choices: Behind token t of the text, its choice.
        tokens: What it has been given.
    """

    choices: Sequence[int]
    tokens: list[int] = field(default_factory=list)

    def extend(self, tokens: Sequence[int]) -> list[int]:
        """As `Decoder.extend`."""
        start = len(self.tokens)
        self.tokens += tokens
        return list(self.choices[start : len(self.tokens)])

    def cut(self, length: int) -> None:
        """As `Decoder.cut`."""
        del self.tokens[length:]


def check_tokenizers(target: "Tokenizer", draft: "Tokenizer") -> None:
    """Holds a draft to the target's tokens: what passes between the two are their indices.

    Raises:
        ValueError: An index stands for another token.
    """
    ours, theirs = (
        {index: token for token, index in each.get_vocab(with_added_tokens=True).items()}
        for each in (target, draft)
    )
    different = [i for i in sorted({*ours, *theirs}) if ours.get(i) != theirs.get(i)]
    if different:
        at = different[0]
        raise ValueError(
            f"the draft has another tokenizer than the target: token {at} is "
            f"{theirs.get(at)!r} to the draft and {ours.get(at)!r} to the target, and "
            f"{len(different)} differ in all; take a draft with the target's own tokenizer"
        )
