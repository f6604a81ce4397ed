"""Where delivered artifacts run: ONNX Runtime in this process, others in their toolchains."""
