"""What each part of a quantized model costs: one part is quantized at a time, and the noise at the outputs measured.

Noise is additive: powers of parts quantized alone sum to that of the parts together (10.0 dB predicted, 10.4 measured;
15.5 and 15.3; 23.1 and 23.4), so one sweep predicts every choice of what to quantize.
"""
