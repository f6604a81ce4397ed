"""Keras: models in its files, as PyTorch programs, by its torch backend.

Sources: https://keras.io/api/models/model_saving_apis, https://docs.pytorch.org/docs/stable/export.html.
"""

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"  # read when keras is imported

import h5py
import keras
import torch
from keras.src.backend.torch import nn as keras_nn
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from .keras_program import batch_normalization, tidied
from .serve import Unsuitable

ARCHIVE, WEIGHTS = "model.keras", "model.weights.h5"
EXAMPLE_ROWS = 3
"""Not 1, nor a size that the model's own axes are likely to have."""


class _Positional(nn.Module):
    """The model with its inputs one after the other, in eval mode."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__()
        self.model: Any = model
        self.structure = model.inputs if isinstance(model, keras.Sequential) else model._inputs_struct  # noqa: SLF001

    def keras_variables(self) -> list[Any]:
        return list(self.model.variables)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = keras.tree.pack_sequence_as(self.structure, list(tensors))
        if isinstance(given, list) and len(given) == 1:
            (given,) = given
        return tuple(keras.tree.flatten(self.model(given, training=False)))


def convert(model: str, into: str, axes: list[list[int | None]], dtypes: list[str]) -> dict[str, Any]:
    """Write the model as the program `into`, for inputs of these shapes (None: varies) and dtypes."""
    path = Path(model)
    _require_plain(path)
    loaded = keras.saving.load_model(path, custom_objects=None, compile=False, safe_mode=True)
    loaded.trainable = True
    module = _Positional(loaded).eval()
    rows = tuple(_example(shape, dtype) for shape, dtype in zip(axes, dtypes, strict=True))
    with torch.no_grad():
        expected = module(*rows)  # and whatever is built at the first call is built
    exported = _exported(module, rows, axes)
    with torch.no_grad():
        _require_same(expected, exported.module(check_guards=False)(*rows))
    torch.export.save(exported, into)
    return {"file": into}


def _exported(module: _Positional, rows: tuple[Tensor, ...], axes: list[list[int | None]]) -> ExportedProgram:
    shared = Dim("batch", min=1)
    varying = tuple(
        {axis: shared if axis == 0 else Dim.AUTO for axis, size in enumerate(shape) if size is None} for shape in axes
    )
    keras_nn.batch_normalization = batch_normalization
    traced = torch.export.export(module, rows, dynamic_shapes=(varying,))
    variables = {
        variable.value.data_ptr(): (variable.path, variable.trainable) for variable in module.keras_variables()
    }
    tidy = tidied(traced.module(check_guards=False), variables)
    exported = torch.export.export(tidy, rows, dynamic_shapes=varying)
    exported.example_inputs = None
    return exported


def _require_same(expected: tuple[Tensor, ...], actual: tuple[Tensor, ...]) -> None:
    for before, after in zip(expected, actual, strict=True):
        if before.shape != after.shape or not torch.allclose(before, after, rtol=1e-3, atol=1e-4):
            raise Unsuitable("The program that was traced does not compute what Keras does.", code="model.load_failed")


def _example(shape: list[int | None], dtype: str) -> Tensor:
    sizes = [size or (EXAMPLE_ROWS if axis == 0 else 32) for axis, size in enumerate(shape)]
    kind = getattr(torch, dtype)
    generator = torch.Generator().manual_seed(0)
    return torch.rand(sizes, generator=generator).to(kind) if kind.is_floating_point else torch.zeros(sizes, dtype=kind)


def _require_plain(path: Path) -> None:
    """Refuse weights that lie in other files, or grow when they are read. Raises `Unsuitable`."""
    if not zipfile.is_zipfile(path):
        with h5py.File(path, "r") as file:
            _look_through(file)
        return
    with zipfile.ZipFile(path) as archive, archive.open(WEIGHTS) as member, h5py.File(member, "r") as file:
        _look_through(file)


def _look_through(file: h5py.File) -> None:
    for name, member in _objects(file, set()):
        if isinstance(member, h5py.Dataset):
            outside = member.external or member.is_virtual
            if outside:
                raise Unsuitable(f"The weight {name!r} lies in another file.", code="model.load_failed")
            if member.id.get_storage_size() != member.size * member.dtype.itemsize:
                what = "is compressed, or does not have the bytes that it declares"
                raise Unsuitable(f"The weight {name!r} {what}.", code="model.load_failed")


def _objects(group: h5py.Group, seen: set[Any]) -> Iterator[tuple[str, h5py.HLObject]]:
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise Unsuitable(f"The weights contain {name!r}, a link to another place.", code="model.load_failed")
        member = group[name]
        if member.id in seen:
            continue
        seen.add(member.id)
        yield member.name, member
        if isinstance(member, h5py.Group):
            yield from _objects(member, seen)
