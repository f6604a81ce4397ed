"""What targets make of a model's operators: each asks its runtime's own registry, or makes a dry run."""

import time
from pathlib import Path

import torch

from app.spec.compatibility import Compatibilities, CompatibilityOrder
from worker.engine.data.rows import SCRATCH
from worker.engine.model import load_model
from worker.engine.onnx_graph.errors import ExportFailed
from worker.engine.onnx_import.errors import NotImported
from worker.engine.progress import Progress
from worker.engine.targets.support.base import Look, Tally, table
from worker.engine.targets.table import FORMATS


def find_out(order: CompatibilityOrder, directory: Path, progress: Progress) -> Compatibilities:
    """What the order's targets, of one format, make of its model. Raises what opening and exporting it raises."""
    started = time.monotonic()
    torch.set_num_threads(order.threads)
    scratch = directory / SCRATCH
    scratch.mkdir(exist_ok=True)
    progress.stage("opening the model", step=1, steps=2)
    model = load_model(order.model, directory, scratch, progress)  # whether it runs is the question
    look = Look(model, directory, scratch, order.threads, progress)
    progress.stage(f"asking {order.targets[0].kind()}", step=2, steps=2)
    try:
        tables = tuple(FORMATS[type(order.targets[0])].compatibility(order.targets, look))
    except (ExportFailed, NotImported) as error:  # of the form of the model that these targets see
        tables = tuple(table(target, Tally(), error.explanation) for target in order.targets)
    return Compatibilities(tables=tables, knowledge=order.knowledge, seconds=time.monotonic() - started)
