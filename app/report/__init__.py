"""A report as HTML, Markdown and a table for terminals. Needs neither torch nor onnx."""

from app.report.html import render_html
from app.report.markdown import render_markdown
from app.report.table import render_table

__all__ = ["render_html", "render_markdown", "render_table"]
