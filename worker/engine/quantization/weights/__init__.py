"""Weights in fewer bits: which tensors, as what matrices, on which grids."""
