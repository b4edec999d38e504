"""Rewards of completions."""

from gspo_rs.rewards.functions import load, score

__all__ = ["load", "score"]
