"""Samplers: they draw completions from the policy."""
