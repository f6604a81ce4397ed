"""Files of formats that are refused as a whole, whatever they are called."""

import gzip
import io
import pickle
import struct
from collections.abc import Iterator

import torch

from tests.support.hostile.archives import zipped
from tests.support.hostile.kinds import Hostile, model
from tests.support.hostile.payloads import Payloads
from tests.support.hostile.pt2_files import Linear, good_pt2, saved

FORMAT = frozenset({"model.unsupported_format"})


def files(payloads: Payloads) -> Iterator[Hostile]:
    for protocol in range(2, 6):
        content = pickle.dumps(payloads.call(f"pickle_{protocol}"), protocol)
        yield model(f"pickle_{protocol}", content, FORMAT)
    for protocol in (0, 1):
        content = pickle.dumps(payloads.call(f"pickle_{protocol}"), protocol)
        yield model(f"pickle_{protocol}", content, FORMAT | {"model.malformed"})
    yield model("pth_call", saved({"w": payloads.call("pth_call")}), FORMAT)
    yield model("pth_module", saved(Linear()), FORMAT)
    yield model("pth_weights", saved(Linear().state_dict()), FORMAT)
    legacy = io.BytesIO()
    torch.save({"w": torch.ones(4)}, legacy, _use_new_zipfile_serialization=False)
    yield model("pth_before_16", legacy.getvalue(), FORMAT)
    script = [("m/data.pkl", b"\x80\x02}."), ("m/code/__torch__.py", b"x"), ("m/constants.pkl", b"\x80\x02).")]
    yield model("torchscript", zipped(script), {"model.torchscript_rejected"})
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    yield model("safetensors", struct.pack("<Q", len(header)) + header + b"\0" * 4, FORMAT)
    yield model("safetensors_huge_header", struct.pack("<Q", 1 << 62) + header, FORMAT)
    yield model("safetensors_and_zip", struct.pack("<Q", len(header)) + header + b"\0" * 4 + good_pt2(), FORMAT)
    yield model("onnx_runtime_format", b"\x18\0\0\0ORTM" + b"\xff" * 64, FORMAT)
    yield model("tflite", b"\x1c\0\0\0TFL3" + b"\0" * 64, FORMAT)
    yield model("hdf5", b"\x89HDF\r\n\x1a\n" + b"\0" * 64, {"model.malformed"})
    yield model("tensorrt", b"ftrt" + b"\0" * 64, FORMAT)
    yield model("gzip_bomb", gzip.compress(b"\0" * 20_000_000), FORMAT)
    yield model("elf", b"\x7fELF" + b"\0" * 64, FORMAT)
    yield model("html", b"<html><script>alert(1)</script></html>", FORMAT)
    yield model("zip_of_nothing_known", zipped([("readme.txt", b"hello")]), FORMAT)
    yield model("empty_model", b"", {"upload.empty"})
    yield model("one_byte", b"\x08", {"model.malformed"})
