"""All metrics that a run writes: names, units, definitions, and when they are there."""

import re
from functools import lru_cache

from gspo_rs.train.rollout_metrics import OF_ROLLOUTS, Metrics

__all__ = ["METRICS", "Metrics", "described", "page"]


_ONLINE, _POLICY = "online", "a loss with ratios"
_TRAINED = "a sequence went through the model"
_MISMATCH = "online, in the first step of a batch of rollouts; with a `correction` in all of them"

METRICS: dict[str, tuple[Metrics, ...]] = {
    "Of all rollouts of the step": OF_ROLLOUTS,
    "Of what went through the model": (
        Metrics("tokens", "tokens", "sampled tokens that went through the model"),
        Metrics("seqs", "sequences", "that did"),
        Metrics(
            "entropy",
            "nats",
            "mean over tokens of the entropy of the policy where the token was sampled: exact, of"
            " the whole softmax, taken in the pass over the head that the loss needs anyway",
            _TRAINED,
        ),
        Metrics("entropy/p20", "nats", "20th percentile of those entropies", _TRAINED),
        Metrics(
            "rank/spearman_logp",
            "-1 to 1",
            "rank correlation of `R` and the mean `l` of a sequence within a group, ties sharing"
            " their mean rank; mean over the groups where both differ. Is what earns more"
            " likelier?",
            _TRAINED,
        ),
        Metrics(
            "percentile/top_q_prob_shift",
            "nats",
            "mean `D` over the best fraction `q` of each group minus that over the rest, members"
            " tied at its edge counting in part on both sides; of groups with signal. `q` is that"
            " of `top_fraction`, otherwise 0.2. 0 while the policy is the old one, above 0 once it"
            " has moved towards the best",
            _TRAINED,
        ),
        Metrics("ratio/mean ratio/min ratio/max ratio/p99", "", "of `r`", _POLICY),
        Metrics("ratio/out_of_band", "share", "of tokens whose weight a bound changes", "CISPO"),
        Metrics("seq_ratio/mean seq_ratio/min seq_ratio/max seq_ratio/p99", "", "of `s`", _POLICY),
        Metrics(
            "seq_ratio/unmoved_frac", "share", "of sequences with `abs(D)` below 1e-6", _POLICY
        ),
        Metrics("log_w_seq", "nats", "mean over sequences of the sum of `d`", _POLICY),
        Metrics(
            "clip/token_low clip/token_high clip/token",
            "share",
            "of tokens whose gradient the lower bound, the upper, or one of them removes",
            "a loss that clips",
        ),
        Metrics(
            "clip/seq_low clip/seq_high clip/seq",
            "share",
            "the same, averaged over sequences",
            "a loss that clips the ratio of a sequence",
        ),
        Metrics(
            "kl/old_k1 kl/old_k2 kl/old_k3",
            "nats",
            "token means of `-d`, `d^2 / 2`, `e^d - d - 1`",
            _POLICY,
        ),
        Metrics(
            "kl/ref_k1 kl/ref_k2 kl/ref_k3 kl/ref_k3_is",
            "nats",
            "the same of `l - f`, and what the estimator `k3_is` makes of it",
            "`beta` above 0, with a loss with ratios",
        ),
        Metrics(
            "mismatch/k1 mismatch/k3 mismatch/abs mismatch/max",
            "nats",
            "of `x = o - u`: `-x`, `e^x - x - 1`, mean and largest `abs(x)`",
            _MISMATCH,
        ),
        Metrics(
            "mismatch/ppl_ratio mismatch/chi2_token mismatch/chi2_seq",
            "",
            "mean of `e^(-mean x)`; `E[ratio^2] - 1` of tokens and of sequences",
            _MISMATCH,
        ),
        Metrics(
            "mismatch/kept_frac", "share", "that the correction does not weigh 0", "a `correction`"
        ),
        Metrics(
            "mismatch/opsm_frac",
            "share",
            "of sequences that `off_policy_mask_threshold` drops",
            "`off_policy_mask_threshold`",
        ),
        Metrics(
            "ess/token ess/seq",
            "share",
            "effective share of the sample under the correction's weights, in (0, 1]",
            "a `correction`",
        ),
        Metrics(
            "pairs/accuracy",
            "share",
            "of pairs of different rewards whose scores are in their order; equal scores count"
            " half",
            "a loss of groups",
        ),
        Metrics("pairs/margin", "", "mean difference of their scores", "a loss of groups"),
        Metrics(
            "score/mean score/error",
            "",
            "mean over sequences of the score, `beta` times the sum of `l - f`, and of its distance"
            " from the target of its quantile",
            "`qrpo`",
        ),
    ),
    "Of the step": (
        Metrics("step", "steps", "its number, from 1; 0 is the comparison before the first"),
        Metrics("loss", "", "what was minimised", _TRAINED),
        Metrics("grad_norm", "", "norm of the gradient before it is clipped", _TRAINED),
        Metrics("learning_rate", "", "rate of this step", _TRAINED),
        Metrics(
            "skipped",
            "0 or 1",
            "1 if loss or gradient were not finite and the weights stayed as they are",
            _TRAINED,
        ),
        Metrics(
            "eval/reward eval/start_reward",
            "reward",
            "means of the policy and of the starting one on the same prompts",
            "step 0, every `eval_steps`, the last step; online",
        ),
        Metrics(
            "eval/percentile",
            "share",
            "of the starting policy's completions that one of the policy beats on the same prompt,"
            " mean; ties count half",
            "with `eval/reward`",
        ),
        Metrics(
            "eval/reward/status/ok eval/reward/status/none eval/reward/status/timeout"
            " eval/reward/status/died eval/reward/status/memory eval/reward/status/error",
            "calls",
            "of reward functions for the comparison; as those without `eval/`",
            "with `eval/reward`; `reward_workers`",
        ),
        Metrics(
            "eval/sampler/failed eval/sampler/retries",
            "completions, calls",
            "of the comparison; as those without `eval/`",
            "with `eval/reward`; `sampler` is a server",
        ),
        Metrics(
            "time/generate time/score",
            "seconds",
            "sampling, and the reward functions; those of a batch are shared by its steps",
            f"{_ONLINE}, without `max_staleness`",
        ),
        Metrics(
            "time/wait time/refresh",
            "seconds",
            "that training waited for groups, and for the sampler to stop and take new weights;"
            " shared likewise",
            "`max_staleness`",
        ),
        Metrics("time/read", "seconds", "reading, shared likewise", "offline"),
        Metrics(
            "time/prepare",
            "seconds",
            "advantages, and the log-probabilities of the old and of the starting policy; shared"
            " likewise",
        ),
        Metrics(
            "time/backward",
            "seconds",
            "forward and backward passes; on a GPU until it has done them",
            _TRAINED,
        ),
        Metrics(
            "time/optimizer",
            "seconds",
            "update of the weights; on a GPU until it is queued",
            _TRAINED,
        ),
        Metrics("time/step", "seconds", "the whole step, without comparison and checkpoint"),
        Metrics("time/eval", "seconds", "the comparison", "with `eval/reward`"),
        Metrics("speed/tokens_per_s", "tokens/s", "trained on in a second of the whole step"),
    ),
}

_INTRODUCTION = """\
# Metrics of a run

<!-- Written by docs/reference/write_metrics.py from gspo_rs.train.metric_table. -->

`metrics.jsonl` has one line a step, a JSON object; a metric that is not defined in a step, a
correlation with what never varies for example, is left out of its line and is never NaN. Every
value is of the whole optimizer step, so it does not depend on how the step is cut into
micro-batches. Log-probabilities, entropies and ratios are those at the start of the step, before
its update, at the sampling temperature, in nats.

What a [reward function](../guides/rewards.md#logging) logs with `log_metric` is there under its own
name, averaged over the calls for the batch of rollouts, in each step of the batch; for a comparison
with the start under `eval/` and the name, in its step.

`R` reward, `A` advantage, `l` log-probability of a sampled token under the policy, `o` under the
old one, `f` under the starting one, `u` as the sampler computed it; `d = l - o`, `r = exp(d)`, `D`
the mean of `d` over a sequence, `s = exp(D)`. [Watching a run](../guides/watching.md) says which of
them the terminal shows."""


@lru_cache(maxsize=1024)
def described(name: str) -> Metrics | None:
    """Return the definition of a metric; None for a name that no run writes of its own.

    Examples
    --------
    >>> described("passk/8").unit, described("reward/format/mean").unit, described("reward/mode")
    ('share', 'reward', None)
    """
    return next((row for pattern, row in _patterns() if pattern.fullmatch(name)), None)


@lru_cache(maxsize=1)
def _patterns() -> list[tuple[re.Pattern[str], Metrics]]:
    found = []
    for rows in METRICS.values():
        for row in rows:
            for name in row.names.split():
                escaped = re.escape(name).replace("<k>", r"\d+").replace("<name>", r".+")
                found.append((re.compile(escaped), row))
    return found


def page() -> str:
    """Return the reference page, in Markdown."""
    parts = [_INTRODUCTION]
    for title, rows in METRICS.items():
        parts += [f"\n## {title}\n", "| metric | unit | definition | when |", "|---|---|---|---|"]
        for row in rows:
            names = " ".join(f"`{name}`" for name in row.names.split())
            parts.append(f"| {names} | {row.unit} | {row.meaning} | {row.when or 'always'} |")
    return "\n".join(parts) + "\n"
