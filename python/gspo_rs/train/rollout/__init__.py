"""Rollouts in training: batches collected, tokenized, checked and prepared for the steps."""
