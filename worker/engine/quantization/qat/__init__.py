"""Quantization-aware training: the graph is trained with its values on the grids that the integer kernels will use."""
