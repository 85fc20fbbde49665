"""The words of one's own questions: the tokenizer of a model that is fine-tuned to them."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from swopt.workloads.vqa import UNKNOWN

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WORDS_MAX = 8192
"""Most words of such a tokenizer; the rarer ones of training are unknown."""

_WORD = r"[\w-]+|[^\w\s]"
"""What a question is taken apart into."""


def extended(known: "Tokenizer", texts: Sequence[str], answers: Sequence[str]) -> "Tokenizer":
    """A tokenizer's words, then new ones of other texts and their answers, each one token.

    Args:
        known: Whose words keep their tokens.
        texts: Training questions.
        answers: The answer set, normalized; one may have several words.
    """
    before = known.get_vocab()
    words = sorted(before, key=lambda word: before[word])
    plain = tokenizer_of(words)
    counts = Counter(
        word for text in texts for word in taken_apart(plain, text) if word not in before
    )
    room = max(0, WORDS_MAX - len(words) - len(answers))
    new = sorted(counts, key=lambda word: (-counts[word], word))[:room]
    return tokenizer_of([*words, *new, *answers])


def tokenizer_of(words: Sequence[str]) -> "Tokenizer":
    """A tokenizer of words in lower case; signs are words of their own.

    Text never becomes a special token: `<image>` in a question is three words.
    """
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.normalizers import Lowercase
    from tokenizers.pre_tokenizers import Split

    vocabulary = {word: index for index, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Split(Regex(_WORD), "removed", invert=True)
    return tokenizer


def taken_apart(tokenizer: "Tokenizer", text: str) -> list[str]:
    """The words of a text, known or not.

    Args:
        tokenizer: As `tokenizer_of` makes it.
        text: Any.
    """
    normal = tokenizer.normalizer.normalize_str(text)
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal)]
