"""Model repositories for NVIDIA Triton Inference Server, around artifacts of other targets."""
