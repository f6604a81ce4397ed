"""What each ONNX operator is in PyTorch, one file a family; `table` has all of them."""
