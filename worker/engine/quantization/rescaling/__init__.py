"""Moving scale from one layer of a float graph into the next: the function stays, quantization loses less."""
