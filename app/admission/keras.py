"""Keras models: `.keras` (a zip of a description and HDF5 weights) and `.h5` (HDF5 with the description inside).

Keras makes objects of whatever classes a description names; those named here are layers of `keras_layers` and the
small objects that configure them. Nothing is loaded: a jailed toolchain does that (`worker/toolchains/keras.py`).
Formats: keras/src/saving/saving_lib.py, keras/src/legacy/saving/legacy_h5_format.py.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from app.admission.bounded_json import as_dict, as_text, loads, parse
from app.admission.errors import AdmissionError, Broken, UnsupportedModel, UnsupportedOperator, UnsupportedType
from app.admission.hdf5 import SUPERBLOCK_BYTES, Attributes, root_header
from app.admission.keras_graph import CONTAINERS, Network, read_network
from app.admission.keras_layers import LAYERS
from app.admission.zipped import Archive, Member
from app.spec.signature import Dimension, ModelInfo, Signature, TensorSpec

_OPERATIONS = re.compile(r"keras\.src\.ops(\.\w{1,40}){0,3}|keras\.ops", re.ASCII)
_LAYER_OF = {
    "Add": "Add",
    "Subtract": "Subtract",
    "Multiply": "Multiply",
    "Maximum": "Maximum",
    "Minimum": "Minimum",
    "Concatenate": "Concatenate",
    "Reshape": "Reshape",
    "Relu": "ReLU",
    "Softmax": "Softmax",
    "Matmul": "Dot",
}
"""Operators of keras.ops for which there is a layer."""


class CustomCode(AdmissionError):
    """The Keras model has code in it, or names classes and functions that are not Keras's own layers."""

    code = "model.custom_code"
    remedy = "Build the model of Keras's own layers, without Lambda and custom objects; or export it to ONNX."


CONFIG, WEIGHTS = "config.json", "model.weights.h5"
MEMBERS = frozenset({CONFIG, WEIGHTS, "metadata.json"})
FLOAT32_BYTES = 4
SAVE = "Save the whole model with Keras 3: model.save('model.keras')."
OWN_LAYERS = "Build the model of Keras's own layers; or send an ONNX file: model.export('model.onnx', format='onnx')."
_MODULES = frozenset(
    {
        "keras",
        "keras.layers",
        "keras.models",
        "keras.initializers",
        "keras.regularizers",
        "keras.constraints",
        "keras.dtype_policies",
        "keras.src.models.functional",
        "keras.src.engine.functional",
    }
)
_SETTINGS = frozenset(
    {
        "DTypePolicy",
        "Policy",
        "Zeros",
        "Ones",
        "Constant",
        "RandomNormal",
        "RandomUniform",
        "TruncatedNormal",
        "VarianceScaling",
        "GlorotNormal",
        "GlorotUniform",
        "HeNormal",
        "HeUniform",
        "LecunNormal",
        "LecunUniform",
        "Orthogonal",
        "Identity",
        "L1",
        "L2",
        "L1L2",
        "OrthogonalRegularizer",
        "MaxNorm",
        "NonNeg",
        "UnitNorm",
        "MinMaxNorm",
    }
)
_MARKS = frozenset({"__keras_tensor__", "__tuple__"})
_ALLOWED = LAYERS.keys() | CONTAINERS | _SETTINGS | _MARKS | {"InputLayer"}
_COMPILED = ("compile_config", "training_config")
"""How it was trained; it is loaded without."""
_ACTIVATION = re.compile(r"[a-z_0-9]{1,40}")


def is_keras(names: Mapping[str, Member]) -> bool:
    """Whether a zip with these members is a `.keras` file."""
    return {CONFIG, "metadata.json"} <= names.keys()


def read_keras(archive: Archive) -> ModelInfo:
    """Describe the model of a `.keras` file.

    Raises `Broken`, `Inflating`, and subclasses of `AdmissionError`: `CustomCode` above all.
    """
    names = archive.members
    if stray := sorted(names.keys() - MEMBERS):
        raise UnsupportedModel(f"The Keras file brings {stray[0][:80]!r}, which is not read.", remedy=SAVE)
    if WEIGHTS not in names:
        raise UnsupportedModel("The Keras file has no model.weights.h5.", remedy=SAVE)
    weights = names[WEIGHTS]
    head = b""
    for piece in archive.chunks(weights):  # to the end: so its length and checksum are compared
        head = head or piece[:SUPERBLOCK_BYTES]
    root_header(head, weights.size)
    return _described(as_dict(parse(archive, names[CONFIG])), weights.size)


def read_h5(file: BinaryIO, size: int) -> ModelInfo:
    """Describe the model of an `.h5` file. Raises what `read_keras` raises."""
    text = Attributes(file, size).text("model_config")
    if text is None:
        raise UnsupportedModel("The HDF5 file holds no Keras model: weights alone have no graph.", remedy=SAVE)
    return _described(as_dict(loads(text)), size)


def _described(config: dict[str, Any], weights_bytes: int) -> ModelInfo:
    """The model of a description that names nothing but what is known, whose weights are in so many bytes."""
    _require_harmless({name: value for name, value in config.items() if name not in _COMPILED})
    network = read_network(config)
    if network.parameters * FLOAT32_BYTES > weights_bytes:
        raise Broken(f"its layers have {network.parameters} weights, for which its file is too short")
    return ModelInfo(
        format="keras",
        signature=_signature(network),
        parameters=network.parameters,
        nodes=len(network.layers),
        operators={f"keras.{name}": count for name, count in Counter(network.layers).most_common()},
        warnings=tuple(_warnings(network)),
    )


def _require_harmless(config: dict[str, Any]) -> None:
    """Look at everything that Keras would make an object of."""
    waiting: list[Any] = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            _require_known(value)
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def _require_known(value: dict[str, Any]) -> None:
    if "class_name" in value:
        name = as_text(value["class_name"])
        module, registered = (_optional_text(value, key) for key in ("module", "registered_name"))
        if name == "Lambda" or name.startswith("__lambda"):
            raise CustomCode("The model has a Lambda layer, which is Python code.")
        if module is not None and _OPERATIONS.fullmatch(as_text(module)):
            raise _operator_refused(name)
        if registered not in {None, name} or (module is not None and module not in _MODULES):
            what = registered if module in _MODULES else f"{module}.{name}"
            raise CustomCode(f"The model names {_shown(what)}, which is not one of Keras's own layers.")
        if name not in _ALLOWED:
            detail = f"The model has {_shown(name)}, which is not among the layers of Keras that are read."
            raise UnsupportedOperator(detail, remedy=OWN_LAYERS)
        if name in {"DTypePolicy", "Policy"}:
            _require_float32(as_dict(value.get("config")).get("name"))
    elif "module" in value or "registered_name" in value:
        raise CustomCode("The model names a module without a class.")
    for setting in ("activation", "recurrent_activation"):
        chosen = value.get(setting)
        if chosen is not None and not (isinstance(chosen, str) and _ACTIVATION.fullmatch(chosen)):
            raise CustomCode(f"The model has an {setting} that is not one of Keras's own.")


def _optional_text(value: dict[str, Any], key: str) -> str | None:
    return None if value.get(key) is None else as_text(value[key])


def _operator_refused(name: str) -> UnsupportedOperator:
    """Keras stores `x + y`, slices and masks as operators of keras.ops: no layers, but no custom code either."""
    if name == "NotEqual":
        return UnsupportedOperator(
            "The model compares its input with a number (NotEqual), as Embedding(mask_zero=True) does for its mask.",
            remedy="Build the Embedding without mask_zero, pad to one length and put a Masking layer behind it; or "
            "export the model to ONNX.",
        )
    layer = f"the layer {_LAYER_OF[name]}" if name in _LAYER_OF else "layers of Keras"
    return UnsupportedOperator(
        f"The model uses the operator {_shown(name)} of keras.ops, as expressions such as x + y do.",
        remedy=f"Use {layer} in its place, and save the model again; or export it to ONNX.",
    )


def _require_float32(policy: object) -> None:
    if policy != "float32":
        raise UnsupportedType(
            f"The model computes with the dtype policy {_shown(policy)}.",
            remedy="Set keras.config.set_dtype_policy('float32'), build the model again and load its weights.",
        )


def _shown(value: object) -> str:
    return ascii(str(value)[:80])


def _signature(network: Network) -> Signature:
    return Signature(
        inputs=tuple(
            TensorSpec(name=name, dtype=network.types[name], shape=tuple(_axes(name, shape)))
            for name, shape in network.inputs.items()
        ),
        outputs=tuple(
            TensorSpec(name=name, dtype="float32", shape=tuple(_axes(name, shape)))
            for name, shape in network.outputs.items()
        ),
    )


def _axes(name: str, shape: tuple[int | None, ...]) -> Iterator[int | Dimension]:
    for axis, size in enumerate(shape):
        if size is not None:
            yield size
        else:
            yield Dimension(name="batch", min=1) if axis == 0 else Dimension(name=f"{name}_{axis}", min=1)


def _warnings(network: Network) -> Iterator[str]:
    if any(name.startswith(("Dropout", "SpatialDropout", "Gaussian")) for name in network.layers):
        yield "Dropout and noise layers are left out: steps that train the model train it without them."
