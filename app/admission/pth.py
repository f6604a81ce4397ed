"""Files that `torch.save` wrote: a zip of a pickle and raw storages, or, before torch 1.6, pickles and raw storages.

The weights of a network are a flat dict of tensors (`model.state_dict()`); nothing else is taken for weights.
Formats: torch/serialization.py, `_save` and `_legacy_save`.
"""

import io
import struct
from typing import Any, BinaryIO

from app.admission.errors import AdmissionError, Broken, Unsafe, UnsupportedType
from app.admission.pickles import Container, PickledTensor, Storage, read_pickle
from app.admission.sniff import LEGACY_PTH
from app.admission.stored import ITEM_BYTES, StoredTensor
from app.admission.zipped import Archive, Member
from app.spec.signature import DType


class WeightsMismatch(AdmissionError):
    """The weights are not those of the declared architecture: tensors are missing, unexpected or of another shape."""

    code = "model.weights_mismatch"
    remedy = "Declare the architecture and `kwargs` (num_classes above all) that the weights were saved from."


MAX_PICKLE_BYTES = 4 << 20
MAX_SMALL_BYTES = 64
_DTYPES: dict[str, DType] = {
    "Double": "float64",
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
}
_COUNT = struct.Struct("<q")
_OTHERS = frozenset(
    {
        "data.pkl",
        "byteorder",
        "version",
        ".format_version",
        ".storage_alignment",
        ".data/serialization_id",
    }
)
STATE_DICT = "Save only the weights: torch.save(model.state_dict(), 'weights.pth')."


def require_harmless_tensors(archive: Archive) -> None:
    """Check a file that `torch.save` wrote; raises `Unsafe` or `Broken`."""
    members = _members(archive)
    _value(archive, members, _sizes(members))


def read_state_dict(archive: Archive) -> dict[str, StoredTensor]:
    """The tensors of a zip that `torch.save` wrote for a state_dict, wherever they were when it was saved.

    Raises `Unsafe`, `Broken`, `WeightsMismatch`, `UnsupportedType`.
    """
    members = _members(archive)
    order = members.get("byteorder")
    if order is not None and archive.read(order, MAX_SMALL_BYTES).strip() != b"little":
        raise Broken("its numbers are not little-endian")
    value = _value(archive, members, _sizes(members), any_device=True)
    starts = {key: archive.position(members[f"data/{key}"]) for key in _sizes(members)}
    return {name: _stored(name, tensor, starts) for name, tensor in _tensors(value).items()}


def read_legacy_state_dict(file: BinaryIO, size: int) -> dict[str, StoredTensor]:
    """The tensors of a state_dict that torch < 1.6 saved: five pickles, then each storage behind its length.

    Raises what `read_state_dict` raises.
    """
    file.seek(len(LEGACY_PTH))
    stream = io.BytesIO(file.read(MAX_PICKLE_BYTES))
    if read_pickle(stream, sizes={}) != 1001:  # the format's own version
        raise Broken("it has an unknown protocol")
    system = read_pickle(stream, sizes={})
    if not isinstance(system, Container) or _pairs(system).get("little_endian") is not True:
        raise Broken("its numbers are not little-endian")
    tensors = _tensors(read_pickle(stream, sizes=None, any_device=True))
    keys = read_pickle(stream, sizes={})
    if not isinstance(keys, Container) or not all(isinstance(key, str) for key in keys.entries):
        raise Broken("its list of storages is damaged")
    starts = _walk(file, size, len(LEGACY_PTH) + stream.tell(), keys.entries, tensors)
    return {name: _stored(name, tensor, starts) for name, tensor in tensors.items()}


def _members(archive: Archive) -> dict[str, Member]:
    """Members by name without the folder; all are stored, and none is what torch.save does not write."""
    members = {name.partition("/")[2]: member for name, member in archive.members.items()}
    if "data.pkl" not in members or any(not member.stored for member in members.values()):
        raise Unsafe("The model carries a payload that is not a file written by torch.save.")
    if any(name not in _OTHERS and not name.startswith("data/") for name in members):
        raise Unsafe("The model carries a payload with members that torch.save does not write for tensors.")
    return members


def _sizes(members: dict[str, Member]) -> dict[str, int]:
    return {name[5:]: member.size for name, member in members.items() if name.startswith("data/")}


def _value(archive: Archive, members: dict[str, Member], sizes: dict[str, int], *, any_device: bool = False) -> Any:
    pickle = archive.read(members["data.pkl"], MAX_PICKLE_BYTES)
    stream = io.BytesIO(pickle)
    value = read_pickle(stream, sizes=sizes, any_device=any_device)
    if stream.tell() != len(pickle):
        raise Broken("a pickle does not end with its value")
    return value


def _pairs(container: Container) -> dict[Any, Any]:
    keys, values = container.entries[::2], container.entries[1::2]
    if len(keys) != len(values) or not all(isinstance(key, str) for key in keys):
        raise WeightsMismatch("The file holds no dict of named tensors.", remedy=STATE_DICT)
    return dict(zip(keys, values, strict=True))


def _tensors(value: Any) -> dict[str, PickledTensor]:
    if not isinstance(value, Container):
        raise WeightsMismatch("The file holds no dict of named tensors.", remedy=STATE_DICT)
    named = _pairs(value)
    for name, tensor in named.items():
        if not isinstance(tensor, PickledTensor):
            raise WeightsMismatch(f"The file holds {name[:80]!r}, which is not a tensor.", remedy=STATE_DICT)
    return named


def _walk(
    file: BinaryIO, size: int, position: int, keys: list[str], tensors: dict[str, PickledTensor]
) -> dict[str, int]:
    """Where each storage begins; they follow each other to the end of the file, as the tensors say."""
    storages: dict[str, Storage] = {}
    for tensor in tensors.values():
        if storages.setdefault(tensor.storage.key, tensor.storage) != tensor.storage:
            raise Broken("two tensors disagree about a storage")
    if sorted(storages) != sorted(keys):
        raise Broken("its list of storages is not that of its tensors")
    starts = {}
    for key in keys:
        file.seek(position)
        head = file.read(_COUNT.size)
        if len(head) < _COUNT.size or _COUNT.unpack(head)[0] != storages[key].elements:
            raise Broken("a pickled tensor's storage is missing or of another size")
        starts[key] = position + _COUNT.size
        position = starts[key] + storages[key].elements * ITEM_BYTES[_dtype("storage", storages[key])]
    if position != size:
        raise Broken("its storages end before or behind the file")
    return starts


def _stored(name: str, tensor: PickledTensor, starts: dict[str, int]) -> StoredTensor:
    dtype = _dtype(name, tensor.storage)
    start = starts[tensor.storage.key] + tensor.offset * ITEM_BYTES[dtype]
    return StoredTensor(dtype, tensor.shape, tensor.strides, start)


def _dtype(name: str, storage: Storage) -> DType:
    if storage.kind not in _DTYPES:
        raise UnsupportedType(f"Tensor {name[:80]!r} is of type {storage.kind}.", remedy="Save it as float32.")
    return _DTYPES[storage.kind]
