"""LSTM, GRU and RNN layers: a hidden unit is a row of every gate and a column of every state.

A unit whose weights are all zero starts at zero and stays there, so that removing it changes nothing else.
"""

import numpy as np

from worker.engine.pruning.channels.call import Call, NoRule, Value
from worker.engine.pruning.channels.channel_classes import Dims, Labels, frozen
from worker.engine.pruning.channels.rules.base import Rule, by_operator

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


def recurrent(call: Call) -> Value:
    """All layers and directions share their hidden units, for their states are parts of one tensor."""
    gates, weights = GATES[call.kind], call.all_labels(call["params"])
    directions, each = 2 if call["bidirectional"] else 1, 4 if call["has_biases"] else 2
    if len(weights) != each * directions * call.integer("num_layers"):
        raise NoRule("projections")
    names = [call.weight(parameter) for parameter in call["params"]]
    if None in names:
        raise NoRule("weights that depend on the input")
    series, hidden = call.labels("input"), weights[1][1]
    call.freeze("it runs over them", *series[:-1])
    for place in range(0, len(weights), each):
        incoming = series[-1] if place < each * directions else np.tile(hidden, directions)
        _layer(call, weights[place : place + each], incoming, hidden, gates)
    for state in call.all_labels(call["hx"]):
        call.classes.tie(state[-1], hidden)
    call.produces(names[0], hidden)
    out, *states = (tuple(frozen(size) for size in shape[:-1]) for shape in call.results)
    return call.result((*out, np.tile(hidden, directions)), *((*state, hidden) for state in states))


def _layer(call: Call, weights: list[Dims], incoming: Labels, hidden: Labels, gates: int) -> None:
    """Tie one direction of one layer: [gates x hidden, incoming], [gates x hidden, hidden], biases."""
    classes = call.classes
    classes.tie(weights[0][1], incoming)
    classes.tie(weights[1][1], hidden)
    for dims in weights:
        classes.union(dims[0].reshape(gates, -1), hidden[None])


RULES: dict[str, Rule] = by_operator(
    {
        "lstm gru rnn_tanh rnn_relu": recurrent,
    }
)
