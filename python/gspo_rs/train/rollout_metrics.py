"""Metrics of the rollouts of a step: rewards, advantages, groups, lengths, and what is left out."""

from dataclasses import dataclass

__all__ = ["OF_ROLLOUTS", "Metrics"]


@dataclass(frozen=True)
class Metrics:
    """Metrics that one sentence defines.

    Attributes
    ----------
    names : str
        Separated by blanks. ``<k>`` stands for a whole number, ``<name>`` for a reward's name.
    unit : str
        Of all of them; empty where they are plain numbers.
    meaning : str
        Definition, in Markdown.
    when : str
        When they are written; empty for always.
    """

    names: str
    unit: str
    meaning: str
    when: str = ""


_AHEAD = "`max_staleness`"

OF_ROLLOUTS: tuple[Metrics, ...] = (
    Metrics(
        "reward/mean reward/std reward/min reward/max",
        "reward",
        "of the scored rewards (ddof 0); of several, of their weighted sum",
        "a reward is known",
    ),
    Metrics(
        "reward/p10 reward/p50 reward/p90",
        "reward",
        "their percentiles, interpolated linearly",
        "a reward is known",
    ),
    Metrics(
        "reward/within_std reward/between_std",
        "reward",
        "root mean square of the distance from the group's mean; deviation of the groups' means",
        "a reward is known",
    ),
    Metrics(
        "reward/status/ok reward/status/none reward/status/timeout reward/status/died"
        " reward/status/memory reward/status/error",
        "calls",
        "of reward functions for the batch of rollouts: with a reward; without one, or with"
        " something that is none; not over in `reward_timeout`; that ended the process; for which"
        " memory did not suffice; that raised. In each step of the batch",
        "`reward_workers`",
    ),
    Metrics(
        "sampler/failed sampler/retries",
        "completions, calls",
        "that the server has not answered, and that were left out of their groups; of it that were"
        " repeated, since the batch before. In each step of the batch",
        "`sampler` is a server",
    ),
    Metrics("reward/<name>/mean", "reward", "of each of several rewards", "several rewards"),
    Metrics(
        "reward/overlong_penalty",
        "reward",
        "mean of what is added to the rewards for their length before groups are compared; the"
        " other rewards here are without it",
        "`overlong_penalty`",
    ),
    Metrics(
        "adv/mean adv/std adv/abs_mean adv/min adv/max",
        "",
        "of the advantages of the scored rollouts",
        "a reward is known",
    ),
    Metrics(
        "adv/pos_frac adv/zero_frac",
        "share",
        "of them above 0, and equal to 0",
        "a reward is known",
    ),
    Metrics(
        "group/size_min group/size_max",
        "rollouts",
        "of the smallest and of the largest group, unscorable ones included",
    ),
    Metrics("group/zero_variance_frac", "share", "of groups without signal"),
    Metrics(
        "group/tie_frac",
        "share",
        "of the pairs of scored rollouts of one group whose rewards are equal",
        "a group has two rewards",
    ),
    Metrics(
        "group/distinct",
        "rewards",
        "different rewards of a group, mean over the groups with a reward",
        "a reward is known",
    ),
    Metrics(
        "group/all_best group/all_worst",
        "share",
        "of groups all of whose rewards are the best, and the worst, there is: 1 and 0 where"
        " all rewards of the step are 0 or 1, else the highest and the lowest of the step."
        " Near 1, the prompts have become too easy, or are too hard",
        "the step has two different rewards, or only 0 and 1",
    ),
    Metrics(
        "passk/<k>",
        "share",
        "`1 - C(N-c, k) / C(N, k)` for c right of N, mean over the groups of at least k"
        " rewards: the chance that one of k completions is right. k = 1, 2, 4, … up to the"
        " largest group",
        "all rewards of the step are 0 or 1",
    ),
    Metrics(
        "bestofn/<k>",
        "reward",
        "expected highest reward of k completions: the mean over all choices of k, then over"
        " the groups of at least k rewards",
        "a group has k rewards",
    ),
    Metrics("length/mean length/max", "tokens", "sampled tokens of a completion"),
    Metrics(
        "length/clipped_frac",
        "share",
        "of completions that the token limit cut off",
        "known which were cut off",
    ),
    Metrics(
        "length/corr_adv",
        "-1 to 1",
        "correlation of length and advantage over the scored rollouts: is length what is rewarded?",
        "both vary",
    ),
    Metrics("dropped_groups", "groups", "without signal, which did not go through the model"),
    Metrics(
        "dropped_unscorable dropped_long dropped_empty",
        "rollouts",
        "without a reward, too long for the model, without a token",
    ),
    Metrics(
        "dropped_truncated",
        "rollouts",
        "cut off by the token limit, which `mask_truncated` leaves out of the loss",
    ),
    Metrics(
        "dropped_prompts",
        "prompts",
        "too long to sample for: those that are left out before the first step in its line, and"
        " those that a rollout function left out",
    ),
    Metrics(
        "dynamic_sampling/thrown_frac",
        "share",
        "of the groups sampled for the batch that had no signal and were thrown away; offline of"
        " those of the data",
        "`dynamic_sampling`",
    ),
    Metrics(
        "dynamic_sampling/rounds",
        "rounds",
        "of sampling that the batch took",
        "`dynamic_sampling`, online",
    ),
    Metrics(
        "dynamic_sampling/reward",
        "reward",
        "mean of all that was sampled in them; `reward/mean` is that of groups with a signal",
        "`dynamic_sampling`, online",
    ),
    Metrics(
        "async/staleness async/staleness_max",
        "versions",
        "of the tokens of the batch, mean and most: how many batches of rollouts were trained on"
        " between the weights that sampled a token and those that begin to train on it",
        _AHEAD,
    ),
    Metrics(
        "async/spanning_frac",
        "share",
        "of the completions of the batch whose tokens were sampled by several versions",
        _AHEAD,
    ),
    Metrics("async/queue", "groups", "that were ready when the batch was asked for", _AHEAD),
    Metrics("async/age", "seconds", "mean time that a group of the batch was ready", _AHEAD),
    Metrics(
        "async/stale_groups",
        "groups",
        "that were too old since the last batch, and are sampled again",
        _AHEAD,
    ),
    Metrics(
        "async/generate async/score",
        "seconds",
        "of sampling and of reward functions since the last batch, at the side of training",
        _AHEAD,
    ),
    Metrics(
        "async/sampler_wait",
        "seconds",
        "since the last batch that the sampler waited for room or for new weights",
        _AHEAD,
    ),
    Metrics("zero_advantage_groups", "groups", "with signal all of whose advantages are 0"),
)
