"""What a model is asked, split by split, with the true answers apart for whoever scores."""

from typing import Protocol

from swopt.workloads.vqa import Labels, Questions, Split


class QuestionBank(Protocol):
    """Questions about images in three splits."""

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the sets that questions come from; figures are given for each."""
        ...

    @property
    def sha256(self) -> dict[str, str]:
        """File name -> SHA-256 of what was read."""
        ...

    def describe(self) -> str:
        """What is asked, in words that follow "tiny-vlm on"; synthetic data is called so."""
        ...

    def asked(self, split: Split) -> tuple[Questions, Labels]:
        """The questions of a split; of `train` the few that serve calibration."""
        ...

    def practice(self, seed: int) -> Questions:
        """Training questions, without their answers, for teaching a compressed model.

        Args:
            seed: Chooses what is not fixed, such as the phrasing.
        """
        ...
