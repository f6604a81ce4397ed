"""What a file is, by its content. Names and extensions are the uploader's claim and are never looked at."""

from typing import BinaryIO, Literal

Kind = Literal[
    "empty",
    "zip",
    "tar",
    "compressed",
    "pickle",
    "ort",
    "tflite",
    "hdf5",
    "npy",
    "safetensors",
    "pth",
    "tensorrt",
    "image",
    "parquet",
    "onnx",
    "unknown",
]

HEAD_BYTES = 512
_MAGIC: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"PK\x03\x04", "zip"),
    (0, b"PK\x05\x06", "zip"),
    (257, b"ustar", "tar"),
    (4, b"ORTM", "ort"),
    (4, b"TFL3", "tflite"),
    (0, b"\x89HDF\r\n\x1a\n", "hdf5"),
    (0, b"\x93NUMPY", "npy"),
    (0, b"ftrt", "tensorrt"),
    (0, b"PAR1", "parquet"),
    (0, b"\x1f\x8b", "compressed"),
    (0, b"BZh", "compressed"),
    (0, b"\xfd7zXZ\x00", "compressed"),
    (0, b"\x28\xb5\x2f\xfd", "compressed"),
    (0, b"\x89PNG\r\n", "image"),
    (0, b"\xff\xd8\xff", "image"),
)
LEGACY_PTH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""What torch.save wrote first before torch 1.6: the number 0x1950a86a20f9469cfc6c, pickled."""
_MODEL_PROTO_TAGS = frozenset({0x08, 0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42, 0x72})
"""First byte of a serialized ModelProto: the tag of one of its fields (onnx.proto)."""


def sniff(file: BinaryIO) -> Kind:
    """The kind of `file`, from its first bytes; the position is left at the start."""
    file.seek(0)
    head = file.read(HEAD_BYTES)
    file.seek(0)
    if not head:
        return "empty"
    for offset, magic, kind in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return kind
    if head.startswith(LEGACY_PTH):
        return "pth"
    if head[0] == 0x80 and len(head) > 1 and 1 < head[1] < 6:  # PROTO 2 to 5
        return "pickle"
    if len(head) > 8 and head[8:9] == b"{" and (head[7] < 0x80) and head[9:10] in b'"} \n\t\r':
        return "safetensors"
    return "onnx" if head[0] in _MODEL_PROTO_TAGS else "unknown"
