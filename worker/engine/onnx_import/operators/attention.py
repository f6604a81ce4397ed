"""Attention: ONNX's own operator, ONNX Runtime's fused ones, and rotary embeddings."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.onnx_import.call import Call, Converter, Size, is_symbolic_number

FUSED = "pare.Attention"
"""Of the importer's own: query, key, value, mask, all `[..., positions, size]`; attribute `scale`."""


@dataclass(frozen=True)
class _Scores:
    """How products of query and key become weights."""

    scale: float | None = None
    softcap: float = 0.0
    causal: bool = False
    dtype: torch.dtype | None = None
    """Of the softmax."""


def fused(call: Call) -> Tensor:
    """Attention put together again from its parts."""
    query, key, value, mask = call.tensor(0), call.tensor(1), call.tensor(2), call.optional(3)
    return functional.scaled_dot_product_attention(query, key, value, mask, scale=call["scale"])


def attention(call: Call) -> Any:
    """Operator set 23: with or without heads as an axis, with a cache, grouped queries, and the scores as an output."""
    query, key, value = call.tensor(0), call.tensor(1), call.tensor(2)
    joined = query.ndim == 3
    if joined:
        query = _in_heads(query, call["q_num_heads"])
        key, value = (_in_heads(tensor, call["kv_num_heads"]) for tensor in (key, value))
    past = 0
    if call.has(4):
        past = call.tensor(4).shape[2]
        key, value = torch.cat([call.tensor(4), key], 2), torch.cat([call.tensor(5), value], 2)
    mask = _mask(call, query, key, past)
    repeated = query.shape[1] // key.shape[1]
    full_key, full_value = (
        tensor if repeated == 1 else tensor.repeat_interleave(repeated, 1) for tensor in (key, value)
    )
    scores = _Scores(call.get("scale"), call.get("softcap", 0.0), dtype=_softmax_type(call))
    if len(call.node.outputs) > 3 or scores.softcap or (scores.dtype or query.dtype) != query.dtype:
        result, seen = _in_steps(call, query, full_key, full_value, mask, scores)
    else:
        result, seen = _plain(query, full_key, full_value, mask, scores), None
    result = result.transpose(1, 2).flatten(2) if joined else result
    return (result, key, value, seen)[: max(len(call.node.outputs), 1)] if len(call.node.outputs) > 1 else result


def _softmax_type(call: Call) -> torch.dtype | None:
    return call.dtype("softmax_precision", torch.float32) if call.get("softmax_precision") else None


def _in_heads(value: Tensor, heads: int) -> Tensor:
    """`[rows, positions, heads * size]` as `[rows, heads, positions, size]`."""
    return value.unflatten(-1, (heads, -1)).transpose(1, 2)


def _mask(call: Call, query: Tensor, key: Tensor, past: Size) -> Tensor | None:
    """What is added to the scores: the mask that is given, causality, and the end of each row's cache."""
    given, mask = call.optional(3), None
    wanted = key.shape[2]
    if given is not None:
        mask = given
        if mask.shape[-1] is not wanted and isinstance(wanted, int) and mask.shape[-1] < wanted:
            lacking = wanted - mask.shape[-1]
            fill = False if mask.dtype == torch.bool else -math.inf
            mask = (
                functional.pad(mask.to(torch.uint8), (0, lacking)).bool()
                if fill is False
                else functional.pad(mask, (0, lacking), value=fill)
            )
    rows, columns = torch.arange(query.shape[2])[:, None], torch.arange(wanted)[None]
    lengths = call.optional(6)
    offset: Any = past if lengths is None else (lengths - query.shape[2]).reshape(-1, 1, 1, 1)
    if call.get("is_causal"):
        mask = _both(mask, columns <= rows + offset, query.dtype)
    left, right = call.get("left_window_size", -1), call.get("right_window_size", -1)
    if left >= 0:
        mask = _both(mask, columns >= rows + offset - left, query.dtype)
    if right >= 0:
        mask = _both(mask, columns <= rows + offset + right, query.dtype)
    if lengths is not None:
        mask = _both(mask, columns < lengths.reshape(-1, 1, 1, 1), query.dtype)
    return mask


def _both(mask: Tensor | None, seen: Tensor, dtype: torch.dtype) -> Tensor:
    if mask is None:
        return seen
    if mask.dtype == torch.bool:
        return mask & seen
    return mask + torch.zeros((), dtype=dtype).masked_fill(~seen, -math.inf)


def _plain(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scores: _Scores) -> Tensor:
    return functional.scaled_dot_product_attention(query, key, value, mask, scale=scores.scale)


def _in_steps(
    call: Call, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scores: _Scores
) -> tuple[Tensor, Tensor]:
    """Also the scores: raw (0), capped (1), masked, too (2), or as weights (3)."""
    scale = math.sqrt(1 / math.sqrt(query.shape[-1]) if scores.scale is None else scores.scale)
    raw = (query * scale) @ (key * scale).transpose(-1, -2)
    capped = raw if not scores.softcap else scores.softcap * torch.tanh(raw / scores.softcap)
    masked = capped
    if mask is not None:
        shut = torch.zeros((), dtype=raw.dtype).masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else mask
        masked = capped + shut
    weights = torch.softmax(masked.to(scores.dtype or masked.dtype), -1).to(query.dtype)
    weights = torch.nan_to_num(weights, 0.0) if mask is not None else weights  # of a row that attends to nothing
    return weights @ value, (raw, capped, masked, weights)[call.get("qk_matmul_output_mode", 0)]


def linear_attention(call: Call) -> Any:
    """One step after another: a state per head takes up keys and values, fades by `decay`, and is read by queries."""
    rule, heads, groups = call.get("update_rule", "gated_delta"), call["q_num_heads"], call["kv_num_heads"]
    query = _in_heads(call.tensor(0), heads)
    key, value = (_in_heads(call.tensor(place), groups) for place in (1, 2))
    if is_symbolic_number(query.shape[2]):
        raise call.refusal("a varying number of steps")
    scale = call.get("scale", 0.0) or 1 / math.sqrt(query.shape[-1])
    state = call.optional(3)
    if state is None:
        state = query.new_zeros(query.shape[0], groups, key.shape[-1], value.shape[-1])
    decay = _in_heads(call.tensor(4), groups) if "gated" in rule else None
    rate = call.tensor(5).transpose(1, 2)[..., None] if "delta" in rule else None
    results = []
    for step in range(int(query.shape[2])):
        now = key[:, :, step, :, None]
        state = state if decay is None else state * decay[:, :, step, :, None].exp()
        new = value[:, :, step, None, :]
        if rate is not None:
            new = rate[:, :, step, :, None] * (new - (state * now).sum(2, keepdim=True))
        state = state + now * new
        shared = state if heads == groups else state.repeat_interleave(heads // groups, 1)
        results.append((query[:, :, step, :, None] * shared).sum(2) * scale)
    return torch.stack(results, 1).flatten(2), state


def multi_head(call: Call) -> Any:
    """`com.microsoft.MultiHeadAttention`: query, key, value, bias, padding, added scores, past key and value."""
    heads = call["num_heads"]
    query = call.tensor(0)
    if query.ndim == 5:  # [rows, positions, heads, 3, size]
        query, key, value = (part.transpose(1, 2) for part in query.unbind(3))
    elif call.has(1) and call.tensor(1).ndim == 5:
        key, value = (part.transpose(1, 2) for part in call.tensor(1).unbind(3))
        query = _in_heads(query, heads)
    else:
        parts = [query, call.tensor(1), call.tensor(2)]
        if call.has(3):
            sizes = [query.shape[-1], parts[1].shape[-1] if parts[1].ndim == 3 else query.shape[-1]]
            biases = torch.split(call.tensor(3), [*sizes, call.tensor(3).shape[0] - sum(sizes)])
            parts = [part + bias if part.ndim == 3 else part for part, bias in zip(parts, biases, strict=True)]
        query, key, value = (_in_heads(part, heads) if part.ndim == 3 else part for part in parts)
    past = 0
    if call.has(6):
        past = call.tensor(6).shape[2]
        key, value = torch.cat([call.tensor(6), key], 2), torch.cat([call.tensor(7), value], 2)
    mask = call.optional(5)
    if call.has(4):
        mask = _added(mask, _padding(call, call.tensor(4), key.shape[2], call.get("mask_filter_value", -10000.0)))
    if call.get("unidirectional"):
        mask = _added(mask, _causal(query, key, past))
    result = functional.scaled_dot_product_attention(query, key, value, mask, scale=call.get("scale") or None)
    result = result.transpose(1, 2).flatten(2)
    return (result, key, value)[: len(call.node.outputs)] if len(call.node.outputs) > 1 else result


def _added(mask: Tensor | None, more: Tensor) -> Tensor:
    return more if mask is None else mask + more


def _causal(query: Tensor, key: Tensor, past: Size) -> Tensor:
    seen = torch.arange(key.shape[2])[None] <= torch.arange(query.shape[2])[:, None] + past
    return torch.zeros((), dtype=query.dtype).masked_fill(~seen, -math.inf)


def _padding(call: Call, mask: Tensor, positions: Size, fill: float) -> Tensor:
    """Ones and zeros, or lengths of rows, as what is added to the scores."""
    if mask.ndim == 1:
        seen = torch.arange(positions)[None] < mask[:, None]
    elif mask.ndim <= 4:
        seen = mask != 0
    else:
        raise call.refusal(f"a mask of {mask.ndim} axes")
    while seen.ndim < 4:
        seen = seen.unsqueeze(1)
    return torch.zeros(()).masked_fill(~seen, fill)


def packed_attention(call: Call) -> Any:
    """`com.microsoft.Attention`: input, one weight for query, key and value, its bias, mask, past, added scores."""
    value, weight, bias = call.tensor(0), call.tensor(1), call.optional(2)
    projected = torch.matmul(value, weight)
    return _attended(call, projected if bias is None else projected + bias, mask=3, past=4, added=5)


def _attended(call: Call, projected: Tensor, *, mask: int, past: int, added: int) -> Any:
    heads = call["num_heads"]
    sizes = call.get("qkv_hidden_sizes") or [projected.shape[-1] // 3] * 3
    query, key, value = (_in_heads(part, heads) for part in torch.split(projected, sizes, -1))
    before = 0
    if call.has(past):
        cache = call.tensor(past)
        before = cache.shape[3]
        key, value = torch.cat([cache[0], key], 2), torch.cat([cache[1], value], 2)
    scores = call.optional(added)
    if call.has(mask):
        fill = call.get("mask_filter_value", -10000.0)
        scores = _added(scores, _padding(call, call.tensor(mask), key.shape[2], fill))
    if call.get("unidirectional"):
        scores = _added(scores, _causal(query, key, before))
    result = functional.scaled_dot_product_attention(query, key, value, scores, scale=call.get("scale") or None)
    result = result.transpose(1, 2).flatten(2)
    return (result, torch.stack([key, value])) if len(call.node.outputs) > 1 else result


def group_query(call: Call) -> Any:
    """`com.microsoft.GroupQueryAttention` on whole rows: queries share keys and values in groups."""
    heads, groups = call["num_heads"], call["kv_num_heads"]
    if call.has(3) and call.tensor(3).shape[2] != 0:
        raise call.refusal("with a cache that is filled in place")
    query, key, value = call.tensor(0), call.optional(1), call.optional(2)
    if key is None or value is None:
        size = query.shape[-1] // (heads + 2 * groups)
        query, key, value = torch.split(query, [heads * size, groups * size, groups * size], -1)
    query, key, value = _in_heads(query, heads), _in_heads(key, groups), _in_heads(value, groups)
    if call.get("do_rotary"):
        cosine, sine = call.tensor(7), call.tensor(8)
        places = torch.arange(query.shape[2])
        turn = bool(call.get("rotary_interleaved"))
        query, key = (rotated(part, cosine[places], sine[places], interleaved=turn) for part in (query, key))
    full_key, full_value = (part.repeat_interleave(heads // groups, 1) for part in (key, value))
    seen = torch.arange(key.shape[2])[None] <= torch.arange(query.shape[2])[:, None]
    window = call.get("local_window_size", -1)
    if window > 0:
        seen = seen & (torch.arange(key.shape[2])[None] > torch.arange(query.shape[2])[:, None] - window)
    scale = call.get("scale") or None
    result = functional.scaled_dot_product_attention(query, full_key, full_value, seen, scale=scale)
    result = result.transpose(1, 2).flatten(2)
    return (result, key, value)[: len(call.node.outputs)] if len(call.node.outputs) > 1 else result


def rotary(call: Call) -> Tensor:
    """Pairs of features turned by an angle that grows with the position; the pairs are halves, or neighbours."""
    value, cosine, sine = call.tensor(0), call.tensor(1), call.tensor(2)
    return _rotated(call, value, cosine, sine, call.optional(3))


def rotary_by_places(call: Call) -> Tensor:
    """`com.microsoft.RotaryEmbedding`: positions before the tables; a single one is where all rows begin."""
    value, places, cosine, sine = (call.tensor(place) for place in range(4))
    if places.numel() == 1:
        places = (places.reshape(1, 1) + torch.arange(value.shape[-2])).expand(value.shape[0], -1)
    return _rotated(call, value, cosine, sine, places)


def _rotated(call: Call, value: Tensor, cosine: Tensor, sine: Tensor, places: Tensor | None) -> Tensor:
    joined = value.ndim == 3
    heads = call.get("num_heads", 0)
    if joined:
        size = 2 * cosine.shape[-1] if not heads else None
        value = (value.unflatten(-1, (-1, size)) if size else value.unflatten(-1, (heads, -1))).transpose(1, 2)
    if places is not None:
        cosine, sine = cosine[places], sine[places]
    cosine, sine = (table.unsqueeze(1) if table.ndim == 3 else table for table in (cosine, sine))
    part = call.get("rotary_embedding_dim", 0) or value.shape[-1]
    turning, kept = value[..., :part], value[..., part:]
    cosine, sine = cosine[..., : part // 2], sine[..., : part // 2]
    result = rotated(turning, cosine, sine, interleaved=bool(call.get("interleaved")))
    result = torch.cat([result, kept], -1) if part != value.shape[-1] else result
    return result.transpose(1, 2).flatten(2) if joined else result


def rotated(value: Tensor, cosine: Tensor, sine: Tensor, *, interleaved: bool) -> Tensor:
    """Every pair of the last axis turned."""
    if interleaved:
        first, second = value[..., 0::2], value[..., 1::2]
    else:
        first, second = value.chunk(2, -1)
    real, imaginary = cosine * first - sine * second, sine * first + cosine * second
    return torch.stack([real, imaginary], -1).flatten(-2) if interleaved else torch.cat([real, imaginary], -1)


CONVERTERS: dict[str, Converter] = {
    "Attention": attention,
    "LinearAttention": linear_attention,
    "RotaryEmbedding": rotary,
    FUSED: fused,
    "com.microsoft.Attention": packed_attention,
    "com.microsoft.GroupQueryAttention": group_query,
    "com.microsoft.MultiHeadAttention": multi_head,
    "com.microsoft.RotaryEmbedding": rotary_by_places,
}
"""By operator."""
