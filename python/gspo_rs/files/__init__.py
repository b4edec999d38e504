"""Scored completions in files: larger than memory, written whole or not at all."""
