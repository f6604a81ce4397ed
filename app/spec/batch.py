"""Where the batch of a model is: the first axis of every input, or nowhere."""

from app.spec.signature import Signature


def without_batch(signature: Signature) -> str | None:
    """Why the first axes of a model's inputs are no batch, as a sentence; None if they are.

    A fixed `[16]` may be one sample as well as sixteen, so it counts like a scalar.
    """
    fixed: dict[int, str] = {}
    dynamic = None
    for tensor in signature.inputs:
        if not tensor.shape:
            return f"Input '{tensor.name}' has no batch axis: it is a scalar."
        first = tensor.shape[0]
        if not isinstance(first, int):
            dynamic = tensor.name
        elif len(tensor.shape) == 1:
            return f"Input '{tensor.name}' has no batch axis: its only axis has the fixed size {first}."
        else:
            fixed.setdefault(first, tensor.name)
    if fixed and dynamic is not None:
        size, name = next(iter(fixed.items()))
        return f"The batch must be the first axis of every input: it is {size} in '{name}' and dynamic in '{dynamic}'."
    if len(fixed) > 1:
        (size, name), (other_size, other) = list(fixed.items())[:2]
        return (
            f"The batch must be the first axis of every input: it is {size} in '{name}' and {other_size} in '{other}'."
        )
    return None
