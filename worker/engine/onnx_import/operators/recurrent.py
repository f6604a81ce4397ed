"""LSTM, GRU and RNN: torch's own operator where that computes the same, else one step after another.

ONNX orders the gates of an LSTM input, output, forget, cell, and those of a GRU update, reset, hidden.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.onnx_import.call import Call, Converter, is_symbolic_number

PACKED = "pare."
"""In front of the operators whose weights are in torch's order: series, first states, then the weights by direction."""
STATES = {"LSTM": 2, "GRU": 1, "RNN": 1}
DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


def _affine(value: Tensor, alpha: float, beta: float) -> Tensor:
    return value * alpha + beta


ACTIVATIONS: dict[str, Callable[[Tensor, float, float], Tensor]] = {
    "affine": _affine,
    "elu": lambda value, alpha, _: functional.elu(value, alpha),
    "hardsigmoid": lambda value, alpha, beta: torch.clamp(value * alpha + beta, 0, 1),
    "leakyrelu": lambda value, alpha, _: functional.leaky_relu(value, alpha),
    "relu": lambda value, _, __: torch.relu(value),
    "scaledtanh": lambda value, alpha, beta: alpha * torch.tanh(beta * value),
    "sigmoid": lambda value, _, __: torch.sigmoid(value),
    "softplus": lambda value, _, __: functional.softplus(value),
    "softsign": lambda value, _, __: functional.softsign(value),
    "tanh": lambda value, _, __: torch.tanh(value),
    "thresholdedrelu": lambda value, alpha, _: functional.threshold(value, alpha, 0.0),
}
ALPHA = {"leakyrelu": 0.01, "thresholdedrelu": 1.0, "elu": 1.0, "hardsigmoid": 0.2, "affine": 1.0, "scaledtanh": 1.0}
BETA = {"hardsigmoid": 0.5, "affine": 0.0, "scaledtanh": 1.0}


def packed(kind: str) -> Converter:
    """The whole layer as torch's operator, `[steps, rows, features]`; results in ONNX's layout."""

    def convert(call: Call) -> tuple[Tensor, ...]:
        series, states, weights = call.tensor(0), [], call.tensors()[1 + STATES[kind] :]
        both = call.get("direction", "forward") == "bidirectional"
        first = bool(call.get("layout"))
        series = series.transpose(0, 1) if first else series
        hidden, directions = call["hidden_size"], 2 if both else 1
        for place in range(1, 1 + STATES[kind]):
            given = call.optional(place)
            if given is None:
                given = series.new_zeros(directions, series.shape[1], hidden)
            states.append(given.transpose(0, 1) if first and call.has(place) else given)
        biased = len(weights) == 4 * directions
        if call.get("direction") == "reverse":
            series = series.flip(0)
        result, *last = _torch_layer(kind, call, series, states, weights, biased=biased, both=both)
        if call.get("direction") == "reverse":
            result = result.flip(0)
        return _in_layout(result, last, directions, hidden, first=first)

    return convert


def _torch_layer(
    kind: str, call: Call, series: Tensor, states: list[Tensor], weights: list[Tensor], *, biased: bool, both: bool
) -> Any:
    rest = (weights, biased, 1, 0.0, False, both, False)
    if kind == "LSTM":
        return torch.lstm(series, states, *rest)
    if kind == "GRU":
        return torch.gru(series, states[0], *rest)
    relu = next(iter(call.get("activations") or DEFAULTS["RNN"])).lower() == "relu"
    return torch.rnn_relu(series, states[0], *rest) if relu else torch.rnn_tanh(series, states[0], *rest)


def _in_layout(result: Tensor, last: list[Tensor], directions: int, hidden: int, *, first: bool) -> tuple[Tensor, ...]:
    """`[steps, directions, rows, hidden]`, and the last states; with `first` the rows come first."""
    steps, rows = result.shape[:2]
    series = result.reshape(steps, rows, directions, hidden)
    if first:
        return (series.permute(1, 0, 2, 3), *(state.transpose(0, 1) for state in last))
    return (series.transpose(1, 2), *last)


@dataclass(frozen=True)
class _Cell:
    """The weights of one direction, and what they are used with."""

    kind: str
    weight: Tensor
    """[gates * hidden, features]"""
    recurrence: Tensor
    bias: Tensor
    """[2, gates * hidden]: of the input and of the state."""
    peephole: Tensor | None
    activations: list[Callable[[Tensor], Tensor]]
    clip: float | None
    reset_after: bool
    coupled: bool

    def step(self, value: Tensor, states: list[Tensor]) -> list[Tensor]:
        """The states after one step."""
        return {"LSTM": self._lstm, "GRU": self._gru, "RNN": self._rnn}[self.kind](value, states)

    def _clipped(self, value: Tensor) -> Tensor:
        return value if self.clip is None else value.clamp(-self.clip, self.clip)

    def _rnn(self, value: Tensor, states: list[Tensor]) -> list[Tensor]:
        total = functional.linear(value, self.weight, self.bias.sum(0)) + states[0] @ self.recurrence.t()
        return [self.activations[0](self._clipped(total))]

    def _lstm(self, value: Tensor, states: list[Tensor]) -> list[Tensor]:
        hidden, memory = states
        total = functional.linear(value, self.weight, self.bias.sum(0)) + hidden @ self.recurrence.t()
        enter, leave, keep, cell = total.chunk(4, -1)
        gate, inner, outer = self.activations
        peep = (0.0, 0.0, 0.0) if self.peephole is None else self.peephole.chunk(3, -1)
        enter = gate(self._clipped(enter + peep[0] * memory))
        keep = 1 - enter if self.coupled else gate(self._clipped(keep + peep[2] * memory))
        memory = keep * memory + enter * inner(self._clipped(cell))
        leave = gate(self._clipped(leave + peep[1] * memory))
        return [leave * outer(memory), memory]

    def _gru(self, value: Tensor, states: list[Tensor]) -> list[Tensor]:
        (hidden,) = states
        size = hidden.shape[-1]
        given = functional.linear(value, self.weight, self.bias[0])
        gate, inner = self.activations
        known = functional.linear(hidden, self.recurrence[: 2 * size], self.bias[1, : 2 * size])
        update, reset = (gate(self._clipped(part)) for part in (given[..., : 2 * size] + known).chunk(2, -1))
        recurrence, bias = self.recurrence[2 * size :], self.bias[1, 2 * size :]
        if self.reset_after:
            new = reset * functional.linear(hidden, recurrence, bias)
        else:
            new = functional.linear(reset * hidden, recurrence, bias)
        new = inner(self._clipped(given[..., 2 * size :] + new))
        return [(1 - update) * new + update * hidden]


def unrolled(kind: str) -> Converter:
    """One step after another; their number must be known."""

    def convert(call: Call) -> tuple[Tensor, ...]:
        first = bool(call.get("layout"))
        series = call.tensor(0).transpose(0, 1) if first else call.tensor(0)
        steps = series.shape[0]
        if is_symbolic_number(steps):
            raise call.refusal("a varying number of steps, in a form that PyTorch has no operator for")
        weight, recurrence = call.tensor(1), call.tensor(2)
        directions, hidden = weight.shape[0], recurrence.shape[-1]
        lengths = call.optional(4)
        states = [_first_state(call, place, series, directions, hidden) for place in range(5, 5 + STATES[kind])]
        outputs, last = [], []
        for direction in range(directions):
            backward = call.get("direction", "forward") == "reverse" or direction == 1
            cell = _cell(kind, call, direction)
            sequence, final = _walk(cell, series, [state[direction] for state in states], lengths, backward=backward)
            outputs.append(sequence)
            last.append(final)
        result = torch.stack(outputs, 1)
        finals = [torch.stack([final[place] for final in last]) for place in range(STATES[kind])]
        if first:
            return (result.permute(2, 0, 1, 3), *(state.transpose(0, 1) for state in finals))
        return (result, *finals)

    return convert


def _first_state(call: Call, place: int, series: Tensor, directions: int, hidden: int) -> Tensor:
    given = call.optional(place)
    if given is None:
        return series.new_zeros(directions, series.shape[1], hidden)
    return given.transpose(0, 1) if call.get("layout") else given


def _cell(kind: str, call: Call, direction: int) -> _Cell:
    weight, recurrence = call.tensor(1)[direction], call.tensor(2)[direction]
    given = call.optional(3)
    bias = weight.new_zeros(2, weight.shape[0]) if given is None else given[direction].reshape(2, -1)
    peephole = call.optional(7) if kind == "LSTM" else None
    return _Cell(
        kind,
        weight,
        recurrence,
        bias,
        None if peephole is None else peephole[direction],
        _activations(kind, call, direction),
        call.get("clip"),
        bool(call.get("linear_before_reset")),
        bool(call.get("input_forget")),
    )


def _activations(kind: str, call: Call, direction: int) -> list[Callable[[Tensor], Tensor]]:
    count = len(DEFAULTS[kind])
    names = [name.lower() for name in call.get("activations") or []][direction * count :][:count]
    names = names or [name.lower() for name in DEFAULTS[kind]]
    alphas, betas = list(call.get("activation_alpha") or []), list(call.get("activation_beta") or [])
    functions = []
    for name in names:
        if name not in ACTIVATIONS:
            raise call.refusal(f"the activation {name}")
        alpha = alphas.pop(0) if name in ALPHA and alphas else ALPHA.get(name, 0.0)
        beta = betas.pop(0) if name in BETA and betas else BETA.get(name, 0.0)
        functions.append(_bound(ACTIVATIONS[name], alpha, beta))
    return functions


def _bound(function: Callable[[Tensor, float, float], Tensor], alpha: float, beta: float) -> Callable[[Tensor], Tensor]:
    return lambda value: function(value, alpha, beta)


def _walk(
    cell: _Cell, series: Tensor, states: list[Tensor], lengths: Tensor | None, *, backward: bool
) -> tuple[Tensor, list[Tensor]]:
    """Results of every step, and the last states; beyond the length of its row a step changes nothing and yields 0."""
    steps = int(series.shape[0])
    results: list[Tensor] = [states[0]] * steps
    for step in reversed(range(steps)) if backward else range(steps):
        after = cell.step(series[step], states)
        if lengths is not None:
            inside = (lengths > step)[:, None]
            states = [torch.where(inside, new, old) for new, old in zip(after, states, strict=True)]
            results[step] = torch.where(inside, after[0], torch.zeros_like(after[0]))
        else:
            states, results[step] = after, after[0]
    return torch.stack(results), states


CONVERTERS: dict[str, Converter] = {
    **{kind: unrolled(kind) for kind in STATES},
    **{f"{PACKED}{kind}": packed(kind) for kind in STATES},
}
"""By operator."""
