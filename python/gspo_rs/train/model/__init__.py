"""Model: loaded, probed, laid out in micro-batches and run."""
