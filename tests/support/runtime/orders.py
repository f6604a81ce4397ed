"""The smallest work order and the smallest result: what else they say does not matter to the runtime."""

from pathlib import Path

from app.spec.evaluate import Evaluate
from app.spec.job import JobSpec
from app.spec.report import Machine, ModelSummary, Report
from app.spec.signature import ModelInfo, Signature
from app.spec.work import ArtifactFile, ModelFile, WorkOrder, WorkResult


def order(threads: int = 1) -> WorkOrder:
    return WorkOrder(
        job="job_" + "0" * 32,
        attempt=1,
        spec=JobSpec(model="mdl_" + "0" * 32, evaluate=Evaluate()),
        model=ModelFile(
            path="model.onnx",
            sha256="0" * 64,
            bytes=1,
            info=ModelInfo(
                format="onnx", signature=Signature(inputs=(), outputs=()), parameters=0, nodes=0, operators={}
            ),
        ),
        data={},
        threads=threads,
    )


def result(work: WorkOrder, *files: str, notes: tuple[str, ...] = ()) -> WorkResult:
    """The result of an order: about its own job, recipe and model, which the parent compares."""
    given = work.model
    report = Report(
        name=work.spec.name,
        job=work.job,
        recipe_sha256=work.spec.recipe_sha256,
        seed=work.spec.seed,
        verdict="unchanged",
        model=ModelSummary(
            format=given.info.format,
            sha256=given.sha256,
            bytes=given.bytes,
            parameters=given.info.parameters,
            nodes=given.info.nodes,
        ),
        machine=Machine(cpu="", cpu_flags=(), cores=1, memory_bytes=1, system="", versions={}),
        steps=(),
        targets=(),
        notes=notes,
        seconds=0.0,
    )
    artifacts = tuple(ArtifactFile(file=file, kind="data", media_type="text/plain") for file in files)
    return WorkResult(report=report, artifacts=artifacts)


def prepare(directory: Path, threads: int = 1) -> Path:
    directory.mkdir(parents=True)
    (directory / "order.json").write_text(order(threads).model_dump_json())
    return directory
