"""The model: loading, probing, micro-batches and forward passes."""
