"""Presets: the settings of each named algorithm, and the options of each loss."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from gspo_rs.groups.synonyms import FIELDS, listed

Loss = Literal[
    "gspo",
    "gspo_token",
    "grpo",
    "sapo",
    "cispo",
    "gmpo",
    "luspo",
    "vespo",
    "dppo",
    "reinforce",
    "plackett_luce",
    "pairwise",
    "top_fraction",
    "dpo",
    "ipo",
    "qrpo",
]
Reduction = Literal["seq_mean", "token_mean", "prompt_mean", "constant", "seq_sum"]
Algorithm = Literal[
    "percentile",
    "gspo",
    "gspo_token",
    "grpo",
    "dapo",
    "dr_grpo",
    "sapo",
    "cispo",
    "gmpo",
    "luspo",
    "vespo",
    "dppo",
    "rloo",
    "reinforce_pp",
    "gopo",
    "qae",
    "maxrl",
    "pkpo",
    "gdpo",
    "topx",
    "pl",
    "pairwise",
    "listwise",
    "dpo",
    "qrpo",
]

_SEQUENCE: dict[str, float | str | None] = {"clip_low": 3e-4, "clip_high": 4e-4}
_TOKEN: dict[str, float | str | None] = {
    "clip_low": 0.2,
    "clip_high": 0.2,
    "dual_clip": None,
    "delta": None,
}

# Loss → its options, which are its arguments, and their defaults. A loss that replaces the one of
# a preset brings its own: a token's clip on a sequence ratio never clips, the reverse always does.
OPTIONS: dict[str, dict[str, float | str | None]] = {
    "gspo": _SEQUENCE,
    "gspo_token": _SEQUENCE,
    "grpo": _TOKEN,
    "sapo": {"tau_pos": 1.0, "tau_neg": 1.05},
    "cispo": {"w_min": 0.0, "w_max": 5.0},
    "gmpo": {"clip": 0.4},
    "luspo": {"clip_low": 2e-3, "clip_high": 2.5e-3},
    "vespo": {"k_pos": 2.0, "lam_pos": 3.0, "k_neg": 3.0, "lam_neg": 2.0},
    "dppo": {"delta_low": 0.2, "delta_high": 0.2, "w_max": 20.0, "divergence": "tv"},
    "reinforce": {"w_max": None},
    "plackett_luce": {},
    "pairwise": {"label_smoothing": 0.0},
    "top_fraction": {"q": 0.2},
    "dpo": {"label_smoothing": 0.0},
    "ipo": {},
    "qrpo": {},
}
ALL_OPTIONS = {name for options in OPTIONS.values() for name in options}

# Fields that a preset decides besides, with their values where it does not say.
BESIDES: dict[str, Any] = {
    "dynamic_sampling": False,
    "renormalise": False,
    "overlong_penalty": "none",
    "mask_truncated": False,
}

# Losses that compare the members of a group: a mean over groups.
GROUP_LOSSES = frozenset({"plackett_luce", "pairwise", "top_fraction", "dpo", "ipo"})
# Losses whose `beta` is the factor of the log-ratio to the starting policy in a score: they have no
# advantage, no ratio and no penalty.
SCORE_LOSSES = GROUP_LOSSES | {"qrpo"}
# Losses with one ratio per sequence, which take no factor per token.
SEQUENCE_LOSSES = frozenset({"gspo", "luspo", "gmpo"})


@dataclass(frozen=True)
class Preset:
    """The settings that an algorithm's name stands for.

    Attributes
    ----------
    advantage : str
        Estimator of `gspo_rs.advantage`; only reported by a loss of scores.
    loss : str
        Function of `gspo_rs.losses`, without ``_loss``.
    reduction : str or None
        `gspo_rs.losses.sequence_weights` of the whole optimizer step; None for a mean over groups.
    options : mapping of str to float
        Options of the loss where they are not its defaults.
    advantage_options : mapping of str to Any
        Options of the estimator where they are not its defaults.
    besides : mapping of str to Any
        Fields of `BESIDES` where they are not those.
    """

    advantage: str
    loss: Loss
    reduction: Reduction | None
    options: Mapping[str, float] = field(default_factory=dict)
    advantage_options: Mapping[str, Any] = field(default_factory=dict)
    besides: Mapping[str, Any] = field(default_factory=dict)


# In the paper the soft punishment takes the place of overlong filtering (`mask_truncated`).
_DAPO = {"dynamic_sampling": True, "overlong_penalty": "soft"}

# Sources: docs/reference/losses.md. `percentile` is this project's: group-sensitive preference by
# the loss of group sequence policy optimization. Where a paper changes the advantage only, the loss
# is that of GRPO or DAPO. `gdpo` is for several rewards; of one its formula is a z-score,
# standardised over the batch of rollouts.
PRESETS = {
    "percentile": Preset("percentile", "gspo", "seq_mean"),
    "gspo": Preset("zscore", "gspo", "seq_mean"),
    "gspo_token": Preset("zscore", "gspo_token", "seq_mean"),
    "grpo": Preset("zscore", "grpo", "seq_mean"),
    "dapo": Preset("zscore", "grpo", "token_mean", {"clip_high": 0.28}, besides=_DAPO),
    "dr_grpo": Preset("mean", "grpo", "constant"),
    "sapo": Preset("zscore", "sapo", "seq_mean"),
    "cispo": Preset("zscore", "cispo", "token_mean"),
    "gmpo": Preset("zscore", "gmpo", "seq_mean"),
    "luspo": Preset("zscore", "luspo", "seq_sum"),
    "vespo": Preset("zscore", "vespo", "token_mean"),
    "dppo": Preset("zscore", "dppo", "token_mean"),
    "rloo": Preset("rloo", "grpo", "seq_sum"),
    "reinforce_pp": Preset("reinforce_pp", "grpo", "token_mean"),
    "gopo": Preset("gopo", "grpo", "seq_mean"),
    "qae": Preset("quantile", "grpo", "token_mean", {"clip_high": 0.28}),
    "maxrl": Preset("maxrl", "grpo", "token_mean"),
    "pkpo": Preset("pkpo", "grpo", "seq_sum", {}, {"k": 4, "baseline": "leave_one_out"}),
    "gdpo": Preset("gdpo", "grpo", "seq_mean"),
    "topx": Preset("top_fraction", "gspo", "seq_mean"),
    "pl": Preset("percentile", "plackett_luce", None),
    "pairwise": Preset("percentile", "pairwise", None),
    "listwise": Preset("percentile", "top_fraction", None),
    "dpo": Preset("percentile", "dpo", None),
    "qrpo": Preset("percentile", "qrpo", "seq_mean"),
}


def chosen(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that the preset decides; values in `given` override it.

    Parameters
    ----------
    given : mapping
        Fields of a configuration; None where a person said nothing.

    Returns
    -------
    dict
        ``advantage``, ``advantage_options``, ``loss``, ``reduction``, ``beta``, those of
        `BESIDES`, ``overlong_cache`` and every option of any loss: None for those that the loss
        does not have.

    Raises
    ------
    ValueError
        If a field is given that the loss does not read, two contradict one another, or the
        advantage or one of its options is not known; the message begins with the field.

    Examples
    --------
    >>> fields = chosen({"algorithm": "dapo", "clip_low": 0.1})
    >>> fields["loss"], fields["clip_low"], fields["clip_high"], fields["tau_pos"]
    ('grpo', 0.1, 0.28, None)
    """
    for name, words in (("algorithm", Algorithm), ("loss", Loss), ("reduction", Reduction)):
        _refuse_unknown(name, given.get(name), get_args(words))
    preset = PRESETS[given["algorithm"]]
    loss = given.get("loss") or preset.loss
    defaults = dict(OPTIONS[loss])
    if loss == preset.loss:
        defaults |= preset.options
    options = {name: _option(name, given.get(name), loss, defaults) for name in sorted(ALL_OPTIONS)}
    grouped = loss in GROUP_LOSSES
    advantage = given.get("advantage") or preset.advantage
    # An estimator that replaces the preset's has options of its own.
    beyond = preset.advantage_options if advantage == preset.advantage else {}
    fields = {
        "advantage": advantage,
        "advantage_options": {**beyond, **(given.get("advantage_options") or {})},
        "loss": loss,
        "reduction": None if grouped else given.get("reduction") or preset.reduction or "seq_mean",
        "beta": _beta(given.get("beta"), loss),
        **_besides(given, preset),
        **options,
    }
    _check(given, fields)
    _check_draws(given, fields)
    _check_advantage(fields["advantage"], fields["advantage_options"])
    return fields


def _beta(value: float | None, loss: str) -> float:
    if value is not None:
        return value
    return 0.1 if loss in SCORE_LOSSES else 0.0


def _besides(given: Mapping[str, Any], preset: Preset) -> dict[str, Any]:
    """Return the fields of `BESIDES`, and over how many tokens a soft penalty falls."""
    decided = {**BESIDES, **preset.besides}
    decided |= {name: given[name] for name in BESIDES if given.get(name) is not None}
    cache, budget = given.get("overlong_cache"), given.get("max_completion_length")
    if decided["overlong_penalty"] == "none":
        if cache is not None:
            raise ValueError(f"overlong_cache = {cache}: belongs to overlong_penalty = 'soft'")
    elif budget is not None:
        cache = max(budget // 5, 1) if cache is None else cache
        if cache > budget:
            raise ValueError(
                f"overlong_cache = {cache}: must be at most max_completion_length, {budget}"
            )
    return {**decided, "overlong_cache": cache}


def _refuse_unknown(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value is not None and value not in known:
        raise ValueError(f"{name} = {value!r}: must be one of {listed(value, known, FIELDS[name])}")


def _option(name: str, value: Any, loss: str, defaults: Mapping[str, Any]) -> Any:
    if name in defaults:
        return defaults[name] if value is None else value
    if value is not None:
        has = ", ".join(defaults) or "none"
        raise ValueError(f"{name} = {value!r}: no option of the loss {loss!r}; its options: {has}")
    return None


def _check(given: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    """Raise ValueError for fields that the loss cannot use."""
    loss, correction = fields["loss"], given.get("correction", "none")
    _check_scores(loss, given, fields)
    if loss in SEQUENCE_LOSSES and correction.startswith("token"):
        raise ValueError(
            f"correction = {correction!r}: the loss {loss!r} has one ratio per sequence; use a "
            "correction of sequences, or loss = 'gspo_token'"
        )
    if fields["dual_clip"] is not None and fields["delta"] is not None:
        raise ValueError("dual_clip and delta are the same bound; give one")
    for name in ("dual_clip", "delta"):
        if fields[name] is not None and not fields[name] > 1 + fields["clip_high"]:
            raise ValueError(f"{name} = {fields[name]}: must be above 1 + clip_high")
    if fields["overlong_penalty"] != "none" and fields["advantage"] in ("gdpo", "borda"):
        raise ValueError(
            f"overlong_penalty = {fields['overlong_penalty']!r}: is added to one reward, and the"
            f" advantage {fields['advantage']!r} compares several; set it to 'none', and give a"
            " reward function that returns soft_overlong_penalty"
        )
    if fields["overlong_penalty"] != "none" and loss == "qrpo":
        raise ValueError(
            f"overlong_penalty = {fields['overlong_penalty']!r}: the references of the loss 'qrpo'"
            " have none; set it to 'none'"
        )
    if loss == "cispo" and fields["w_min"] > fields["w_max"]:
        raise ValueError(f"w_min = {fields['w_min']}: must not be above w_max")


def _check_scores(loss: str, given: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    """Raise ValueError for what a loss of scores does not read, and what only `qrpo` does."""
    column = given.get("reference_rewards_column")
    if loss != "qrpo" and column is not None:
        raise ValueError(
            f"reference_rewards_column = {column!r}: only the loss 'qrpo' reads it; leave it out"
        )
    if loss not in SCORE_LOSSES:
        return
    unread = {"correction": "none", "off_policy_mask_threshold": None}
    if loss in GROUP_LOSSES:
        unread["reduction"] = None
    for name, without in unread.items():
        if given.get(name, without) != without:
            why = "compares the members of a group and takes the mean over groups"
            why = why if loss in GROUP_LOSSES else "has neither ratio nor advantage"
            raise ValueError(f"{name} = {given[name]!r}: the loss {loss!r} {why}; leave it out")
    if not fields["beta"] > 0:
        raise ValueError(f"beta = {fields['beta']}: the loss {loss!r} needs it above 0")
    if loss != "qrpo":
        return
    if given.get("prompts") is not None:
        raise ValueError(
            "loss = 'qrpo': finds rewards among those of the starting policy, and online the "
            "completions are of the policy that is trained; give `rollouts`"
        )
    if (ids := given.get("rollout_ids_column")) is not None:
        raise ValueError(
            f"rollout_ids_column = {ids!r}: the target of the loss 'qrpo' is of a whole rollout,"
            " and each sequence would be drawn to it; give rollouts of one sequence, or another"
            " loss"
        )
    if column is not None and given.get("renormalise"):
        raise ValueError(
            "renormalise = True: leaves out groups of equal rewards, which have a target where "
            f"reference_rewards_column = {column!r}; leave one of them out"
        )


def _check_draws(given: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    """Raise ValueError if `k` reaches the group size: every advantage would be 0."""
    # The estimators load NumPy, which help for the fields that they are of does not need.
    from gspo_rs.groups.estimators import ESTIMATORS

    k, size = fields["advantage_options"].get("k"), given.get("num_generations")
    found = ESTIMATORS.get(fields["advantage"])
    if given.get("prompts") is None or found is None or not found.draws:
        return
    if isinstance(k, int) and isinstance(size, int) and k >= size:
        raise ValueError(
            f"advantage_options k = {k}: draws of {k} give no signal in a group of num_generations "
            f"= {size}; sample more, or draw fewer"
        )


def _check_advantage(estimator: str, options: Mapping[str, Any]) -> None:
    """Try the estimator, so that an unknown name or option is reported before sampling."""
    from gspo_rs.groups.advantages import advantage
    from gspo_rs.groups.estimators import estimator_named

    try:
        pair = [[0.0], [1.0]] if estimator_named(estimator).several else [0.0, 1.0]
        advantage(pair, [0, 0], estimator, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"advantage = {estimator!r}: {error}") from error
