"""Makes Keras models, run by the Python of the toolchain `keras`: a digits network, and one for each kind of layer.

`python keras_models.py FOLDER`: reads `train.npz` (x, channels last; y) there, and writes what the tests read.
"""

import json
import os
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import h5py
import keras
import numpy as np
from keras import layers

IMAGE, ROWS = (12, 10, 4), (6, 5)


def digits(x: np.ndarray, y: np.ndarray) -> keras.Model:
    """A network for digits, as a beginner writes it."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input(x.shape[1:], name="image"),
            layers.Conv2D(16, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.1),
            layers.Dense(10, name="scores"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.fit(x, y, batch_size=64, epochs=8, verbose=0)
    return model


def zoo() -> dict[str, tuple[tuple[int, ...], list[keras.layers.Layer]]]:
    """Chains of layers by name, with the shape of a row."""
    return {
        "convolutions": (
            IMAGE,
            [
                layers.Conv2D(6, (3, 2), strides=2, padding="same"),
                layers.Conv2D(4, 3, dilation_rate=2, groups=2),
            ],
        ),
        "depthwise": (
            IMAGE,
            [
                layers.ZeroPadding2D(((0, 1), (2, 1))),
                layers.DepthwiseConv2D(3, strides=2),
                layers.SeparableConv2D(8, 3),
            ],
        ),
        "transposed": (
            IMAGE,
            [
                layers.Conv2DTranspose(3, 3, strides=2, padding="same"),
                layers.Conv2DTranspose(3, 4, strides=2),
            ],
        ),
        "pooling": (
            IMAGE,
            [
                layers.MaxPooling2D(3, strides=2),
                layers.AveragePooling2D(2, padding="same"),
                layers.GlobalMaxPooling2D(),
            ],
        ),
        "sizes": (
            IMAGE,
            [
                layers.UpSampling2D(2),
                layers.Cropping2D((1, 2)),
                layers.GlobalAveragePooling2D(keepdims=True),
                layers.Flatten(),
            ],
        ),
        "normalized": (
            IMAGE,
            [
                layers.BatchNormalization(scale=False),
                layers.LayerNormalization(),
                layers.GroupNormalization(2),
            ],
        ),
        "shapes": (
            IMAGE,
            [
                layers.Permute((3, 1, 2)),
                layers.Reshape((8, -1)),
                layers.Dense(3),
                layers.Flatten(),
                layers.RepeatVector(3),
            ],
        ),
        "sequence": (
            ROWS,
            [
                layers.Conv1D(4, 3),
                layers.MaxPooling1D(2),
                layers.LSTM(8, return_sequences=True),
                layers.GRU(5),
                layers.Dense(2),
            ],
        ),
        "plain_rnn": (
            ROWS,
            [
                layers.SimpleRNN(4),
                layers.LeakyReLU(),
                layers.ELU(),
                layers.Activation("gelu"),
                layers.Softmax(),
            ],
        ),
    }


def functional() -> keras.Model:
    """Two inputs, a model inside that is called twice, layers that merge."""
    inner_in = keras.Input(IMAGE)
    inner = keras.Model(inner_in, layers.Conv2D(5, 1, activation="silu")(inner_in), name="inner")
    left, right = keras.Input(IMAGE, name="left"), keras.Input(IMAGE, name="right")
    a, b = inner(left), inner(right)
    merged = layers.Concatenate()([layers.Add()([a, b]), layers.Multiply()([a, b]), layers.Maximum()([a, b])])
    pooled = layers.GlobalAveragePooling2D()(merged)
    return keras.Model([left, right], [layers.Dense(3, name="kind")(pooled), layers.Dense(1, name="size")(pooled)])


def main(folder: Path) -> None:
    """Write everything."""
    train = np.load(folder / "train.npz")
    model = digits(train["x"], train["y"])
    model.save(folder / "digits.keras")
    model.save(folder / "digits.h5")
    np.save(folder / "expected.npy", model.predict(train["x"][:50], verbose=0))
    with h5py.File(folder / "secret.h5", "w") as secret:
        secret["kernel"] = np.zeros((3, 3, 1, 16), np.float32)
    (folder / "linked.h5").write_bytes((folder / "digits.h5").read_bytes())
    with h5py.File(folder / "linked.h5", "a") as linked:
        names: list[str] = []
        linked.visit(names.append)
        kernel = next(name for name in names if name.endswith("conv2d/kernel"))
        del linked[kernel]
        linked[kernel] = h5py.ExternalLink("/etc/passwd", "/kernel")
    facts = {}
    models = {name: keras.Sequential([keras.Input(row), *chain]) for name, (row, chain) in zoo().items()}
    for name, made in (models | {"functional": functional()}).items():
        made.save(folder / f"{name}.keras")
        made.save(folder / f"{name}.h5")
        outputs = [list(output.shape[1:]) for output in made.outputs]
        facts[name] = {"outputs": outputs, "parameters": made.count_params()}
    (folder / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
