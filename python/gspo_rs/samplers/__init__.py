"""Samplers: who draws completions from the policy."""
