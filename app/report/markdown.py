"""A report as Markdown, complete: for a pull request, a wiki, a model card."""

from collections.abc import Iterable, Iterator

from app.report import devices, figures
from app.report.svg import severity
from app.report.text import markdown
from app.report.words import GRAPHS, HEADLINES, HOW_TO_READ, STATUSES, VERDICTS
from app.spec.report import Chart, Machine, Report, Table, TargetFailure, TargetReport
from app.spec.units import file_size


def render_markdown(report: Report) -> str:
    """The same story as the page; texts from outside cannot become markup."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield f"# {markdown(report.name)}: {VERDICTS[report.verdict]}"
    yield ""
    yield HEADLINES[report.verdict]
    for target in report.targets:
        yield from _target(target)
    yield from _section("Devices", _devices(report)) if devices.rows(report) else ()
    yield from _section("Not delivered", map(_failure, report.failures)) if report.failures else ()
    yield from _section("Notes", _bullets(report.notes)) if report.notes else ()
    yield from _section("Steps", _steps(report))
    yield from _section("Model", _model(report))
    yield from _section("Machine", _machine(report.machine))
    yield from _section("How to read this", (f"- **{term}**: {meaning}" for term, meaning in HOW_TO_READ.items()))


def _devices(report: Report) -> Iterator[str]:
    yield from _table(devices.COLUMNS, devices.ALIGNMENT, devices.rows(report))
    yield from ("", *_bullets(devices.lines(report)))


def _failure(failure: TargetFailure) -> str:
    reason = markdown(failure.explanation)
    return f"- **{failure.target.title}** (`{failure.code}`): {reason}"


def _target(target: TargetReport) -> Iterator[str]:
    yield from ("", f"## {markdown(figures.title(target))}: {VERDICTS[target.verdict]}", "")
    yield from (f"`{markdown(target.artifact)}`, on {markdown(target.runtime)}", "")
    if status := STATUSES[target.status]:
        yield from (f"Status: **{markdown(status)}**", "")
    yield from _bullets(target.reasons)
    yield ""
    yield from _table(
        ("", "Before", "After", "Change", "Certainty (95 %)", "Source"),
        "lrrlll",
        (
            (row.figure, row.before, row.after, row.change, row.certainty, row.provenance)
            for row in figures.rows(target)
        ),
    )
    if target.parity:
        yield from ("", f"### Outputs against the original ({target.parity_data} rows)", "")
        yield from _table(
            ("Output", "Signal to noise", "Same answer", "Cosine", "Max abs", "Not finite", "Rows", "Source"),
            "lrrrrrrl",
            (
                (
                    output.output,
                    figures.decibels(output.sqnr_db),
                    figures.agreement(output),
                    f"{output.cosine:.6f}",
                    f"{output.max_abs:.3g}",
                    str(output.non_finite),
                    str(output.rows),
                    output.provenance,
                )
                for output in target.parity
            ),
        )
    yield from ("", "### Placement", "")
    kernels = (
        f"{target.placement.integer} compute nodes run on integer kernels, {target.placement.floating} in floating "
        "point. "
    )
    if target.status == "converted":  # which kernels, is decided where it runs
        kernels = ""
    yield f"{kernels}{GRAPHS[target.status]}: {markdown(figures.operators(target.placement))}."
    if target.placement.fallback:
        yield from ("", f"Left to slower kernels: {markdown(figures.left(target.placement))}.")
    if target.profile is not None:
        yield from ("", "### Where the time goes", "", figures.profiled(target.profile), "")
        yield from _table(
            ("Operator", "Runs on", "Time", "Share"),
            "llrr",
            (
                (layer.name, layer.engine, f"{layer.microseconds:,.1f} µs", f"{share:.0%}")
                for layer, share in figures.slowest(target.profile)
            ),
        )
    if target.layers:
        yield from ("", "### Error per layer", "")
        yield from _table(
            ("", "Layer", "Operator", "Signal to noise", ""),
            "rllrl",
            (
                (str(index), layer.name, layer.operator, figures.decibels(layer.sqnr_db), severity(layer))
                for index, layer in enumerate(target.layers, 1)
            ),
        )
    if target.notes:
        yield from ("", *_bullets(target.notes))
    yield from ("", f"Artifact: {markdown(target.artifact)}, SHA-256 `{target.sha256}`")
    for change in target.latency:
        yield ""
        yield (
            f"Latency at batch {change.batch}: {change.threads} {'thread' if change.threads == 1 else 'threads'}; "
            f"load average {figures.load(change)}."
        )


def _model(report: Report) -> Iterator[str]:
    model = report.model
    yield f"- {model.format}, {file_size(model.bytes)}, {model.parameters:,} parameters, {model.nodes:,} nodes"
    yield f"- Model SHA-256 `{model.sha256}`"
    yield f"- Recipe SHA-256 `{report.recipe_sha256}`, seed {report.seed}"
    yield f"- Job {markdown(report.job)}, {report.seconds:.1f} s"


def _machine(machine: Machine) -> Iterator[str]:
    memory = file_size(machine.memory_bytes)
    yield f"- {markdown(machine.cpu)}, {machine.cores} cores, {memory} memory, {machine.device}"
    yield f"- Instruction sets: {markdown(', '.join(machine.cpu_flags)) or 'unknown'}"
    yield f"- {markdown(machine.system)}"
    yield f"- {markdown(', '.join(f'{name} {version}' for name, version in machine.versions.items()))}"


def _steps(report: Report) -> Iterator[str]:
    steps = report.steps
    if not steps:
        yield figures.no_steps(report)
    for index, step in enumerate(steps, 1):
        facts = "; ".join(figures.fact(name, value) for name, value in step.facts.items())
        summary = f"{step.summary} ({facts})" if facts else step.summary
        yield f"{index}. `{markdown(step.type)}`, {step.seconds:.1f} s: {markdown(summary)}"
    for index, step in enumerate(steps, 1):
        if step.notes:
            yield from ("", *_bullets(f"Step {index}: {note}" for note in step.notes))
        for table in (*step.tables, *(_charted(chart) for chart in step.charts)):
            yield from ("", f"### Step {index}: {markdown(table.title)}", "")
            cells = (tuple(figures.cell(entry) for entry in row) for row in table.rows)
            yield from _table(tuple(map(markdown, table.columns)), "".join(figures.columns(table)), cells)


def _charted(chart: Chart) -> Table:
    """A chart's values as a table: Markdown has no pictures."""
    return Table(
        title=chart.title,
        columns=(chart.x_label, *(series.name for series in chart.series)),
        rows=tuple(zip(chart.x, *(series.values for series in chart.series), strict=True)),
    )


def _section(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield from ("", f"## {title}", "")
    yield from lines


def _bullets(sentences: Iterable[str]) -> Iterator[str]:
    return (f"- {markdown(sentence)}" for sentence in sentences)


def _table(header: tuple[str, ...], alignment: str, rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """A pipe table; `alignment` has l or r for each column."""
    yield f"| {' | '.join(header)} |"
    yield f"| {' | '.join('---:' if side == 'r' else ':---' for side in alignment)} |"
    for row in rows:
        yield f"| {' | '.join(markdown(cell) for cell in row)} |"
