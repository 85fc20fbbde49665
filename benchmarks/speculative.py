"""Speculative decoding of a language model: exactness, tokens a call, and what it costs the core.

    python benchmarks/speculative.py float [MODEL] [--prompts 100] [--new-tokens 16] --out FILE
    python benchmarks/speculative.py integer [MODEL] [--prompts 20] [--new-tokens 48] --out FILE
    python benchmarks/speculative.py core [MODEL] --without BLOCK ... --rounds FILE

MODEL is what `swopt.workloads.language_models.load` takes: `smollm2-135m` unless named. Prompts
are pieces of validation modules of the standard library. Plain greedy decoding is run first, one
token a call, its logits kept. `float` and `integer` then run the target on drafts and compare
tokens and logits; the tables of counts are of the same loop, where target and draft are looked up
in what they chose behind each beginning of the text. FILE holds the rounds; `core` makes cycles of
those of the integer model, by the programs of the whole model that the compiler writes and the
timeline predicts. Prints Markdown.
"""

import argparse
import hashlib
import json
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from benchmarks.decoder_block import CORE
from evaluators import cache
from evaluators.energy import modelled_energy
from evaluators.latency import dram_of
from evaluators.silicon.cost import map_core
from evaluators.silicon.simulation import Dram
from evaluators.target import Target
from evaluators.traffic import traffic
from hwlib.elaborate import elaborate_core
from hwlib.timeline import timeline
from swopt.compiler import twin
from swopt.compiler.decoding import IntegerDecoder, IntegerTexts
from swopt.compiler.generation import Generation
from swopt.compiler.host import Inputs
from swopt.compiler.language_model import IntegerLanguageModel, integer_language_model, observe
from swopt.compiler.network import Int16s, Linear, Network
from swopt.compiler.verification import programs_of
from swopt.techniques.quantization import QuantizationKnobs
from swopt.techniques.rotation import rotate
from swopt.techniques.speculative import (
    Drafter,
    Generated,
    ModelDrafter,
    PromptLookup,
    Recorded,
    generate,
)
from swopt.workloads import code, drafts, language_models
from swopt.workloads.float_decoding import FloatDecoder
from swopt.workloads.language_models import LanguageModel

DRAFT_TOKENS = (2, 4, 8)

PROMPT_TOKENS = 64

REMOVED = 4
"""Blocks that the shortened draft lacks."""

PAST = 128
"""Tokens of the text before the program whose cycles stand for all."""

KEPT_BYTES = 1 << 24
"""More than keys and values take; what they are does not matter to cycles."""

LOOKUP = "prompt look-up"

CONTROL = "drawn Llama (control)"

BATCH = 8
"""Tokens of each of several texts that are read at once; what they are read in does not matter."""

Ids = NDArray[np.int64]
"""Texts `[texts, tokens]`."""

Logits = torch.Tensor
"""Of a piece of text, `[tokens, vocabulary]`."""


@dataclass
class Watched:
    """A decoder whose logits are compared with those of plain decoding, row by row.

    Attributes:
        decoder: What is asked.
        text: Prompt and answer of plain decoding.
        expected: Its logits by the position of the token that it read.
        apart: Largest difference so far.
        rows: Rows that were compared: those behind a beginning of the text.
    """

    decoder: FloatDecoder | IntegerDecoder
    text: Sequence[int]
    expected: Mapping[int, Logits]
    apart: float = 0.0
    rows: int = 0

    @property
    def tokens(self) -> Sequence[int]:
        """As `Decoder.tokens`."""
        return self.decoder.tokens

    def cut(self, length: int) -> None:
        """As `Decoder.cut`."""
        self.decoder.cut(length)

    def extend(self, tokens: Sequence[int]) -> list[int]:
        """As `Decoder.extend`."""
        first = len(self.tokens)
        logits = self.decoder.logits(tokens)
        for row, position in enumerate(range(first, first + len(tokens))):
            if position not in self.expected or self.tokens[position] != self.text[position]:
                break
            difference = (logits[row].double() - self.expected[position].double()).abs().max()
            self.apart, self.rows = max(self.apart, float(difference)), self.rows + 1
        choices: list[int] = logits.argmax(-1).tolist()
        return choices


@dataclass(frozen=True)
class Plain:
    """What plain greedy decoding wrote behind one prompt.

    Attributes:
        text: Prompt and new tokens.
        new: The new tokens.
        logits: Behind each token that was read alone, by position.
        margin: Least difference of the two greatest logits.
    """

    text: list[int]
    new: tuple[int, ...]
    logits: dict[int, Logits]
    margin: float

    @classmethod
    def of(cls, decoder: FloatDecoder | IntegerDecoder, prompt: list[int], count: int) -> "Plain":
        """Writes `count` tokens, one a call."""
        decoder.cut(0)
        last, logits, text = decoder.logits(prompt)[-1], {}, list(prompt)
        margin = float("inf")
        for _ in range(count):
            first, second = last.topk(2).values.double().tolist()
            margin = min(margin, first - second)
            text.append(int(last.argmax()))
            last = decoder.logits(text[-1:])[0].clone()
            logits[len(text) - 1] = last
        return cls(text, tuple(text[len(prompt) :]), logits, margin)


@dataclass
class Counts:
    """Rounds of one drafter over all prompts.

    Attributes:
        rounds: Of each prompt: length, drafted, accepted.
        draft_programs: Programs of the draft on the core, over all prompts.
        new_tokens: Tokens written, over all prompts.
    """

    rounds: list[list[tuple[int, int, int]]]
    draft_programs: int = 0
    new_tokens: int = 0

    def add(self, found: Generated, draft_programs: int) -> None:
        """Another prompt."""
        self.rounds.append([(r.length, r.drafted, r.accepted) for r in found.rounds])
        self.draft_programs += draft_programs
        self.new_tokens += len(found.tokens)

    @property
    def calls(self) -> int:
        """Calls of the target after the prompts."""
        return sum(len(each) for each in self.rounds)

    def row(self) -> str:
        """Drafted, accepted, and tokens a call with its standard error over prompts."""
        drafted, accepted = (sum(r[i] for each in self.rounds for r in each) for i in (1, 2))
        share = f"{accepted / drafted:.3f}" if drafted else "n/a"
        each = self.new_tokens // len(self.rounds) - 1
        calls = np.array([len(rounds) for rounds in self.rounds])
        mean = each / calls.mean()
        error = mean * calls.std(ddof=1) / calls.mean() / len(calls) ** 0.5
        return f"{drafted} | {accepted} | {share} | {mean:.2f} ± {error:.2f}"


class OnCore(Recorded):
    """A recorded draft that counts the programs it would take on the core."""

    programs = 0

    def extend(self, tokens: Sequence[int]) -> list[int]:
        """As `Decoder.extend`."""
        self.programs += programs_of(len(self.tokens), len(tokens), CORE.rows)
        return super().extend(tokens)


def main() -> None:
    """Prints one part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("float", "integer", "core"))
    parser.add_argument("model", nargs="?", default="smollm2-135m", help="name or folder")
    parser.add_argument("--prompts", type=int)
    parser.add_argument("--new-tokens", type=int)
    parser.add_argument("--without", type=int, nargs="*", default=[], help="blocks, not ranked")
    parser.add_argument("--out", type=Path, help="file for the rounds")
    parser.add_argument("--rounds", type=Path, help="file with the rounds of the integer model")
    chosen = parser.parse_args()
    if chosen.part == "core" and not chosen.without:
        parser.error("core needs --without: the blocks that the draft of the rounds lacks")
    if chosen.rounds and not chosen.rounds.is_file():
        parser.error(f"{chosen.rounds} is no file; the part `integer` writes it with --out")
    torch.set_num_threads(1)
    began = time.process_time()
    loaded = language_models.load(chosen.model)
    print(f"{loaded.name}: {loaded.source}; SHA-256 {loaded.sha256[:12]}")
    print(
        f"torch {torch.__version__}, transformers {transformers.__version__}, one thread,", end=" "
    )
    print(f"Python {platform.python_version()}, {platform.machine()}\n", flush=True)
    if chosen.part == "core":
        on_core(loaded, tuple(chosen.without), chosen.rounds)
    else:
        part = of_floats if chosen.part == "float" else of_integers
        default = (100, 16) if chosen.part == "float" else (20, 48)
        count, new_tokens = chosen.prompts or default[0], chosen.new_tokens or default[1]
        counts = part(loaded, count, new_tokens, tuple(chosen.without))
        if chosen.out:
            chosen.out.write_text(json.dumps({name: vars(each) for name, each in counts.items()}))
    print(f"\n{time.process_time() - began:.0f} CPU-seconds")


def prompts(loaded: LanguageModel, count: int) -> list[list[int]]:
    """The frozen prompts: beginnings of windows of validation modules."""
    windows = code.windows(loaded.tokenizer, "val", count)
    ids = np.ascontiguousarray(windows.ids[:, :PROMPT_TOKENS])
    digest = hashlib.sha256(ids.astype("<i8").tobytes()).hexdigest()[:12]
    files = hashlib.sha256("".join(windows.sha256.values()).encode()).hexdigest()[:12]
    print(f"{count} prompts of {PROMPT_TOKENS} tokens, SHA-256 {digest}; of their files {files}")
    return [[int(token) for token in row] for row in ids]


def calibration(loaded: LanguageModel) -> list[torch.Tensor]:
    """Windows of modules that are in no prompt."""
    return list(torch.from_numpy(code.windows(loaded.tokenizer, "train", 4).ids))


def spare_blocks(model: Any, ids: torch.Tensor) -> tuple[int, ...]:
    """The blocks without each of which alone the model's choices change least, on one text."""
    with torch.inference_mode():
        whole = model(input_ids=ids[None], use_cache=False).logits[0].argmax(-1)
        agree = []
        for index in range(len(model.model.layers)):
            hook = model.model.layers[index].register_forward_hook(lambda _, x, y: x[0])
            found = model(input_ids=ids[None], use_cache=False).logits[0].argmax(-1)
            agree.append(float((found == whole).float().mean()))
            hook.remove()
    order = np.argsort(-np.array(agree), kind="stable")
    return tuple(sorted(int(index) for index in order[:REMOVED]))


Choose = Callable[[Sequence[int]], list[int]]
"""Behind every token of a text, a draft's choice."""


def float_choices(model: Any) -> Choose:
    """Those of a float model, in one call."""
    return lambda text: FloatDecoder(model).extend(text)


def count_rounds(plain: Plain, choices: Mapping[str, list[int]], counts: dict[str, Counts]) -> None:
    """Goes through the loop with every drafter, target and drafts looked up.

    Args:
        plain: Of the target.
        choices: Of each draft, behind every token of the text.
        counts: To be added to; a name ends in `/k` for drafts of k tokens, `/k/16` where a call
            ends with its token group.
    """
    prompt = plain.text[: len(plain.text) - len(plain.new)]
    for name in (LOOKUP, *choices):
        for k in DRAFT_TOKENS:
            for group in (None, CORE.rows):
                drafter: Drafter = PromptLookup()
                draft = OnCore(choices.get(name, []), list(prompt))
                if name != LOOKUP:
                    drafter = ModelDrafter(draft)
                target = Recorded([*plain.text[1:], -1], [])
                found = generate(
                    target, drafter, prompt, len(plain.new), draft_tokens=k, token_group=group
                )
                assert found.tokens == plain.new
                key = f"{name}/{k}" + (f"/{group}" if group else "")
                counts.setdefault(key, Counts([])).add(found, draft.programs)


def print_counts(counts: Mapping[str, Counts]) -> None:
    """The table of all drafters."""
    print("\n| drafts by | most tokens | calls end with | drafted | accepted | share |", end="")
    print(" tokens a call |")
    print("|---|---|---|---|---|---|---|")
    for key, each in counts.items():
        name, k, *group = key.split("/")
        ends = f"groups of {group[0]}" if group else "the draft"
        print(f"| {name} | {k} | {ends} | {each.row()} |")


def of_floats(
    loaded: LanguageModel, count: int, new_tokens: int, without: tuple[int, ...]
) -> dict[str, Counts]:
    """Exactness in float32, and tokens a call."""
    model: Any = loaded.model
    asked, ids = prompts(loaded, count), calibration(loaded)
    spare = without or spare_blocks(model, ids[0])
    shorter = drafts.without_blocks(model, spare)
    names = {f"without blocks {', '.join(map(str, spare))}": shorter, CONTROL: drawn(loaded)}
    choose = {name: float_choices(each) for name, each in names.items()}
    counts: dict[str, Counts] = {}
    equal = {name: 0 for name in (LOOKUP, *names) if name != CONTROL}
    apart, rows, margins, real = 0.0, 0, [], 0
    target = FloatDecoder(model)
    for number, prompt in enumerate(asked):
        plain = Plain.of(target, prompt, new_tokens)
        margins.append(plain.margin)
        choices = {name: each(plain.text) for name, each in choose.items()}
        count_rounds(plain, choices, counts)
        for name in equal:
            drafter: Drafter = PromptLookup()
            if name != LOOKUP:
                drafter = ModelDrafter(Recorded(choices[name], list(prompt)))
            watched = Watched(target, plain.text, plain.logits)
            found = generate(watched, drafter, prompt, new_tokens, draft_tokens=4)
            equal[name] += found.tokens == plain.new
            apart, rows = max(apart, watched.apart), rows + watched.rows
            if number < 2 and name != LOOKUP:
                drafter = ModelDrafter(FloatDecoder(names[name]))
                real += generate(target, drafter, prompt, new_tokens, draft_tokens=4) == found
        progress(f"{number + 1} prompts, equal: {equal}")
    print("\n| drafts of 4 by | prompts whose tokens equal plain greedy ones |\n|---|---|")
    for name, each in equal.items():
        print(f"| {name} | {each} of {count} |")
    print(f"\n{rows} rows of logits: at most {apart:.2e} from those of one-token calls")
    print(
        f"least margin of the likeliest token over the next: {min(margins):.2e} of {count} prompts"
    )
    print(f"{real} of 2 loops with drafts by a model that runs: rounds as with its record")
    print_counts(counts)
    return counts


def progress(text: str) -> None:
    """How far a part is, on standard error."""
    print(text, file=sys.stderr, flush=True)


def drawn(loaded: LanguageModel) -> Any:
    """A small Llama with drawn weights and the target's tokens."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=loaded.tokenizer.get_vocab_size(with_added_tokens=True),
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def of_integers(
    loaded: LanguageModel, count: int, new_tokens: int, without: tuple[int, ...]
) -> dict[str, Counts]:
    """Exactness of the rotated model in integers, and tokens a call."""
    model: Any = loaded.model
    asked, ids = np.array(prompts(loaded, count)), calibration(loaded)
    spare = without or spare_blocks(model, ids[0])
    rotate(model)
    made = integers(model, ids, 8)
    texts, steps = plain_texts(made, asked, new_tokens)
    progress("plain")
    rows = {
        "8 tokens a call, from the start on": all_logits(
            made, texts, range(0, texts.shape[1], BATCH)
        )[1],
        "a token and 4 drafted ones": verified(made, asked, texts, 4),
        "a token and 8 drafted ones": verified(made, asked, texts, 8),
    }
    first, counts = asked.shape[1], dict[str, Counts]()
    print(f"\n| {new_tokens} decode steps of {count} prompts beside |", end="")
    print(f" rows of {steps.shape[-1]} logits equal byte for byte |\n|---|---|")
    for name, found in rows.items():
        equal = int((found[:, -new_tokens:] == steps).all(-1).sum())
        print(f"| {name} | {equal} of {count * new_tokens} |", flush=True)
    whole = twin.token_logits(made.network, Inputs(words=made.words[texts[0]]))
    print(
        f"| `twin.token_logits`, 1 prompt | {int((whole[first:] == steps[0]).all(-1).sum())}",
        end="",
    )
    print(f" of {new_tokens} |")
    loops = apart = 0
    target = IntegerDecoder(made)
    plain = [written(text, first, logits) for text, logits in zip(texts, steps, strict=True)]
    for each in plain[:2]:
        watched = Watched(target, each.text, each.logits)
        found_text = generate(
            watched, PromptLookup(), each.text[:first], new_tokens, draft_tokens=8
        )
        loops, apart = loops + (found_text.tokens == each.new), max(apart, watched.apart)
    print(
        f"\n{loops} of 2 loops with prompt look-up, whose drafts are mostly turned down, write the"
    )
    print(f"same tokens; logits apart by {apart:.0f}; of {count} prompts, ", end="")
    print(
        f"{sum(each.margin == 0 for each in plain)} have two likeliest tokens somewhere", flush=True
    )
    del made, target
    shorter = drafts.without_blocks(model, spare)
    name = shortened(spare)
    chosen, _ = all_logits(integers(shorter, ids, 4), texts, range(0, texts.shape[1], BATCH))
    for each, choices in zip(plain, chosen.tolist(), strict=True):
        count_rounds(each, {name: choices}, counts)
    print_counts(counts)
    return counts


def plain_texts(
    made: IntegerLanguageModel, asked: Ids, new_tokens: int
) -> tuple[Ids, torch.Tensor]:
    """Greedy decoding of several prompts side by side, a token of each at a time.

    Returns:
        Prompts and what was written, and the logits behind each token that was, int32
        `[texts, new_tokens, vocabulary]`.
    """
    decoder, texts, steps = IntegerTexts(made, len(asked)), asked, list[torch.Tensor]()
    for start in range(0, asked.shape[1], BATCH):
        last = decoder.logits(asked[:, start : start + BATCH])[:, -1]
    for _ in range(new_tokens):
        texts = np.concatenate([texts, last.argmax(-1).numpy()[:, None]], 1)
        last = decoder.logits(texts[:, -1:])[:, 0]
        steps.append(last)
    return texts, torch.stack(steps, 1)


def all_logits(
    made: IntegerLanguageModel, texts: Ids, starts: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Choices behind every token, and logits behind those of the answer and some before.

    Args:
        made: The model.
        texts: `[texts, tokens]`.
        starts: Where each call begins.
    """
    decoder, choices, rows = IntegerTexts(made, len(texts)), [], []
    for start, end in zip(starts, [*starts[1:], texts.shape[1]], strict=True):
        logits = decoder.logits(texts[:, start:end])
        choices.append(logits.argmax(-1))
        if end > PROMPT_TOKENS:
            rows.append(logits)
    return torch.cat(choices, 1), torch.cat(rows, 1)


def verified(made: IntegerLanguageModel, asked: Ids, texts: Ids, drafted: int) -> torch.Tensor:
    """Logits of verifications of so many tokens behind one, from the prompt's end on."""
    first = asked.shape[1]
    starts = [*range(0, first, BATCH), *range(first, texts.shape[1], drafted + 1)]
    return all_logits(made, texts, starts)[1]


def written(text: Ids, first: int, steps: torch.Tensor) -> Plain:
    """One prompt's plain decoding, out of those that went side by side."""
    tokens = [int(token) for token in text]
    two = steps.topk(2).values
    margin = float((two[:, 0] - two[:, 1]).min())
    logits = {first + row: each for row, each in enumerate(steps)}
    return Plain(tokens, tuple(tokens[first:]), logits, margin)


def integers(model: Any, ids: list[torch.Tensor], bits: Any) -> IntegerLanguageModel:
    """The model in integers, for the core."""
    return integer_language_model(
        model,
        observe(model, ids[:2]),
        QuantizationKnobs(bits=bits),
        exponential_entries=CORE.exponential_entries,
    )


@dataclass(frozen=True)
class Cost:
    """Of one program on the core.

    Attributes:
        cycles: Predicted.
        energy_j: Modelled.
    """

    cycles: int
    energy_j: float


@dataclass(frozen=True)
class Core:
    """The core beside its DRAM.

    Attributes:
        clock_hz: Of its mapped netlist.
        leakage_w: Of its cells.
        dram: How the target's DRAM answers.
    """

    clock_hz: float
    leakage_w: float
    dram: Dram

    @classmethod
    def mapped(cls) -> "Core":
        """As synthesis and timing have it."""
        mapped = map_core(elaborate_core(CORE), cache.root() / "silicon")
        clock_hz = mapped.timing.clock_hz
        return cls(clock_hz, mapped.synthesis.leakage_w, dram_of(Target(), CORE, clock_hz))

    def cost(self, name: str, made: Network, words: Int16s, read: int) -> Cost:
        """Of a program that reads so many tokens behind `PAST` others; prints its row."""
        text = words[np.arange(PAST + read)]
        generation = Generation(made, CORE, Inputs(words=text[: CORE.rows]), PAST + CORE.rows)
        commands = generation.step(text, np.zeros(KEPT_BYTES, np.uint8)).commands
        cycles = timeline(commands, CORE, self.dram).total_cycles
        latency_s, moved = cycles / self.clock_hz, traffic(commands, CORE)
        energy = modelled_energy(moved, CORE, Target(), latency_s, self.leakage_w)
        print(f"| {name} | {len(commands):,} | {moved.dram_bytes / 1e6:.1f} | {cycles:,} |", end="")
        print(f" {1e3 * latency_s:.2f} | {1e3 * energy.total_j:.2f} |", flush=True)
        return Cost(cycles, energy.total_j)


def on_core(loaded: LanguageModel, without: tuple[int, ...], rounds: Path | None) -> None:
    """Cycles and energy of steps, verifications and drafts, of the whole model."""
    core = Core.mapped()
    made = integers(loaded.model, calibration(loaded), 8)
    eight, words, last = made.network, made.words, len(loaded.model.model.layers)
    print(f"{CORE.rows} x {CORE.columns} core at {core.clock_hz / 1e6:.0f} MHz, {core.dram}\n")
    print("| program | commands | DRAM, MB | cycles | ms | energy, modelled, mJ |")
    print("|---|---|---|---|---|---|")
    core.cost("w8a8, a step, 1 block and the head", lacking(eight, range(1, last)), words, 1)
    core.cost("w8a8, a step, 2 blocks and the head", lacking(eight, range(2, last)), words, 1)
    step = core.cost("w8a8, a step: 1 token", eight, words, 1)
    verification = core.cost("w8a8, a verification: 16 tokens", eight, words, CORE.rows)
    fewer = lacking(narrowed(eight), without)
    draft = core.cost(f"{shortened(without)}, a step", fewer, words, 1)
    if rounds is not None:
        stored = json.loads(rounds.read_text())
        counts = {key: Counts(**values) for key, values in stored.items()}
        print_speed(core, counts, step, verification, draft)


def print_speed(
    core: Core, counts: Mapping[str, Counts], step: Cost, verification: Cost, draft: Cost
) -> None:
    """What a token takes with drafts that end with their token group.

    Args:
        core: Gives the clock.
        counts: As `of_integers` gives them.
        step: Of one token of the target alone.
        verification: Of a whole group.
        draft: Of one program of the model that drafts.
    """
    print("\n| drafts by | most tokens | tokens a call | draft programs a call |", end="")
    print(" cycles a token | ms a token | faster | energy a token, modelled, mJ | of plain |")
    print("|---|---|---|---|---|---|---|---|---|")
    plain = f"{step.cycles:,} | {1e3 * step.cycles / core.clock_hz:.2f} | 1.00"
    print(f"| none | | 1.00 | 0.00 | {plain} | {1e3 * step.energy_j:.2f} | 1.00 |")
    for key, each in counts.items():
        name, k, *group = key.split("/")
        if not group:
            continue
        tokens = each.new_tokens - len(each.rounds)  # the first of each is the prompt's
        calls, programs = each.calls, each.draft_programs
        cycles = (calls * verification.cycles + programs * draft.cycles) / tokens
        energy_j = (calls * verification.energy_j + programs * draft.energy_j) / tokens
        print(f"| {name} | {k} | {tokens / calls:.2f} | {programs / calls:.2f} |", end="")
        print(f" {cycles:,.0f} | {1e3 * cycles / core.clock_hz:.2f} |", end="")
        print(f" {step.cycles / cycles:.2f} | {1e3 * energy_j:.2f} |", end="")
        print(f" {energy_j / step.energy_j:.2f} |")
    print("| tiny-vlm, any drafts | | n/a: its answers are one token | | | | | | |")


def shortened(without: Sequence[int]) -> str:
    """Name of the pruned and quantized target."""
    return f"w4a8 without blocks {', '.join(map(str, without))}"


def narrowed(network: Network) -> Network:
    """The same shapes with 4-bit weights: no command's cycles hang on what a weight is."""
    return replace(
        network,
        operators=tuple(
            replace(op, weight=op.weight >> 4, weight_bits=4) if isinstance(op, Linear) else op
            for op in network.operators
        ),
    )


def lacking(network: Network, blocks: Sequence[int]) -> Network:
    """A network without some decoder blocks."""
    names = tuple(f"decoder.{block}." for block in blocks)
    return replace(
        network,
        operators=tuple(
            op
            for op in network.operators
            if not (op.name if isinstance(op, Linear) else op.y).startswith(names)
        ),
    )


if __name__ == "__main__":
    main()
