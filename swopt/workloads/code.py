"""Code as a workload: modules of Python's own standard library, which every machine has.

A language model reads windows of 256 tokens and is scored by bits per byte and by next-token
accuracy, and it completes lines. What compression is calibrated on, what a search sees and what is
looked at once are different modules. They are held out from Dovetail's calibration, not from the
training of a public model, which may well have read them: figures compare forms of one model.

Files differ between versions of Python, so scores are compared on one version, and the SHA-256 of
every file that was read stands beside them.
"""

import ast
import hashlib
import math
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from swopt.workloads.vqa import Split

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

MODULES: dict[Split, tuple[str, ...]] = {
    "train": ("configparser", "difflib", "enum", "plistlib"),
    "val": (
        *("calendar", "dataclasses", "mimetypes", "pprint"),
        *("random", "shutil", "tempfile", "traceback"),
    ),
    "test": (
        *("ast", "base64", "gettext", "ipaddress"),
        *("smtplib", "tarfile", "trace", "weakref"),
    ),
}
"""Single files of the standard library in Python 3.11 to 3.14; `train` is for calibration alone."""

PRACTICE = (
    *("argparse", "bdb", "cmd", "codecs", "contextlib", "copy", "csv", "datetime", "doctest"),
    *("filecmp", "fileinput", "fractions", "ftplib", "functools", "getopt", "glob", "hashlib"),
    *("heapq", "hmac", "imaplib", "inspect", "locale", "mailbox", "netrc", "optparse", "pdb"),
    *("pickle", "pickletools", "platform", "poplib", "profile", "pstats", "queue", "reprlib"),
    *("sched", "selectors", "shelve", "shlex", "socket", "socketserver", "statistics"),
    *("subprocess", "symtable", "textwrap", "threading", "timeit", "tokenize"),
    *("typing", "uuid", "warnings", "wave", "zipapp"),
)
"""Single files that a compressed model is taught on: in no split."""

WINDOW = 256
"""Tokens of a window; the first is read and not predicted."""

WINDOWS = 16

PROMPTS = 16
"""Lines that are to be completed."""

PROMPT_TOKENS = WINDOW - 32
"""Longest beginning that is given."""

LINE_TOKENS = 32
"""Most tokens of a completed line."""

_SEED = 7
"""Chooses windows and lines, the same in every run."""


class CodeError(ValueError):
    """A source that is not here or too short, or a tokenizer that does not give code back."""


Scored = Callable[..., Any]
"""A causal language model: called with `input_ids` `[1, T]` and `use_cache`, it gives something
that has `logits` `[1, T, vocabulary]`, as transformers' models and those in integers do."""


@dataclass(frozen=True)
class Windows:
    """Pieces of source to be predicted token by token.

    Attributes:
        ids: Tokens, int64 `[n, WINDOW]`.
        byte_counts: Bytes of text that all tokens but the first stand for, int64 `[n]`.
        modules: Where each is from.
        sha256: Of each module's file, by module.
    """

    ids: NDArray[np.int64]
    byte_counts: NDArray[np.int64]
    modules: tuple[str, ...]
    sha256: dict[str, str]


@dataclass(frozen=True)
class CodeScore:
    """How well a model predicts windows, one number a window, so that two models can be paired.

    Attributes:
        bits: Negative log-likelihood of all tokens but the first, float64 `[n]`.
        byte_counts: Bytes that they stand for, int64 `[n]`.
        hits: Tokens that were the likeliest, int64 `[n]`.
        shuffled_hits: Tokens that were the likeliest once the true ones are dealt to other places
            of their window: what is left for a model that knows nothing of the place.
        tokens: Tokens that were predicted in each window.
    """

    bits: NDArray[np.float64]
    byte_counts: NDArray[np.int64]
    hits: NDArray[np.int64]
    shuffled_hits: NDArray[np.int64]
    tokens: int

    @property
    def bits_per_byte(self) -> float:
        """Of all windows together."""
        return float(self.bits.sum() / self.byte_counts.sum())

    @property
    def accuracy(self) -> float:
        """Share of tokens that were the likeliest."""
        return float(self.hits.sum() / (self.tokens * len(self.hits)))


@dataclass(frozen=True)
class Prompt:
    """The first lines of a function or class, and the line that follows.

    Attributes:
        module: Where it is from.
        beginning: Up to the line's own line feed, which is the model's to write.
        line: The next line, without line feed; `beginning` and it parse together.
    """

    module: str
    beginning: str
    line: str


@dataclass(frozen=True)
class Completions:
    """Lines that a model wrote.

    Attributes:
        lines: One a prompt, with its indentation; where the model went on with the last line of the
            beginning instead, what it put there.
        exact: Whether each is the true line, bool `[n]`; blanks at its end do not matter.
        parses: Whether what was written makes Python together with its beginning, bool `[n]`, as
            every true line does.
    """

    lines: tuple[str, ...]
    exact: NDArray[np.bool_]
    parses: NDArray[np.bool_]


def windows(tokenizer: "Tokenizer", split: Split, count: int = WINDOWS) -> Windows:
    """The windows of a split, as evenly over its modules as `count` allows.

    A module is cut into windows from its start on; which of them are taken is drawn, the same in
    every run.

    Args:
        tokenizer: Of the model. Windows hang on it; bits per byte can be compared all the same.
        split: Which modules.
        count: How many.

    Raises:
        CodeError: A module is not here, is too short for its windows, or is not given back by the
            tokenizer.
    """
    rng = np.random.default_rng(_SEED)
    names = MODULES[split]
    ids, byte_counts, modules, digests = [], [], [], {}
    for index, name in enumerate(names):
        take = count // len(names) + (index < count % len(names))
        if not take:
            continue
        text, digests[name] = read_module(name)
        tokens = tokenizer.encode(text, add_special_tokens=False).ids
        if tokenizer.decode(tokens, skip_special_tokens=False) != text:
            raise CodeError(
                f"the tokenizer does not give the text of {name} back, so that its bytes cannot be "
                "counted; use a model with a byte-level tokenizer"
            )
        there = len(tokens) // WINDOW
        if there < take:
            raise CodeError(f"{name} has {there} windows of {WINDOW} tokens, fewer than {take}")
        for place in sorted(rng.choice(there, take, replace=False)):
            start, end = int(place) * WINDOW, (int(place) + 1) * WINDOW
            ids.append(tokens[start:end])
            # By difference: some tokenizers treat the start of a text in their own way.
            whole, before = (
                len(tokenizer.decode(tokens[:to], skip_special_tokens=False).encode())
                for to in (end, start + 1)
            )
            byte_counts.append(whole - before)
            modules.append(name)
    if not ids:
        raise CodeError(f"a score needs 1 window or more, not {count}")
    return Windows(np.array(ids), np.array(byte_counts), tuple(modules), digests)


def practice(tokenizer: "Tokenizer", count: int | None = None) -> NDArray[np.int64]:
    """What a compressed model is taught on: the windows of `PRACTICE`, int64 `[n, WINDOW]`.

    Args:
        tokenizer: Of the model.
        count: How many of them, drawn the same in every run; None for all in order.

    Raises:
        CodeError: A module is not here.
    """
    ids: list[list[int]] = []
    for name in PRACTICE:
        tokens = tokenizer.encode(read_module(name)[0], add_special_tokens=False).ids
        ids += [tokens[at : at + WINDOW] for at in range(0, len(tokens) - WINDOW + 1, WINDOW)]
    if count is None:
        return np.array(ids)
    return np.random.default_rng(_SEED).permutation(ids)[:count]


def score(model: Scored, asked: Windows) -> CodeScore:
    """Scores a causal language model; one window at a time, so that none hangs on the others.

    Deterministic on one machine with one torch thread, which the caller sets.

    Args:
        model: In float or in integers.
        asked: Tokens of its own tokenizer.
    """
    import torch
    from torch.nn import functional

    bits, hits, shuffled = [], [], []
    dealt = torch.from_numpy(np.random.default_rng(_SEED).permutation(asked.ids.shape[1] - 1))
    with torch.inference_mode():
        for row in torch.from_numpy(asked.ids):
            logits = model(input_ids=row[None], use_cache=False).logits[0, :-1]  # [T - 1, V]
            nats = functional.cross_entropy(logits.float(), row[1:], reduction="none")
            bits.append(float(nats.double().sum()) / math.log(2))
            likeliest = logits.argmax(-1)
            hits.append(int((likeliest == row[1:]).sum()))
            shuffled.append(int((likeliest == row[1:][dealt]).sum()))
    return CodeScore(
        np.array(bits), asked.byte_counts, np.array(hits), np.array(shuffled), len(dealt)
    )


def prompts(tokenizer: "Tokenizer", split: Split, count: int = PROMPTS) -> tuple[Prompt, ...]:
    """Beginnings of functions and classes of a split, each to be gone on with by one line.

    Every one is of another function or class at the top of its module; the line is drawn among
    those with which the text so far parses, that are no comment, and that follow two lines at
    least.

    Args:
        tokenizer: Tells how long a beginning and a line are.
        split: Which modules.
        count: How many.

    Raises:
        CodeError: A module is not here, or there are fewer.
    """
    rng = np.random.default_rng(_SEED)
    found: list[Prompt] = []
    for name in MODULES[split]:
        text, _ = read_module(name)
        lines = text.splitlines()
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                places = _places(tokenizer, lines[node.lineno - 1 : node.end_lineno])
                if places:
                    beginning, line = places[int(rng.integers(len(places)))]
                    found.append(Prompt(name, beginning, line))
    if len(found) < count or count < 1:
        raise CodeError(f"the modules of {split} give 1 to {len(found)} lines, not {count}")
    return tuple(found[i] for i in sorted(rng.choice(len(found), count, replace=False)))


def complete(
    model: "torch.nn.Module", tokenizer: "Tokenizer", asked: tuple[Prompt, ...]
) -> Completions:
    """Has a model write the next line of each prompt, the likeliest token at a time.

    A line ends at its line feed, or after `LINE_TOKENS`; blank lines before it do not count.

    Args:
        model: As for `score`; it has to keep keys and values (`use_cache`).
        tokenizer: Of the model.
        asked: What is to be gone on with.
    """
    texts = [_written(model, tokenizer, prompt.beginning) for prompt in asked]
    pairs = list(zip(asked, texts, strict=True))
    return Completions(
        tuple(_line(text) for text in texts),
        np.array(
            [text[:1] == "\n" and _line(text) == prompt.line.rstrip() for prompt, text in pairs]
        ),
        np.array([parses(f"{prompt.beginning}{text}\n") for prompt, text in pairs]),
    )


def write(
    model: "torch.nn.Module",
    tokenizer: "Tokenizer",
    beginning: str,
    most_tokens: int,
    cut: Callable[[str], str | None],
) -> str:
    """What a model goes on with, the likeliest token at a time, with keys and values kept.

    Args:
        model: It has to keep keys and values (`use_cache`).
        tokenizer: Of the model.
        beginning: What it goes on with, 1 token or more.
        most_tokens: After which it ends in any case.
        cut: Told all that was written so far; gives what of it counts once it is at its end, and
            None before.

    Raises:
        CodeError: A logit is no number, or infinite.
    """
    import torch

    ids = torch.tensor([tokenizer.encode(beginning, add_special_tokens=False).ids])
    tokens: list[int] = []
    kept, text = None, ""
    with torch.inference_mode():
        while len(tokens) < most_tokens:
            answer = model(input_ids=ids, past_key_values=kept, use_cache=True, logits_to_keep=1)
            kept = answer.past_key_values
            if not bool(torch.isfinite(answer.logits[0, -1]).all()):
                raise CodeError(
                    f"the model's logits for token {len(tokens) + 1} are no finite numbers; its "
                    "weights or their compression are broken"
                )
            tokens.append(int(answer.logits[0, -1].argmax()))
            text = tokenizer.decode(tokens, skip_special_tokens=False)
            if (done := cut(text)) is not None:
                return done
            ids = torch.tensor([tokens[-1:]])
    return text


def parses(text: str) -> bool:
    """Whether a text is Python. A model's may be anything, so every way to fail counts."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an invalid escape is a warning
        try:
            ast.parse(text)
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            return False
    return True


def read_module(name: str) -> tuple[str, str]:
    """The source of a module of the standard library, and the SHA-256 of its file.

    Raises:
        CodeError: This Python comes without it.
    """
    path = Path(sysconfig.get_path("stdlib")) / f"{name}.py"
    try:
        content = path.read_bytes()
        return content.decode().replace("\r\n", "\n"), hashlib.sha256(content).hexdigest()
    except (OSError, ValueError):
        raise CodeError(
            f"{path} cannot be read; the code workload needs a Python that has the sources of its "
            "standard library"
        ) from None


def sources_sha256() -> str:
    """Of the sources of all modules of all splits and of practice: another Python has others.

    Raises:
        CodeError: This Python comes without one.
    """
    names = [*(name for split in MODULES.values() for name in split), *PRACTICE]
    return hashlib.sha256("".join(read_module(name)[1] for name in names).encode()).hexdigest()


def _places(tokenizer: "Tokenizer", lines: list[str]) -> list[tuple[str, str]]:
    """Each beginning of `lines` that may be given, with its next line."""
    places = []
    for index in range(2, len(lines)):
        beginning, line = "\n".join(lines[:index]), lines[index]
        if not lines[index - 1].strip() or not line.strip() or line.strip().startswith("#"):
            continue
        if len(tokenizer.encode(beginning).ids) > PROMPT_TOKENS:
            break
        short = len(tokenizer.encode(f"\n{line}").ids) < LINE_TOKENS
        if short and parses(f"{beginning}\n{line}\n") and not _in_text(beginning):
            places.append((beginning, line))
    return places


def _in_text(beginning: str) -> bool:
    """Whether a beginning ends inside a string or a bracket, so that no new line begins."""
    return not parses(f"{beginning}\n") and not beginning.rstrip().endswith(":")


def _written(model: "torch.nn.Module", tokenizer: "Tokenizer", beginning: str) -> str:
    """What a model goes on with, up to the first line feed behind something that is no blank."""

    def cut(text: str) -> str | None:
        end = text.find("\n", len(text) - len(text.lstrip()))
        return text[:end] if end >= 0 else None

    return write(model, tokenizer, beginning, LINE_TOKENS, cut)


def _line(text: str) -> str:
    """The last line of what was written; only blank ones are before it."""
    return text.rpartition("\n")[2].rstrip()
