"""Trains `tiny-vlm`: `python -m swopt.workloads.train_tiny_vlm --sets breastmnist --out DIR`.

Visual question answering on any list of 2-D MedMNIST sets together with the synthetic set. The
loss is the cross entropy of the answer's token, softened over the answers that the question
allows. Whole blocks are left out at random, which makes their removal kinder later. Weights are
averaged over the last steps. Nothing is chosen on test images; they are not read here.
"""

import argparse
import hashlib
import json
import math
import platform
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch.nn import functional

from swopt.workloads import medmnist, tiny_vlm
from swopt.workloads.augmentation import FULL_TURN, lit, moved
from swopt.workloads.block_drop import left_out
from swopt.workloads.checkpoint import token_id
from swopt.workloads.vqa import PAD, SYNTHETIC, TASKS, LabelledImages, answer_set, synthetic_images

TURNED = ("retinamnist", "pathmnist", "dermamnist", "bloodmnist", "tissuemnist")
"""Sets whose pictures have no up and down."""


@dataclass(frozen=True)
class Recipe:
    """Everything that shapes the training but the data.

    Attributes:
        seed: Of weights, order and augmentation.
        steps: Optimizer steps.
        real_images: Real images a step.
        synthetic_images: Synthetic images a step, at the start; they fade out by the end.
        synthetic_pool: Synthetic images drawn in all.
        questions: Questions asked of each synthetic image.
        learning_rate: Peak, reached after the first 5 % and falling as a cosine.
        weight_decay: Decoupled, on matrices only.
        smoothing: Share of the target spread over the other answers that the question allows.
        block_drop: Chance that a block is left out of a step.
        average: Decay of the running average of the weights.
    """

    seed: int = 0
    steps: int = 2000
    real_images: int = 48
    synthetic_images: int = 32
    synthetic_pool: int = 12288
    questions: int = 2
    learning_rate: float = 2e-3
    weight_decay: float = 0.08
    smoothing: float = 0.1
    block_drop: float = 0.1
    average: float = 0.998


class Batches:
    """Draws augmented batches from one set, each image about equally often."""

    def __init__(self, part: LabelledImages, generator: torch.Generator) -> None:
        self.name = part.name
        self._images = torch.from_numpy(part.images)
        self._labels = torch.from_numpy(part.labels)
        self._generator = generator
        self._order = torch.empty(0, dtype=torch.long)

    def draw(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixel values `[count, 1, 3, 32, 32]` and labels `[count, tasks]`."""
        while len(self._order) < count:
            order = torch.randperm(len(self._images), generator=self._generator)
            self._order = torch.cat([self._order, order])
        index, self._order = self._order[:count], self._order[count:]
        pixels = tiny_vlm.pixel_values(self._images[index])[:, 0]
        return self._augment(pixels)[:, None], self._labels[index]

    def _augment(self, pixels: torch.Tensor) -> torch.Tensor:
        """Flips, turns, shifts, scales, changes of light; geometry only where no answer moves."""
        if self.name != SYNTHETIC:
            turn = FULL_TURN if self.name in TURNED else 0.2
            # Left and right organs are different answers.
            pixels = moved(pixels, self._generator, turn, not self.name.startswith("organ"))
        return lit(pixels, self._generator)


def targets(name: str, task: int, label: int, smoothing: float, ids: list[int]) -> dict[int, float]:
    """The soft target: token -> probability. Ordinal answers lend more to their neighbours."""
    answers = range(len(ids))
    nearness = [
        0.0
        if other == label
        else (0.25 ** abs(other - label) if TASKS[name][task].ordinal else 1.0)
        for other in answers
    ]
    share = smoothing * (2.0 if TASKS[name][task].ordinal else 1.0)
    soft = {ids[o]: share * nearness[o] / sum(nearness) for o in answers if o != label}
    return {ids[label]: 1 - share, **soft}


class Trainer:
    """One training run: model, data and the generator that every random choice comes from."""

    def __init__(self, recipe: Recipe, parts: list[LabelledImages]) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.tokenizer = tiny_vlm.build_tokenizer()
        self.config = tiny_vlm.config_for(self.tokenizer)
        self.model = cast(Any, tiny_vlm.build_model(self.config))
        self.batches = [Batches(part, self.generator) for part in parts]
        drawn = synthetic_images("train", recipe.synthetic_pool)
        self.synthetic = Batches(drawn, self.generator)
        self.shares = torch.tensor([math.sqrt(len(part.images)) for part in parts])
        self.ids = {
            name: [[token_id(self.tokenizer, a) for a in t.answers] for t in tasks]
            for name, tasks in TASKS.items()
        }
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        vectors = [p for p in self.model.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": recipe.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=recipe.learning_rate,
            betas=(0.9, 0.98),
        )
        self.average = {k: v.detach().clone() for k, v in self.model.state_dict().items()}

    def step(self, index: int) -> float:
        """One optimizer step; returns its loss in nats."""
        recipe = self.recipe
        progress = index / recipe.steps
        rise = min(1.0, progress / 0.05)
        rate = recipe.learning_rate * rise * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        fading = max(8, round(recipe.synthetic_images * (1 - progress)))
        drawn = [(self.synthetic, fading, recipe.questions)]
        if self.batches:
            counts = (self.shares / self.shares.sum() * recipe.real_images).round().int().tolist()
            drawn += [(b, max(1, n), 1) for b, n in zip(self.batches, counts, strict=True)]
        self.optimizer.zero_grad()
        with left_out(self.model, recipe.block_drop, self.generator):
            loss = self._loss(drawn)
            loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        decay = min(recipe.average, (1 + index) / (10 + index))
        with torch.no_grad():
            current = self.model.state_dict()
            for name, value in self.average.items():
                value.lerp_(current[name], 1 - decay)
        return loss.item()

    def _loss(self, drawn: list[tuple[Batches, int, int]]) -> torch.Tensor:
        """Encodes every image once and asks it one or more questions."""
        pixels, prompts, source, soft = [], [], [], []
        offset = 0
        for batches, count, questions in drawn:
            images, labels = batches.draw(count)
            pixels.append(images)
            for row, known in enumerate(labels.tolist()):
                applicable = [task for task, label in enumerate(known) if label >= 0]
                for _ in range(questions):
                    task = applicable[self._choose(len(applicable))]
                    phrasings = TASKS[batches.name][task].phrasings
                    text = phrasings[self._choose(len(phrasings))]
                    prompts.append(tiny_vlm.prompt_ids(self.tokenizer, text))
                    source.append(offset + row)
                    ids = self.ids[batches.name][task]
                    soft.append(
                        targets(batches.name, task, known[task], self.recipe.smoothing, ids)
                    )
            offset += count
        features = torch.stack(
            self.model.get_image_features(torch.cat(pixels), return_dict=True).pooler_output
        )
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        pad = token_id(self.tokenizer, PAD)
        longest = int(lengths.max())
        padded = torch.tensor([p + [pad] * (longest - len(p)) for p in prompts])
        embedded = self.model.get_input_embeddings()(padded)
        tokens = tiny_vlm.TRAINED.tokens
        embedded = torch.cat([features[torch.tensor(source)], embedded[:, tokens:]], 1)
        # Padding comes after the answer's place, and the decoder looks back only: no mask needed.
        hidden = self.model.model.text_model(inputs_embeds=embedded, use_cache=False)[0]
        logits = self.model.lm_head(hidden[torch.arange(len(prompts)), lengths - 1])
        target = torch.zeros_like(logits)
        for row, words in enumerate(soft):
            for token, probability in words.items():
                target[row, token] = probability
        return functional.cross_entropy(logits, target)

    def _choose(self, count: int) -> int:
        return int(torch.randint(count, (), generator=self.generator))

    def save(self, folder: Path, record: dict[str, Any]) -> None:
        """Writes the averaged weights in fp16 with config, tokenizer and `training.json`.

        The record gets `weights_sha256`, by which a damaged file of weights is found out.
        """
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: value.half().contiguous() for name, value in self.average.items()}
        path = folder / "model.safetensors"
        save_file(weights, path)
        record = record | {"weights_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        (folder / "config.json").write_text(json.dumps(self.config, indent=2) + "\n")
        self.tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
        (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n")


def train(recipe: Recipe, sets: tuple[str, ...], data_dir: Path | None, out: Path) -> None:
    """Trains and saves; prints the loss twenty times on the way."""
    import transformers

    started = time.monotonic()
    paths = [(data_dir or Path()) / f"{name}.npz" for name in sets]
    trainer = Trainer(recipe, [medmnist.read(path, "train") for path in paths])
    losses: list[float] = []
    for index in range(recipe.steps):
        losses.append(trainer.step(index))
        if (index + 1) % max(1, recipe.steps // 20) == 0:
            recent = float(np.mean(losses[-max(1, recipe.steps // 20) :]))
            elapsed_s = time.monotonic() - started
            print(f"step {index + 1} loss {recent:.4f} nats {elapsed_s:.0f} s", flush=True)
    record = {
        "command": " ".join(["python -m swopt.workloads.train_tiny_vlm", *sys.argv[1:]]),
        "recipe": asdict(recipe),
        "sets": [*sets, SYNTHETIC],
        "answers": list(answer_set((*sets, SYNTHETIC))),
        "data_sha256": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in paths},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "numpy": np.__version__,
        },
        "threads": torch.get_num_threads(),
        "elapsed_s": round(time.monotonic() - started),
        "cpu_s": round(time.process_time()),
        "final_loss_nats": round(losses[-1], 4),
    }
    trainer.save(out, record)


def main() -> None:
    """The command line; every field of the recipe is an option."""
    parser = argparse.ArgumentParser(prog="python -m swopt.workloads.train_tiny_vlm")
    parser.add_argument("--sets", default="", help="2-D MedMNIST sets, with commas between")
    parser.add_argument("--data-dir", type=Path, help="folder of the .npz files")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    for name, value in asdict(Recipe()).items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=type(value), default=value, help=f"default {value}")
    given = vars(parser.parse_args())
    recipe = Recipe(**{name: given[name] for name in asdict(Recipe())})
    sets = tuple(filter(None, given["sets"].split(",")))
    torch.set_num_threads(1)
    train(recipe, sets, medmnist.find_data_dir(given["data_dir"]), given["out"])


if __name__ == "__main__":
    main()
