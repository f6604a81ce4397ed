"""Fourier transforms and the windows of signals."""

import math
from typing import Any

import torch
from torch import Tensor

from worker.engine.onnx_import.call import Call, Converter


def transform(call: Call) -> Tensor:
    """The discrete Fourier transform of one axis; the last axis is real, or real and imaginary."""
    value, length = call.tensor(0), call.number(1) if call.has(1) else None
    axis = int(call.number(2, -2)) if call.node.version >= 20 else call.get("axis", 1)
    inverse, onesided = bool(call.get("inverse")), bool(call.get("onesided"))
    axis = axis % value.ndim
    signal = torch.view_as_complex(value.contiguous()) if value.shape[-1] == 2 else value[..., 0]
    if onesided and inverse:
        return torch.fft.irfft(signal, length, axis).unsqueeze(-1)
    if inverse:
        return torch.view_as_real(torch.fft.ifft(signal, length, axis))
    if onesided:
        signal = signal.real if signal.is_complex() else signal
        return torch.view_as_real(torch.fft.rfft(signal, length, axis))
    return torch.view_as_real(torch.fft.fft(signal, length, axis))


def short_time_transform(call: Call) -> Tensor:
    """`[rows, frames, frequencies, 2]` of a signal `[rows, samples, 1 or 2]`: frames, a window, the transform."""
    value, step, window = call.tensor(0), int(call.number(1)), call.optional(2)
    size = int(call.number(3)) if call.has(3) else int(window.shape[0]) if window is not None else value.shape[1]
    signal = (
        torch.view_as_complex(value.contiguous())
        if value.ndim == 3 and value.shape[-1] == 2
        else (value.squeeze(-1) if value.ndim == 3 else value)
    )
    frames = signal.unfold(1, size, step)
    frames = frames if window is None else frames * window
    if call.get("onesided", 1) and not frames.is_complex():
        return torch.view_as_real(torch.fft.rfft(frames))
    return torch.view_as_real(torch.fft.fft(frames))


def window(first: float, second: float, third: float) -> Converter:
    """`first - second cos(2 pi n / N) + third cos(4 pi n / N)`."""

    def convert(call: Call) -> Tensor:
        size: Any = call.number(0)
        period = size if call.get("periodic", 1) else size - 1
        angle = torch.arange(size).to(torch.float64) * (2 * math.pi / period)
        values = first - second * torch.cos(angle) + third * torch.cos(2 * angle)
        return values.to(call.dtype("output_datatype", torch.float32))

    return convert


def mel_weights(call: Call) -> Tensor:
    """`[frequencies, bands]`: triangles that are evenly spaced on the mel scale."""
    bands, length, rate = int(call.number(0)), int(call.number(1)), call.number(2)
    edges = [2595 * math.log10(1 + float(call.number(place)) / 700) for place in (3, 4)]
    places = torch.arange(bands + 2) * ((edges[1] - edges[0]) / (bands + 2)) + edges[0]
    bins = torch.floor((length + 1) * (700 * (10 ** (places.to(torch.float64) / 2595) - 1)) / rate).to(torch.int64)
    frequency = torch.arange(length // 2 + 1)[:, None]
    low, middle, high = bins[:-2], bins[1:-1], bins[2:]
    rising = torch.where(middle == low, (frequency == middle).double(), (frequency - low) / (middle - low).clamp(min=1))
    falling = (high - frequency) / (high - middle).clamp(min=1)
    inside = (frequency >= low) & (frequency <= middle)
    weights = torch.where(inside, rising, torch.where((frequency > middle) & (frequency < high), falling, 0.0))
    return weights.to(call.dtype("output_datatype", torch.float32))


CONVERTERS: dict[str, Converter] = {
    "BlackmanWindow": window(0.42, 0.5, 0.08),
    "DFT": transform,
    "HammingWindow": window(25 / 46, 21 / 46, 0.0),
    "HannWindow": window(0.5, 0.5, 0.0),
    "MelWeightMatrix": mel_weights,
    "STFT": short_time_transform,
}
"""By operator."""
