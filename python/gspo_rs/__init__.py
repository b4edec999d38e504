"""Group-based reinforcement learning of language models."""
