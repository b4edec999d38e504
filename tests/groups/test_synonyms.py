"""Names of other tools lead to ours, whatever is spelled like them."""

import re

import numpy as np
import polars as pl
import pytest
import torch

import gspo_rs as gs
import gspo_rs.polars
from gspo_rs.files.scoring.options import Layout
from gspo_rs.groups import synonyms
from gspo_rs.groups.estimators import CHOICES, ESTIMATORS
from gspo_rs.groups.pairs import Strategy
from gspo_rs.losses.correction import Correction, sampler_correction
from gspo_rs.losses.kl import kl_penalty
from gspo_rs.losses.reductions import Reduction, sequence_weights
from gspo_rs.train.config.config import Config, ConfigError, resolve
from gspo_rs.train.config.presets import OPTIONS, PRESETS
from gspo_rs.train.config.toml import load

REWARDS, IDS = [0.0, 1.0], ["a", "a"]

# What TRL, verl, slime, OpenRLHF and the papers call an advantage.
THEIRS = {
    "grpo": "zscore",
    "GRPO": "zscore",
    "grpo_vectorized": "zscore",
    "group_norm": "zscore",
    "z-score": "zscore",
    "dr_grpo": "mean",
    "Dr. GRPO": "mean",
    "leave_one_out": "rloo",
    "leave-one-out": "rloo",
    "loo": "rloo",
    "rloo_vectorized": "rloo",
    "remax": "rloo",
    "reinforce++": "reinforce_pp",
    "REINFORCE++-baseline": "reinforce_pp",
    "reinforce_plus_plus": "reinforce_pp",
    "reinforce_plus_plus_baseline": "reinforce_pp",
    "batch": "batch_std",
    "grpo_passk": "best_minus_second",
    "pass@k": "pass_at_k",
    "qae": "quantile",
    "win_rate": "percentile",
    "percentil": "percentile",
}


@pytest.mark.parametrize(("given", "ours"), THEIRS.items())
def test_the_name_of_another_tool_is_told_ours_before_what_is_spelled_alike(given, ours):
    with pytest.raises(ValueError, match=f"did you mean '{ours}'\\?"):
        gs.advantage(REWARDS, IDS, given)
    with pytest.raises(ConfigError, match=f"did you mean '{ours}'\\?"):
        resolve(Config(model="m", rollouts="r", advantage=given))


def test_gspo_as_an_advantage_has_two_senses():
    with pytest.raises(ValueError, match="did you mean 'percentile' or 'zscore'"):
        gs.advantage(REWARDS, IDS, "gspo")


def test_what_resembles_nothing_gets_no_guess():
    with pytest.raises(ValueError, match=r"no estimator 'xyzzy'\. There are: percentile"):
        gs.advantage(REWARDS, IDS, "xyzzy")


@pytest.mark.parametrize(
    ("field", "given", "ours"),
    [
        ("algorithm", "ppo", "grpo"),
        ("algorithm", "Dr.GRPO", "dr_grpo"),
        ("algorithm", "reinforce++", "reinforce_pp"),
        ("algorithm", "bnpo", "dapo"),
        ("loss", "dapo", "grpo"),
        ("loss", "dr_grpo", "grpo"),
        ("loss", "geo_mean", "gmpo"),
        ("loss", "dppo_tv", "dppo"),
        ("loss", "vanilla", "grpo"),
        ("reduction", "token-mean", "token_mean"),
        ("reduction", "seq-mean-token-mean", "seq_mean"),
        ("reduction", "seq-mean-token-sum", "seq_sum"),
        ("reduction", "seq-mean-token-sum-norm", "constant"),
        ("reduction", "sequence_mean", "seq_mean"),
    ],
)
def test_algorithms_losses_and_reductions_of_other_tools_are_told_ours(
    tmp_path, field, given, ours
):
    message = f"{field} = '{re.escape(given)}'.*did you mean '{ours}'\\?"
    with pytest.raises(ConfigError, match=message):
        resolve(Config(model="m", rollouts="r", **{field: given}))
    (tmp_path / "run.toml").write_text(f'model = "m"\n{field} = "{given}"\n')
    with pytest.raises(ConfigError, match=message):
        load(tmp_path / "run.toml")


@pytest.mark.parametrize(
    ("call", "ours"),
    [
        (lambda: gs.rank(REWARDS, IDS, "first"), "ordinal"),
        (lambda: pl.col("reward").gspo.rank(by="id", method="mean"), "average"),
        (lambda: gs.advantage(REWARDS, IDS, ties="average"), "midrank"),
        (lambda: gs.advantage(REWARDS, IDS, "normal", scores="van der Waerden"), "van_der_waerden"),
        (lambda: gs.advantage(REWARDS, IDS, "zscore", epsilon=1e-4), "eps"),
        (lambda: gs.preference_pairs(REWARDS, IDS, "best-worst"), "best_worst"),
        (lambda: gs.preference_pairs(REWARDS, IDS, "max_min"), "best_worst"),
        (lambda: sequence_weights([1], "seq-mean-token-sum"), "seq_sum"),
        (lambda: kl_penalty(*[torch.zeros(1, 1)] * 3, estimator="low_var_kl"), "k3"),
        (lambda: gs.score("in.parquet", "out", by="id", layout="full"), "wide"),
        (
            lambda: sampler_correction(*[torch.zeros(1, 1)] * 2, torch.ones(1, 1), mode="tis"),
            "token_truncate",
        ),
    ],
)
def test_words_of_every_choice_are_told_ours(call, ours):
    with pytest.raises((ValueError, TypeError), match=f"did you mean '{ours}'\\?"):
        call()


def test_every_synonym_leads_to_a_name_that_there_is_and_is_none_itself():
    layouts = ("auto", "packed", "padded", "constant", "linear", "cosine", "tv", "kl", "error")
    words = {word for words in CHOICES.values() for word in words} | {"average", "bfloat16", "drop"}
    words |= {*Layout.__args__, *Strategy.__args__, *layouts, "float32", "k3_is", "k3", "k2"}
    names = {name for one in ESTIMATORS.values() for name in one.options}
    for table, known in (
        (synonyms.ADVANTAGES, set(ESTIMATORS)),
        (synonyms.ALGORITHMS, set(PRESETS)),
        (synonyms.LOSSES, set(OPTIONS)),
        (synonyms.REDUCTIONS, set(Reduction.__args__)),
        (synonyms.CHOICES, words | set(Correction.__args__)),
        (synonyms.OPTIONS, names),
    ):
        for theirs, ours in table.items():
            assert set(ours.split()) <= known, theirs
            assert synonyms.meant(theirs, sorted(known - {theirs}), table) == ours.split()


def test_a_name_that_is_no_text_is_refused_like_any_other():
    with pytest.raises(ValueError, match="strategy is 3; use one of best_worst"):
        gs.preference_pairs(np.array(REWARDS), IDS, 3)
