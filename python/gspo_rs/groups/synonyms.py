"""Names that other tools and papers use, for hints in errors: ``grpo`` is ``zscore``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

__all__ = [
    "ADVANTAGES",
    "ALGORITHMS",
    "CHOICES",
    "FIELDS",
    "LOSSES",
    "OPTIONS",
    "REDUCTIONS",
    "did_you_mean",
    "listed",
    "meant",
]

# Their name → ours, or several of ours; spelled without case and signs, `+` as p (`_plain`).
ADVANTAGES: Mapping[str, str] = {
    "grpo": "zscore",
    "grpovectorized": "zscore",
    "groupnorm": "zscore",
    "group": "zscore",
    "std": "zscore",
    "normalise": "zscore",
    "normalize": "zscore",
    "standardise": "zscore",
    "standardize": "zscore",
    "zscored": "zscore",
    "dapo": "zscore",
    "sapo": "zscore",
    "gspo": "percentile zscore",
    "drgrpo": "mean",
    "centred": "mean",
    "centered": "mean",
    "meancentred": "mean",
    "none": "mean",
    "leaveoneout": "rloo",
    "loo": "rloo",
    "rloovectorized": "rloo",
    "reinforceleaveoneout": "rloo",
    "remax": "rloo",
    "reinforce": "rloo",
    "reinforcebaseline": "mean",
    "gpg": "mean",
    "batch": "batch_std",
    "liteppo": "batch_std",
    "reinforcepp": "reinforce_pp",
    "reinforceplusplus": "reinforce_pp",
    "reinforceplusplusbaseline": "reinforce_pp",
    "reinforceppbaseline": "reinforce_pp",
    "rfpp": "reinforce_pp",
    "rfppbaseline": "reinforce_pp",
    "qae": "quantile",
    "grpopassk": "best_minus_second",
    "passk": "pass_at_k",
    "passktraining": "pass_at_k",
    "topx": "top_fraction",
    "topk": "top_fraction",
    "topp": "top_fraction",
    "rank": "percentile",
    "ranks": "percentile",
    "winrate": "percentile",
    "wins": "percentile",
    "midrank": "percentile",
    "bradleyterry": "soft_winrate",
    "softrank": "soft_winrate",
    "vanderwaerden": "normal",
    "blom": "normal",
    "probit": "normal",
    "optimalbaseline": "opo",
    "bordacount": "borda",
}
ALGORITHMS: Mapping[str, str] = {
    "ppo": "grpo",
    "vanilla": "grpo",
    "bnpo": "dapo",
    "gspotoken": "gspo_token",
    "geomean": "gmpo",
    "dppotv": "dppo",
    "dppokl": "dppo",
    "leaveoneout": "rloo",
    "remax": "rloo",
    "reinforce": "rloo",
    "reinforceplusplus": "reinforce_pp",
    "reinforceplusplusbaseline": "reinforce_pp",
    "rfpp": "reinforce_pp",
    "quantile": "qae",
    "passk": "pkpo",
    "plackettluce": "pl",
    "listnet": "listwise",
    "topfraction": "topx listwise",
    "sigmoid": "dpo",
    "ranknet": "pairwise",
}
LOSSES: Mapping[str, str] = {
    "ppo": "grpo",
    "vanilla": "grpo",
    "dapo": "grpo",
    "drgrpo": "grpo",
    "bnpo": "grpo",
    "clip": "grpo",
    "sequence": "gspo",
    "token": "grpo",
    "geomean": "gmpo",
    "dppotv": "dppo",
    "dppokl": "dppo",
    "gpg": "reinforce",
    "rloo": "reinforce",
    "policygradient": "reinforce",
    "pg": "reinforce",
    "pl": "plackett_luce",
    "listmle": "plackett_luce",
    "listwise": "top_fraction",
    "listnet": "top_fraction",
    "topx": "top_fraction",
    "ranknet": "pairwise",
    "bradleyterry": "pairwise",
    "sigmoid": "dpo",
}
REDUCTIONS: Mapping[str, str] = {
    "mean": "seq_mean",
    "grpo": "seq_mean",
    "gspo": "seq_mean",
    "seqmeantokenmean": "seq_mean",
    "sequencemean": "seq_mean",
    "samplemean": "seq_mean",
    "samplelevel": "seq_mean",
    "dapo": "token_mean",
    "bnpo": "token_mean",
    "token": "token_mean",
    "tokenlevel": "token_mean",
    "tokenmeanlegacy": "token_mean",
    "groupmean": "prompt_mean",
    "promptlevel": "prompt_mean",
    "drgrpo": "constant",
    "seqmeantokensumnorm": "constant",
    "fixed": "constant",
    "fixedlength": "constant",
    "sum": "seq_sum",
    "tokensum": "seq_sum",
    "seqmeantokensum": "seq_sum",
    "sequencesum": "seq_sum",
    "luspo": "seq_sum",
}
# The words of all other choices: each set is small, and no word has two senses among them.
CHOICES: Mapping[str, str] = {
    # Ranks of tied rewards.
    "mean": "average midrank",
    "fractional": "average midrank",
    "average": "midrank",
    "midrank": "average",
    "first": "ordinal",
    "rownumber": "ordinal",
    "position": "ordinal",
    "competition": "min",
    "standard": "min",
    "modified": "max",
    # Normal scores.
    "vdw": "van_der_waerden",
    "waerden": "van_der_waerden",
    # Pairs.
    "bestvsworst": "best_worst",
    "maxmin": "best_worst",
    "topbottom": "best_worst",
    "extremes": "best_worst",
    "pairwise": "all",
    "every": "all",
    "allpairs": "all",
    "random": "best_random",
    "bestvsrandom": "best_random",
    # Layouts of files, and of micro-batches.
    "full": "wide",
    "long": "narrow",
    "scores": "narrow",
    "packing": "packed",
    "varlen": "packed",
    "thd": "packed",
    "rmpad": "packed",
    "removepadding": "packed",
    "paddingfree": "packed",
    "pad": "padded",
    "padding": "padded",
    "bshd": "padded",
    # Estimators of the KL.
    "kl": "k3",
    "lowvarkl": "k3",
    "mse": "k2",
    "unbiasedkl": "k3_is",
    # Corrections of the sampler.
    "tis": "token_truncate",
    "token": "token_truncate token_mask",
    "tokentis": "token_truncate",
    "icepop": "token_mask",
    "sequencetis": "sequence_truncate",
    "mis": "sequence_mask",
    "geometric": "seq_mask",
    "geo": "seq_mask",
    # Schedules, number formats, kinds of attention to a long text.
    "constantwithwarmup": "constant",
    "cosinewithwarmup": "cosine",
    "bf16": "bfloat16",
    "fp32": "float32",
    "float": "float32",
    "totalvariation": "tv",
    "skip": "drop",
    "filter": "drop",
    "raise": "error",
}
# Field of a configuration → what others call its words.
FIELDS: Mapping[str, Mapping[str, str]] = {
    "advantage": ADVANTAGES,
    "algorithm": ALGORITHMS,
    "loss": LOSSES,
    "reduction": REDUCTIONS,
}
# Options of estimators.
OPTIONS: Mapping[str, str] = {
    "epsilon": "eps",
    "temperature": "tau",
    "temp": "tau",
    "n": "k",
    "fraction": "q",
    "top": "q",
    "rewardweights": "weights",
    "unbiased": "ddof",
    "lens": "lengths",
    "references": "pool",
    "method": "ties",
}


def meant(name: str, known: Iterable[str], table: Mapping[str, str]) -> list[str]:
    """Return which of the `known` names a wrong one may stand for.

    Parameters
    ----------
    name : str
        As it was given.
    known : iterable of str
        The right names.
    table : mapping of str to str
        What others call them, one of the tables here or like them.

    Returns
    -------
    list of str
        The name spelled otherwise (``Z-Score``), else those that `table` has for it, else the
        nearest spelling; empty if nothing is near.

    Examples
    --------
    >>> meant("Token-Mean", ["seq_mean", "token_mean"], REDUCTIONS)
    ['token_mean']
    >>> meant("grpo", ["gopo", "zscore"], ADVANTAGES), meant("zscor", ["gopo", "zscore"], {})
    (['zscore'], ['zscore'])
    """
    spelled = {_plain(right): right for right in known}
    plain = _plain(name)
    if plain in spelled:
        return [spelled[plain]]
    ours = [right for right in table.get(plain, "").split() if right in spelled.values()]
    near = difflib.get_close_matches(plain, spelled, n=1)
    return ours or [spelled[found] for found in near]


def did_you_mean(name: object, known: Iterable[str], table: Mapping[str, str]) -> str:
    """Return ``; did you mean 'zscore'?``, or nothing where no name is near.

    Examples
    --------
    >>> did_you_mean("grpo", ["gopo", "zscore"], ADVANTAGES)
    "; did you mean 'zscore'?"
    """
    found = meant(name, known, table) if isinstance(name, str) else []
    return f"; did you mean {' or '.join(map(repr, found))}?" if found else ""


def listed(name: object, known: Iterable[str], table: Mapping[str, str] = CHOICES) -> str:
    """Return the `known` names, and of a wrong one which of them it may stand for.

    Examples
    --------
    >>> listed("first", ["average", "ordinal"])
    "average, ordinal; did you mean 'ordinal'?"
    """
    names = list(known)
    return ", ".join(names) + did_you_mean(name, names, table)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower().replace("+", "p").replace("@", "at"))
