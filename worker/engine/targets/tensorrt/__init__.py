"""ONNX files for NVIDIA TensorRT: how they are made, and what TensorRT requires of them."""
