"""A language model under a plan, for a study: compressed, scored on code, and what it stores.

What does not hang on bits is done once for every pruning and kept in memory; quantized weights and
sensitivities are kept in the user's store, under hashes of all that they depend on.
"""

import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from evaluators import cache
from evaluators.metrics import Stage
from hwlib.config import CoreConfig
from swopt.compiler import prefix
from swopt.compiler.compressed_language_model import (
    PREFIX_TEXT,
    PreparedLanguageModel,
    compress,
    measure_sensitivities,
    prepare,
)
from swopt.compiler.language_model import IntegerLanguageModel, Remember
from swopt.plan import CompressionPlan
from swopt.techniques import compensation, quantization_aware, recovery, rounding
from swopt.techniques.quantization import compensated
from swopt.techniques.recovery import Taught
from swopt.techniques.rounding import Groups, QuantizedWeight, Steps
from swopt.techniques.sensitivity import Sensitivities
from swopt.workloads import code
from swopt.workloads.lessons import continuation
from swopt.workloads.vqa import Split

if TYPE_CHECKING:
    from swopt.workloads.language_models import LanguageModel

CALIBRATION_WINDOWS = 4
"""Windows of `train` modules that a model is calibrated on."""

SOLVED_WINDOWS = 24
"""Windows of practice that weights are solved for on, where pruning is made up for."""

LEARNING_RATE, LEARNING_RATE_BEHIND = 3e-3, 1e-4
"""Of recovery before and behind the rounding, at their peaks."""


@dataclass
class LanguageBench:
    """A loaded language model that plans are tried on.

    Args:
        loaded: As `swopt.workloads.language_models.load` gives it.
        cache_dir: The user's store.
        windows: Windows that scores are taken of.
        on_stage: Told how far teaching is.
    """

    loaded: "LanguageModel"
    cache_dir: Path = field(default_factory=cache.root)
    windows: int = code.WINDOWS
    on_stage: Stage = lambda stage: None

    def __post_init__(self) -> None:
        train = code.windows(self.loaded.tokenizer, "train", CALIBRATION_WINDOWS)
        self.calibration = list(torch.from_numpy(train.ids))
        ids = self.loaded.tokenizer.encode(PREFIX_TEXT, add_special_tokens=False).ids
        self.prefix_ids = tuple(ids[: prefix.TOKENS])
        self._prepared: dict[str, PreparedLanguageModel] = {}

    def prepared(self, plan: CompressionPlan) -> PreparedLanguageModel:
        """The float model after what a plan does before it rounds, ready to be quantized."""
        done = plan.before_rounding
        key = done.model_dump_json()
        if key not in self._prepared:
            self._prepared[key] = prepare(
                self.loaded.model,
                self.calibration,
                done,
                self.prefix_ids,
                recover=partial(self._recover, done),
                practice=self._practice,
            )
        return self._prepared[key]

    def _practice(self) -> list[torch.Tensor]:
        """Some of the windows that are read to solve for weights."""
        return list(torch.from_numpy(code.practice(self.loaded.tokenizer, SOLVED_WINDOWS)))

    def _recover(
        self, plan: CompressionPlan, model: Any, layers: "Mapping[str, torch.nn.Linear]"
    ) -> None:
        """Teaches a pruned model to go on as the whole one does; merges what it learnt."""

        def teach() -> Taught:
            return recovery.teach(
                model, layers, plan.recovery, self._lesson(model), LEARNING_RATE, self._tell(plan)
            )

        self._taught(plan, teach).into(layers)

    def _recovered(
        self,
        plan: CompressionPlan,
        prepared: PreparedLanguageModel,
        weights: Mapping[str, QuantizedWeight],
        read: Mapping[str, Steps],
    ) -> Mapping[str, QuantizedWeight]:
        """The weights after the model was taught behind its rounding."""

        def teach() -> Taught:
            past = prepared.prefix.past if prepared.prefix else None
            return quantization_aware.teach(
                prepared.model,
                prepared.layers,
                weights,
                read,
                compensated(weights, lambda: prepared.moments, plan.quantization),
                plan.recovery,
                self._lesson(prepared.model, past),
                learning_rate=LEARNING_RATE_BEHIND,
                on_step=self._tell(plan),
            )

        return quantization_aware.apply(weights, self._taught(plan, teach))

    def _lesson(
        self, model: Any, past: Callable[[], Any] | None = None
    ) -> Callable[[int], torch.Tensor]:
        """To go on in the windows of practice as the whole model does."""
        texts = torch.from_numpy(code.practice(self.loaded.tokenizer))
        return continuation(self.loaded.model, model, texts, self.prefix_ids, past)

    def _tell(self, plan: CompressionPlan) -> Callable[[int], None]:
        """Tells how far teaching is."""
        return lambda step: self.on_stage(f"recovery, step {step + 1} of {plan.recovery.steps}")

    def _taught(self, plan: CompressionPlan, teach: Callable[[], Taught]) -> Taught:
        """What recovery teaches under a plan, kept in the store."""
        inputs = self._source | {
            "plan": plan.taught.model_dump_json(),
            "practice": code.sources_sha256(),
        }
        return cache.remembered(
            self.cache_dir, "language_recovery", cache.key(inputs), Taught, teach
        )

    @property
    def _source(self) -> dict[str, str]:
        """What figures of the float model depend on."""
        return {
            "model": self.loaded.sha256,
            "calibration": str([text.tolist() for text in self.calibration]),
            "prefix": str(self.prefix_ids),
            "code": cache.code_sha256("swopt"),
        }

    def compress(
        self, plan: CompressionPlan, exponential_entries: int = CoreConfig().exponential_entries
    ) -> IntegerLanguageModel:
        """The integer model that a plan leaves, on a core with so large a table of the exponential.

        Raises:
            ValueError: The plan breaks a law of the model.
        """
        return compress(
            self.prepared(plan),
            plan,
            exponential_entries,
            sensitivities=self.sensitivities,
            remember=remembered_weights(self.cache_dir),
            recovered=partial(self._recovered, plan),
        )

    def uncompressed(self) -> "Behind":
        """The float model behind the prefix that stands in front of every compressed one."""
        return Behind(self.loaded.model, self.prefix_ids)

    def score(self, model: code.Scored, split: Split = "val") -> code.CodeScore:
        """Bits per byte and next-token accuracy on code; `test` is to be looked at once."""
        return code.score(model, code.windows(self.loaded.tokenizer, split, self.windows))

    def text(self, split: Split) -> NDArray[np.int64]:
        """Tokens of the split's first window."""
        ids: NDArray[np.int64] = code.windows(self.loaded.tokenizer, split, 1).ids[0]
        return ids

    def sensitivities(self) -> Sensitivities:
        """What rounding each layer costs, measured once and kept in the store."""
        measure = partial(measure_sensitivities, self.prepared(CompressionPlan()))
        return cache.remembered(
            self.cache_dir, "language_sensitivity", cache.key(self._source), Sensitivities, measure
        )


class Behind:
    """A float model whose texts stand behind a prefix.

    Args:
        model: A causal language model.
        prefix: Tokens.
    """

    def __init__(self, model: Any, prefix: tuple[int, ...]) -> None:
        self._model, self._first = model, torch.tensor(prefix, dtype=torch.long)

    def __call__(self, input_ids: torch.Tensor, use_cache: bool = False) -> Any:
        """The logits of the text's own tokens."""
        ids = torch.cat((self._first[None], input_ids), 1)
        answer = self._model(input_ids=ids, use_cache=use_cache)
        answer.logits = answer.logits[:, len(self._first) :]
        return answer


def remembered_weights(cache_dir: Path) -> Remember:
    """Keeps quantized weights in the store, one file each.

    Args:
        cache_dir: The store's folder.
    """
    sources = (rounding.__file__, compensation.__file__)
    code_sha256 = cache.sha256(b"".join(Path(each).read_bytes() for each in sources))

    def remember(key: str, make: Callable[[], QuantizedWeight]) -> QuantizedWeight:
        address = cache.key({"weight": key, "code": code_sha256})
        path = cache_dir / "quantized_weights" / address[:2] / f"{address}.npz"
        kept = _kept(path)
        if kept is None:
            kept = make()
            content = io.BytesIO()
            parts: dict[str, NDArray[Any]] = {
                "values": kept.values,
                "scale": kept.scale,
                "bits": np.array(kept.bits),
            }
            if kept.groups is not None:
                parts |= {"group": np.array(kept.groups.inputs), "factors": kept.groups.factors}
            np.savez(content, **parts)  # type: ignore[arg-type]
            cache.write_atomically(path, content.getvalue())
        return kept

    return remember


def _kept(path: Path) -> QuantizedWeight | None:
    """What is stored; None where nothing is, or no such file."""
    try:
        with io.BytesIO(path.read_bytes()) as content, np.load(content) as stored:
            groups = None
            if "group" in stored:
                groups = Groups(int(stored["group"]), stored["factors"])
            return QuantizedWeight(stored["values"], stored["scale"], int(stored["bits"]), groups)
    except (FileNotFoundError, ValueError, KeyError, zipfile.BadZipFile):
        return None
