"""The proposer without agents: Optuna's suggestion as it is."""

from agents.proposer import Context, Proposal, Rejection
from agents.text import one_line


class SuggestionProposer:
    """Takes every suggestion: the sampler alone, for comparison and as the fall-back."""

    def propose(self, context: Context) -> Proposal:
        """The suggestion."""
        return suggestion_alone(context, "the sampler works alone")


def suggestion_alone(
    context: Context, why: str, rejections: tuple[Rejection, ...] = ()
) -> Proposal:
    """The suggestion as a proposal, with the reason why no agent shaped it."""
    return Proposal(
        parent_trial=None,
        design=context.suggestion,
        author="optuna",
        rationale=one_line(f"Optuna's suggestion as it is: {why}."),
        rejections=rejections,
    )
