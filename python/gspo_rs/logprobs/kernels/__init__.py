"""Triton kernels of a linear head: loaded only where tensors are on a GPU and Triton is there."""
