"""A workload: a model, the questions it is measured on, and what is known about both."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from swopt.workloads import checkpoint as checkpoints
from swopt.workloads import image_sets, medmnist, own_questions
from swopt.workloads.question_bank import QuestionBank
from swopt.workloads.vqa import Labels, Questions, Split

if TYPE_CHECKING:
    import torch

    from swopt.workloads.checkpoint import TinyVlm


@dataclass(frozen=True)
class Workload:
    """A model with its questions. Answers are apart, for whoever scores.

    Attributes:
        name: Name in tables.
        vlm: The uncompressed model and its tokenizer.
        bank: What it is asked.
    """

    name: str
    vlm: "TinyVlm"
    bank: QuestionBank

    @property
    def answers(self) -> tuple[str, ...]:
        """The fixed answer set; scores have one column each."""
        return self.vlm.answers

    @property
    def sets(self) -> tuple[str, ...]:
        """The sets that are measured on."""
        return self.bank.sets

    @property
    def layers(self) -> tuple[str, ...]:
        """Names that a quantization override may use: blocks such as `vision.0` and linear layers
        such as `vision.0.mlp.up`, `decoder.2.attention.query`, `connector`, `head`."""
        return self.vlm.layers

    @property
    def data_sha256(self) -> dict[str, str]:
        """Name -> SHA-256 of the data, and of the model's files as `checkpoint`."""
        return self.bank.sha256 | {"checkpoint": self.vlm.sha256}

    def describe(self) -> str:
        """What is measured on, in one sentence fit for a run's first line."""
        return f"{self.name} on {self.bank.describe()}"

    @property
    def float16_bytes(self) -> int:
        """Bytes of the uncompressed model with two to a parameter."""
        return 2 * sum(each.numel() for each in self.vlm.model.parameters())

    def calibration(self) -> Questions:
        """Training questions for calibration; never scored."""
        return self.bank.asked("train")[0]

    def practice(self, seed: int) -> Questions:
        """Training questions without their answers.

        Args:
            seed: Chooses what is not fixed of them, such as the phrasing.
        """
        return self.bank.practice(seed)

    def validation(self) -> Questions:
        """The questions that a search sees the scores of."""
        return self.bank.asked("val")[0]

    def test(self) -> Questions:
        """The questions that are scored once, at the end."""
        return self.bank.asked("test")[0]

    def labels(self, split: Split) -> Labels:
        """The true answers of a split's questions, for scoring only."""
        return self.bank.asked(split)[1]

    def score(self, model: "torch.nn.Module", questions: Questions) -> "torch.Tensor":
        """Log-probabilities over the fixed answer set, float32 `[n, answers]`.

        Args:
            model: The uncompressed model, or one that `swopt.plan.compress` made of it.
            questions: What is asked.
        """
        import torch

        from swopt.workloads.tiny_vlm import next_token_logits

        logits = next_token_logits(self.vlm.tokenizer, model, questions)
        tokens = [checkpoints.token_id(self.vlm.tokenizer, answer) for answer in self.answers]
        return torch.log_softmax(logits[:, tokens], -1)

    def score_uncompressed(self, questions: Questions) -> "torch.Tensor":
        """The float model's log-probabilities, as `score` gives them."""
        return self.score(self.vlm.model, questions)


def load_workload(data_dir: Path | None = None, checkpoint: Path | None = None) -> Workload:
    """`tiny-vlm` on its own questions where it was fine-tuned to them, else on image sets.

    Of the image sets those count that are found, and always the synthetic one.

    Args:
        data_dir: Folder of MedMNIST files; `None` looks where `medmnist.find_data_dir` says.
        checkpoint: Folder of another checkpoint than the shipped one.

    Raises:
        swopt.workloads.checkpoint.CheckpointError: The checkpoint cannot be used.
        FileNotFoundError: A data folder was named that does not exist.
        ValueError: A data file is not the published one.
    """
    vlm = checkpoints.load(checkpoint or checkpoints.SHIPPED)
    if vlm.has_own_questions:
        return Workload("tiny-vlm", vlm, own_questions.load(vlm))
    folder = medmnist.find_data_dir(data_dir)
    return Workload("tiny-vlm", vlm, image_sets.find(vlm.sets, vlm.answers, folder))
