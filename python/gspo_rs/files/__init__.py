"""Write scored completions to files, larger than memory, completely or not at all."""
