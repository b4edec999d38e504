"""Rollout: batches of completions collected, tokenized, checked and prepared for their steps."""
