"""Rollouts: prompts, completions and rewards in columns, whole groups only."""

from gspo_rs.rollouts.rollouts import Ragged, Rollouts

__all__ = ["Ragged", "Rollouts"]
