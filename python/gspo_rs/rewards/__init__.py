"""Rewards: what a completion is worth."""

from gspo_rs.rewards.functions import load, score

__all__ = ["load", "score"]
