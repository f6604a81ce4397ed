"""An ONNX graph made an exported program: the same numbers, in operators that can be pruned, trained and converted."""
