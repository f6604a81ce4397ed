"""Matrix products and sums over indices."""

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.onnx_import.call import Call, Converter

LINEAR = "pare.Linear"
"""Of the importer's own: input, weight `[outputs, inputs]`, bias."""


def matmul(call: Call) -> Tensor:
    """As NumPy multiplies."""
    return torch.matmul(call.tensor(0), call.tensor(1))


def gemm(call: Call) -> Tensor:
    """`alpha A' B' + beta C`; a fully connected layer where nothing but B is transposed."""
    first, second, added = call.tensor(0), call.tensor(1), call.optional(2)
    alpha, beta = call.get("alpha", 1.0), call.get("beta", 1.0)
    if call.get("transA"):
        first = first.t()
    vector = added is None or (added.ndim == 1 or (added.ndim == 2 and added.shape[0] == 1))
    outputs = second.shape[0] if call.get("transB") else second.shape[1]
    if call.get("transB") and alpha == 1 and beta == 1 and vector and (added is None or added.shape[-1] == outputs):
        return functional.linear(first, second, None if added is None else added.reshape(-1))
    if call.get("transB"):
        second = second.t()
    if not first.is_floating_point() or added is None or alpha != 1 or beta != 1:
        product = torch.matmul(first, second)
        product = product if alpha == 1 else (product * alpha).to(product.dtype)
        return product if added is None else product + (added if beta == 1 else (added * beta).to(added.dtype))
    return torch.addmm(added, first, second)


def linear(call: Call) -> Tensor:
    """A fully connected layer."""
    return functional.linear(call.tensor(0), call.tensor(1), call.optional(2))


def einsum(call: Call) -> Tensor:
    """Einstein's sum; an ellipsis and repeated letters as in NumPy."""
    return torch.einsum(call["equation"].replace(" ", ""), *call.tensors())


def determinant(call: Call) -> Tensor:
    return torch.linalg.det(call.tensor(0))


CONVERTERS: dict[str, Converter] = {
    "Det": determinant,
    "Einsum": einsum,
    "Gemm": gemm,
    "MatMul": matmul,
    LINEAR: linear,
}
"""By operator."""
