"""Keras files that carry code, classes of their own, weights elsewhere, or descriptions that contradict themselves."""

import copy
import json
import struct
import zipfile
from collections.abc import Iterator
from typing import Any

from tests.support.hostile.archives import zipped
from tests.support.hostile.kinds import Hostile, model

MALFORMED, CODE = frozenset({"model.malformed"}), frozenset({"model.custom_code"})
SUPERBLOCK = 96


def layer(kind: str, name: str, module: str = "keras.layers", **config: Any) -> dict[str, Any]:
    """A layer as Keras 3 describes it."""
    return {"module": module, "class_name": kind, "config": {"name": name, **config}, "registered_name": None}


def described(*layers: dict[str, Any]) -> dict[str, Any]:
    """A sequential model for rows of four numbers."""
    given = layer("InputLayer", "rows", batch_shape=[None, 4], dtype="float32")
    return layer("Sequential", "model", "keras", layers=[given, *layers])


DENSE = layer("Dense", "scores", units=2, activation="softmax")


def hdf5(attributes: dict[str, bytes], *, variable: bool = False, tail: bytes = b"\0" * 64) -> bytes:
    """An HDF5 file with text attributes at its root, as h5py lays them out."""
    heap, messages = b"", b""
    header = SUPERBLOCK + 16
    around = 8 + 8 + 8 + 8 + 16  # of a variable attribute: message, attribute, datatype, dataspace, reference
    heap_at = header + sum(around + (len(name) + 8) // 8 * 8 for name in attributes)
    for number, (name, text) in enumerate(attributes.items(), 1):
        label = name.encode().ljust((len(name) + 8) // 8 * 8, b"\0")
        datatype = struct.pack("<B3xI", 0x19 if variable else 0x13, 16 if variable else len(text))
        padded = text.ljust(-(-len(text) // 8) * 8, b"\0")
        value = struct.pack("<IQI", len(text), heap_at, number) if variable else padded
        space = struct.pack("<BBB5x", 1, 0, 0)
        body = struct.pack("<BxHHH", 1, len(name) + 1, len(datatype), len(space)) + label + datatype + space + value
        messages += struct.pack("<HHB3x", 12, len(body), 0) + body
        heap += struct.pack("<HH4xQ", number, 1, len(text)) + padded if variable else b""
    root = struct.pack("<BxHII4x", 1, len(attributes), 1, len(messages)) + messages
    collected = b"GCOL\x01\0\0\0" + struct.pack("<Q", 16 + len(heap)) + heap if variable else b""
    assert not variable or SUPERBLOCK + len(root) == heap_at
    rest = root + collected + tail
    head = b"\x89HDF\r\n\x1a\n" + bytes([0, 0, 0, 0, 0, 8, 8, 0]) + struct.pack("<HHI", 4, 16, 0)
    end = SUPERBLOCK + len(rest)
    return head + struct.pack("<4Q2Q", 0, 2**64 - 1, end, 2**64 - 1, 0, SUPERBLOCK) + b"\0" * 24 + rest


def keras_file(config: Any, *more: tuple[str, bytes], weights: bytes | None = None, deflate: bool = False) -> bytes:
    """A `.keras` file."""
    members = [("metadata.json", b'{"keras_version": "3.15.1"}'), ("config.json", json.dumps(config).encode())]
    members.append(("model.weights.h5", hdf5({}, tail=b"\0" * 4096) if weights is None else weights))
    return zipped([*members, *more], zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED)


def h5_file(config: Any) -> bytes:
    """An `.h5` file."""
    return hdf5({"model_config": json.dumps(config).encode()}, variable=True, tail=b"\0" * 4096)


def _spliced(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(DENSE), **changes}


def _configured(**changes: Any) -> dict[str, Any]:
    made = copy.deepcopy(DENSE)
    made["config"].update(changes)
    return made


def _smuggling() -> Iterator[tuple[str, dict[str, Any]]]:
    """Layers that would have Keras import, call or fetch something."""
    code = {"class_name": "__lambda__", "config": {"value": "4wEAAAAAAAAAAAAAAAAAAAAAAAAA"}}
    fetch = {"module": "keras.utils", "class_name": "function", "config": "get_file", "registered_name": "get_file"}
    yield "lambda", layer("Lambda", "run", function=code)
    yield "lambda_inside", _configured(activation=code)
    yield "custom_module", _spliced(module="os", class_name="system")
    yield "builtins", _spliced(module="builtins", class_name="exec")
    yield "get_file", _configured(activation=fetch)
    yield "get_file_initializer", _configured(kernel_initializer=fetch)
    yield "registered", _spliced(registered_name="package>Dense")
    yield "private_module", _spliced(module="keras.src.saving.saving_lib", class_name="load_model")
    yield "module_alone", _configured(kernel_regularizer={"module": "subprocess", "config": {}})
    yield "activation_name", _configured(activation="keras.utils.get_file")
    wrapped = layer("TimeDistributed", "each", layer=layer("Lambda", "run", function=code))
    yield "lambda_wrapped", wrapped
    yield "lambda_in_model", layer("Sequential", "inner", "keras", layers=[layer("Lambda", "run", function=code)])


def files() -> Iterator[Hostile]:
    yield model("keras_good", keras_file(described(DENSE)), {"ok"})
    yield model("keras_good_h5", h5_file(described(DENSE)), {"ok"})
    for name, smuggler in _smuggling():
        for form, write in (("zip", keras_file), ("h5", h5_file)):
            yield model(f"keras_{name}_{form}", write(described(smuggler)), CODE | {"model.unsupported_op"})
    for kind in ("TextVectorization", "StringLookup", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "RNN"):
        yield model(
            f"keras_{kind}", keras_file(described(layer(kind, "x", filename="/etc/passwd"))), {"model.unsupported_op"}
        )
    yield model("keras_traversal", keras_file(described(DENSE), ("../../evil", b"x")), {"archive.unsafe_member"})
    yield model(
        "keras_assets", keras_file(described(DENSE), ("assets/vocabulary.txt", b"x")), {"model.unsupported_format"}
    )
    bomb = hdf5({}, tail=b"\0" * (300 << 20))
    yield model("keras_bomb", keras_file(described(DENSE), weights=bomb, deflate=True), {"model.decompression_bomb"})
    yield model("keras_not_hdf5", keras_file(described(DENSE), weights=b"\0" * 4096), MALFORMED)
    yield model("keras_truncated_weights", keras_file(described(DENSE), weights=hdf5({})[:-8]), MALFORMED)
    yield model("keras_fewer_weights", keras_file(described(_configured(units=1 << 20))), MALFORMED)
    yield model("keras_huge_tensor", keras_file(described(_configured(units=1 << 30))), {"model.too_large"})
    yield model("keras_negative", keras_file(described(_configured(units=-1))), MALFORMED)
    yield model("keras_not_an_object", keras_file([1]), MALFORMED)
    yield model(
        "keras_half",
        keras_file(described(_configured(dtype=layer("DTypePolicy", "mixed_float16", "keras")))),
        {"model.unsupported_type"},
    )
    yield model("keras_nested", keras_file(_nested(30)), {"model.too_complex"})
    yield model("keras_doubled", keras_file(_doubled(18)), {"model.too_complex"})
    yield model("keras_h5_weights_only", hdf5({"keras_version": b"3.15.1"}), {"model.unsupported_format"})
    yield model("keras_h5_not_json", hdf5({"model_config": b"{"}), MALFORMED)
    good = h5_file(described(DENSE))
    for place, value in ((40, 2**63), (64, 2**64 - 8), (104, 2**32 - 1)):
        yield model(
            f"keras_h5_address_{place}",
            good[:place] + struct.pack("<Q", value) + good[place + 8 :],
            MALFORMED | {"model.too_complex"},
        )


def _nested(depth: int) -> dict[str, Any]:
    inner = DENSE
    for number in range(depth):
        inner = {**described(inner), "config": {**described(inner)["config"], "name": f"inner_{number}"}}
    return inner


def _doubled(depth: int) -> dict[str, Any]:
    """Each model calls the next one twice."""
    inner = described(layer("ReLU", "same"))
    for _ in range(depth):
        inner = _twice(inner)
    return inner


def _twice(inner: dict[str, Any]) -> dict[str, Any]:
    def value(name: str, call: int = 0) -> dict[str, Any]:
        return {"class_name": "__keras_tensor__", "config": {"shape": [None, 4], "keras_history": [name, call, 0]}}

    nodes = [{"args": [value("rows")], "kwargs": {}}, {"args": [value("inner")], "kwargs": {}}]
    given = {**layer("InputLayer", "rows", batch_shape=[None, 4], dtype="float32"), "name": "rows", "inbound_nodes": []}
    called = {**inner, "name": "inner", "inbound_nodes": nodes}
    return layer(
        "Functional",
        "twice",
        "keras.src.models.functional",
        layers=[given, called],
        input_layers=[["rows", 0, 0]],
        output_layers=[["inner", 1, 0]],
    )
