"""The smallest real job: a CNN on scikit-learn's 8x8 digits, as the files that Pare takes.

    python examples/digits.py folder

writes digits.onnx, digits.pt2 and digits.npz. Training takes a few seconds on one CPU core.
"""

import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

EPOCHS = 12
BATCH = 64
TRAIN_ROWS = 1000
"""The rest of the 1,797 rows is for calibration and test; the network has never seen it."""


def digits_cnn(seed: int = 0, width: int = 32) -> nn.Module:
    """The network, fresh: float images [rows, 1, 8, 8] in 0..1 to logits [rows, 10]; `width`: its first channels."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(2 * width, 4 * width, 3, padding=1),
        nn.BatchNorm2d(4 * width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * width, 4 * width),
        nn.ReLU(),
        nn.Linear(4 * width, 10),
    )


def train_digits_cnn(seed: int = 0) -> nn.Module:
    """The network, trained, in eval mode."""
    return trained(digits_cnn(seed))


def trained(model: nn.Module) -> nn.Module:
    """A network that takes digits and gives logits, trained on the first thousand, in eval mode."""
    images, labels = _training_rows()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    batches = (len(images) + BATCH - 1) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=EPOCHS * batches)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(images)).split(BATCH):
            loss = nn.functional.cross_entropy(model(images[rows]), labels[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def all_digits() -> tuple[np.ndarray, np.ndarray]:
    """All 1,797 images as bytes, [rows, 1, 8, 8], and their labels, shuffled once."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = (digits.images[order] * (255 / 16)).round().astype(np.uint8)
    return images[:, None], digits.target[order].astype(np.int64)


def _training_rows() -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = all_digits()
    return torch.from_numpy(images[:TRAIN_ROWS]).float() / 255, torch.from_numpy(labels[:TRAIN_ROWS])


def _program(model: nn.Module) -> torch.export.ExportedProgram:
    """The model with a batch dimension that may vary. The example has 2 rows: 1 would be taken for a constant."""
    return torch.export.export(
        model, (torch.zeros(2, 1, 8, 8),), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},)
    )


def export_onnx(model: nn.Module, path: Path) -> None:
    """Write the model as ONNX, input `image`, output `logits`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter uses what torch itself has deprecated
        exported = torch.onnx.export(
            _program(model),
            dynamo=True,
            opset_version=20,
            input_names=["image"],
            output_names=["logits"],
            verbose=False,
            external_data=False,
        )
        exported.save(path)


def export_pt2(model: nn.Module, path: Path) -> None:
    """Write the model as a torch.export program."""
    torch.export.save(_program(model), path)


def save_dataset(path: Path, name: str = "image") -> None:
    """Write the rows the network was not trained on: bytes under the model's input name, and labels `y`."""
    images, labels = all_digits()
    np.savez(path, **{name: images[TRAIN_ROWS:], "y": labels[TRAIN_ROWS:]})


def write(folder: Path) -> None:
    """Train the network and write digits.onnx, digits.pt2 and digits.npz."""
    model = train_digits_cnn()
    export_onnx(model, folder / "digits.onnx")
    export_pt2(model, folder / "digits.pt2")
    save_dataset(folder / "digits.npz")


def main() -> None:
    """Write the three files into the folder given."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # more threads are slower on a network this small
    write(folder)
    print(f"wrote digits.onnx, digits.pt2 and digits.npz to {folder}")


if __name__ == "__main__":
    main()
