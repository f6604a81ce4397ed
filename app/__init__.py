"""The service: what may be asked, what is known, who may see it. Never imports torch, onnx or worker."""

__version__ = "0.1.0"
