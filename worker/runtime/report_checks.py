"""What a job's process reports is held against what its parent knows, and shown once, before anybody else sees it."""

from app.report import render_html, render_markdown, render_table
from app.spec.report import Report
from app.spec.work import WorkOrder
from worker.runtime.errors import Crashed


def require_own_report(report: Report, order: WorkOrder) -> None:
    """Raise `Crashed` unless the report is about this job, this recipe and this model, and can be shown.

    The process ran code of strangers' files: what it measured cannot be checked, what it was given can.
    """
    model = order.model
    known = {
        "job": (report.job, order.job),
        "name": (report.name, order.spec.name),
        "recipe": (report.recipe_sha256, order.spec.recipe_sha256),
        "seed": (report.seed, order.spec.seed),
        "model's format": (report.model.format, model.info.format),
        "model's digest": (report.model.sha256, model.sha256),
        "model's size": (report.model.bytes, model.bytes),
        "number of parameters": (report.model.parameters, model.info.parameters),
        "number of nodes": (report.model.nodes, model.info.nodes),
    }
    for what, (reported, given) in known.items():
        if reported != given:
            raise Crashed(f"The job's process reports another {what} than it was given.")
    _require_renderable(report)


def _require_renderable(report: Report) -> None:
    try:
        for render in (render_html, render_markdown, render_table):
            render(report)
    except Exception as error:
        # Figures within their types may still have no ratio or no date: whoever asked for the report would meet it.
        raise Crashed(f"The job's process reports figures that cannot be shown ({type(error).__name__}).") from error
