"""`.pt2` archives that `torch.export.save` writes since torch 2.8.

A zip of stored members below one folder (torch/csrc/export/pt2_archive_constants.h):

- `archive_format` ("pt2"), `archive_version`, `byteorder`, `.data/version`, `.data/serialization_id`
- `models/NAME.json`: the exported program (torch/_export/serde/schema.py); read by `pt2_program`
- `data/weights/NAME_weights_config.json`, `data/constants/NAME_constants_config.json`: name -> payload and shape
- `data/weights/weight_N`, `data/constants/tensor_N`: raw storages
- `data/sample_inputs/NAME.pt`: the example inputs, a pickle; checked here, best dropped before loading

`torch.export.load` runs code from pickled payloads (`use_pickle`, `custom_obj_N`, `opaque_obj_N`), sample inputs,
expressions, guards and `data/aotinductor/`: all refused here. It must still happen in a jail.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from app.admission.bounded_json import as_dict, as_int, as_list, as_text, parse
from app.admission.errors import AdmissionError, Broken, Inflating, OutdatedModel, Unsafe
from app.admission.pt2_harmless import WrongDevice, require_qualified
from app.admission.pt2_program import ITEM_BYTES, STRIDED, ProgramWeight, read_program
from app.admission.pth import require_harmless_tensors
from app.admission.zipped import Archive, Member
from app.spec.signature import ModelInfo


class NativeCode(AdmissionError):
    """The model carries compiled code."""

    code = "model.native_code"
    remedy = "Send the exported program (torch.export.save), not the compiled package."


MAX_SMALL_BYTES = 256
_MODEL = re.compile(r"models/([A-Za-z0-9_-]{1,100})\.json")
_FIXED = frozenset({"archive_format", "archive_version", "byteorder", ".data/version", ".data/serialization_id"})
_CONFIGS = {
    "weights": ("data/weights/{}_weights_config.json", re.compile(r"weight_\d{1,9}")),
    "constants": ("data/constants/{}_constants_config.json", re.compile(r"tensor_\d{1,9}")),
}
_NATIVE, _LIBRARIES = "data/aotinductor/", (".so", ".cubin", ".dll", ".dylib", ".o")
_LEGACY = "serialized_exported_program.json"


def is_pt2(inner: Collection[str]) -> bool:
    """Whether these names (without the folder) are those of a .pt2."""
    return "archive_format" in inner or any(_MODEL.fullmatch(name) for name in inner)


def is_legacy_pt2(names: Collection[str]) -> bool:
    """Whether these are the members of a .pt2 as torch wrote it before 2.8."""
    return _LEGACY in {name.rpartition("/")[2] for name in names}


def refuse_legacy_pt2(members: Mapping[str, Member]) -> None:
    """Raise `Unsafe` if the old archive carries pickles, else `OutdatedModel`."""
    if any(name.endswith(".pt") and member.size for name, member in members.items()):
        raise Unsafe("The .pt2 was written by torch < 2.8, which pickles the weights.")
    raise OutdatedModel("The .pt2 was written by torch < 2.8.", remedy="Re-export with torch >= 2.8.")


def read_pt2(archive: Archive) -> ModelInfo:
    """Check every member of a `.pt2` and say what is inside.

    Raises `Broken`, `Unsafe`, `Inflating` and subclasses of `AdmissionError`.
    """
    return _Package(archive).read()


@dataclass
class _Package:
    archive: Archive

    def read(self) -> ModelInfo:
        self.members = self._inner()
        if native := [name for name in self.members if name.startswith(_NATIVE) or name.endswith(_LIBRARIES)]:
            raise NativeCode(f"The archive holds compiled code: {native[0][:80]!r}.")
        models = [match[1] for name in self.members if (match := _MODEL.fullmatch(name))]
        if len(models) != 1:
            raise Broken(f"it holds {len(models)} programs instead of one")
        name = models[0]
        self._require_fixed()
        used = {f"models/{name}.json", *_FIXED}
        weights = self._payloads("weights", name, used)
        constants = self._payloads("constants", name, used)
        self._check_sample_inputs(f"data/sample_inputs/{name}.pt", used)
        if strays := sorted(self.members.keys() - used):
            self._refuse(strays[0])
        return read_program(parse(self.archive, self.members[f"models/{name}.json"]), weights, constants)

    def _inner(self) -> dict[str, Member]:
        """Members by name without the folder that all share: torch looks only below the first one's."""
        folders = {name.partition("/")[0] for name in self.archive.members}
        if len(folders) != 1:
            raise Broken("its members are not below one folder")
        for name, member in self.archive.members.items():
            if not member.stored:
                raise Inflating(f"{name!r} is compressed, which torch.export.save never does")
        return {name.partition("/")[2]: member for name, member in self.archive.members.items()}

    def _require_fixed(self) -> None:
        wanted = {"archive_format": {b"pt2"}, "archive_version": {b"0", b"1"}, "byteorder": {b"little"}}
        for name, contents in wanted.items():
            if name not in self.members:
                raise Broken(f"member {name!r} is missing")
            if self.archive.read(self.members[name], MAX_SMALL_BYTES).strip() not in contents:
                raise Broken(f"{name!r} says something else than is accepted")

    def _payloads(self, kind: str, model: str, used: set[str]) -> dict[str, ProgramWeight]:
        """The tensors of a config, each inside its storage; the members they use are added to `used`."""
        pattern, path = _CONFIGS[kind]
        config = pattern.format(model)
        if config not in self.members:
            legacy = f"data/{kind}/{model}.pt" in self.members
            raise Unsafe("The model pickles its weights.") if legacy else Broken(f"member {config!r} is missing")
        used.add(config)
        dtypes: dict[str, int] = {}
        payloads = {}
        for name, entry in as_dict(as_dict(parse(self.archive, self.members[config])).get("config")).items():
            require_qualified(name)
            payload = as_dict(entry)
            place = as_text(payload.get("path_name"))
            if payload.get("use_pickle") is not False or not path.fullmatch(place):
                raise Unsafe(f"{name[:80]!r} is a pickled object.")
            member = self.members.get(f"data/{kind}/{place}")
            if member is None:
                raise Broken(f"the data of {name[:80]!r} is missing")
            used.add(f"data/{kind}/{place}")
            weight = _weight(name, payload, place, member.size)
            if dtypes.setdefault(place, weight.dtype) != weight.dtype:
                raise Broken(f"{name[:80]!r} shares its data with a tensor of another type")
            payloads[name] = weight
        return payloads

    def _check_sample_inputs(self, name: str, used: set[str]) -> None:
        used.add(name)
        member = self.members.get(name)
        if member is not None and member.size:
            require_harmless_tensors(self.archive.inner(member))

    def _refuse(self, name: str) -> None:
        if name.startswith("data/sample_inputs/") or name.endswith((".pt", ".pkl")) or "_obj_" in name:
            raise Unsafe(f"The archive holds {name[:80]!r}, which may be a pickle.")
        raise Broken(f"the archive holds {name[:80]!r}, which no model refers to")


def _weight(name: str, payload: dict[str, Any], place: str, stored_bytes: int) -> ProgramWeight:
    meta = as_dict(payload.get("tensor_meta"))
    dtype = as_int(meta.get("dtype"))
    sizes = _numbers(meta.get("sizes"))
    strides = _numbers(meta.get("strides"))
    (offset,) = _numbers([meta.get("storage_offset")])
    item = ITEM_BYTES.get(dtype)
    if item is None or meta.get("layout") != STRIDED or len(sizes) != len(strides) or len(sizes) > 64:
        raise Broken(f"weight {name[:80]!r} is not a dense tensor of a known type")
    if as_dict(meta.get("device")).get("type") != "cpu":
        raise WrongDevice(f"Weight {name[:80]!r} is on another device than the CPU.")
    elements = prod(sizes)
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    # Strides of 0 make a terabyte out of four bytes as soon as the tensor is copied: the storage must hold them all.
    if stored_bytes % item or (elements and max(last + 1, elements) * item > stored_bytes):
        raise Broken(f"weight {name[:80]!r} of shape {list(sizes)} reaches beyond its {stored_bytes} bytes")
    return ProgramWeight(
        dtype,
        sizes,
        place,
        is_parameter=payload.get("is_param") is True,
        is_trainable=meta.get("requires_grad") is True,
    )


def _numbers(value: object) -> tuple[int, ...]:
    numbers = tuple(as_int(as_dict(entry).get("as_int")) for entry in as_list(value))
    if any(not 0 <= number < 2**63 for number in numbers):
        raise Broken("a weight has an impossible shape")
    return numbers
