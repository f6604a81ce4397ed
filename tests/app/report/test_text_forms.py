"""Markdown and the terminal's table."""

import re

import pytest

from app.report import render_html, render_markdown, render_table
from app.report.figures import rows
from app.report.text import markdown, one_line, shortened
from app.report.words import STATUSES
from app.spec.figures import MetricChange
from app.spec.report import LayerError, OutputParity, Size, TargetStatus
from tests.support.reports import latency, report, target

HOSTILE = "a|b\n# c <b>d</b> [x](http://e) `f` *g* _h_ \x1b[31m www.i.com $j$"


def hostile_markdown() -> str:
    return render_markdown(
        report(
            name=HOSTILE,
            targets=(
                target(
                    reasons=(HOSTILE,),
                    layers=(LayerError(name=HOSTILE, operator="Conv", sqnr_db=1.0),),
                    parity=(OutputParity(output=HOSTILE, rows=1, sqnr_db=1.0, cosine=1, max_abs=0),),
                ),
            ),
        )
    )


def cells(line: str) -> list[str]:
    return re.split(r"(?<!\\)\|", line)[1:-1]


def test_markdown_is_complete() -> None:
    text = render_markdown(report())

    assert text.startswith("# edge build 12: Improved\n")
    for figure in (
        "44.7 MB",
        "97.6 %",
        "31.2 dB",
        "0.999630",
        "20 QLinearConv",
        "11,689,512",
        "quantize.static",
        "8481C",
        "avx512\\_vnni",
        "onnxruntime 1.31.1",
        "measured",
        "load average 0.41",
        "/layer7/block.0/conv",
        "## How to read this",
    ):
        assert figure in text, figure


def test_markdown_tables_have_equal_rows() -> None:
    for text in (render_markdown(report()), hostile_markdown()):
        table: list[int] = []
        for line in [*text.splitlines(), ""]:
            if line.startswith("|"):
                table.append(len(cells(line)))
            else:
                assert len(set(table)) <= 1
                table = []


def test_names_cannot_become_markup() -> None:
    text = hostile_markdown()

    assert "\x1b" not in text
    assert not re.search(r"^# c", text, re.MULTILINE)
    assert not re.search(r"(?<!\\)<b>", text)
    assert not re.search(r"(?<!\\)\[x", text)
    assert "http://e" not in text
    assert r"\`f\` \*g\* \_h\_" in text
    assert len([line for line in text.splitlines() if line.startswith("# ")]) == 1


def test_terminal_table_lines_up() -> None:
    text = render_table(report())
    lines = [line for line in text.splitlines() if line.startswith(("Size", "Top-1", "Latency"))]

    assert text.startswith("edge build 12: IMPROVED\n")
    assert len(lines) == 8
    ends = {row.index(before) + len(before) for row, before in zip(lines, ("44.7 MB", "97.8 %"), strict=False)}
    assert len(ends) == 1, "numbers end in one column"
    assert "3.6× smaller" in lines[0]
    assert "450 rows, steps of 0.2 points" in lines[1]
    assert "200 runs each" in lines[2]


@pytest.mark.parametrize(
    ("metric", "shown"),
    [
        (("top1", 0.9, 0.9, 0.0, 0.0, 0.0), ("no difference", "0.0 to 0.0")),
        (("top1", 0.9, 0.8, 0.1, 0.05, 0.15), ("−10.0 points", "−15.0 to −5.0")),
        (("top1", 0.8, 0.9, -0.1, -0.15, 0.01), ("+10.0 points", "−1.0 to +15.0")),
        (("mse", 1.5, 2.0, 0.5, 0.4, 0.6), ("+0.5", "+0.4 to +0.6")),
    ],
)
def test_a_change_is_after_minus_before(metric: tuple, shown: tuple[str, str]) -> None:
    name, before, after, drop, low, high = metric
    change = MetricChange(metric=name, before=before, after=after, rows=100, drop=drop, drop_low=low, drop_high=high)

    row = rows(target(metrics=(change,)))[1]

    assert row.change == shown[0]
    assert row.certainty.startswith(f"{shown[1]} · 100 rows")


def test_one_row_is_singular() -> None:
    change = MetricChange(metric="top1", before=1, after=0, rows=1, drop=1, drop_low=-0.76, drop_high=1)

    assert rows(target(metrics=(change,)))[1].certainty == "−100.0 to +76.0 · 1 row"


@pytest.mark.parametrize(
    ("runs", "shown"),
    [(200, ""), (199, "uncertain: 2 runs of 199 above it"), (100, "uncertain: 1 run of 100 above it")],
)
def test_a_p99_of_few_runs_is_marked(runs: int, shown: str) -> None:
    few = {"before": latency().before.model_copy(update={"runs": runs})}

    p90, p99 = rows(target(latency=(latency().model_copy(update=few),)))[-2:]

    assert p90.certainty == ""
    assert p99.certainty == shown


@pytest.mark.parametrize(("before", "after", "tone"), [(14_000, 16_000, "same"), (140_000, 160_000, "bad")])
def test_a_little_metadata_is_not_shown_as_a_loss(before: int, after: int, tone: str) -> None:
    size = rows(target(size=Size(before_bytes=before, after_bytes=after)))[0]

    assert size.change == "1.14× larger"
    assert size.tone == tone


def test_terminal_table_cannot_be_steered() -> None:
    text = render_table(report(name="x\x1b[2J\r\nVERDICT: IMPROVED", targets=(target(reasons=("a\x9b1mb\x07",)),)))

    assert not [c for c in text if c != "\n" and (ord(c) < 32 or 127 <= ord(c) < 160)]
    assert not re.search(r"^VERDICT", text, re.MULTILINE)


def test_plain_and_shortened() -> None:
    assert one_line("a\u2028b\u202ec\ud800d") == "a b\ufffdc\ufffdd"
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghijk", 10) == "abcd…ghijk"
    assert markdown("a -> b") == "a → b"


@pytest.mark.parametrize("status", ["converted", "planned"])
def test_every_form_says_what_was_not_run(status: TargetStatus) -> None:
    unrun, run = (report(targets=(target(**changed),)) for changed in ({"status": status}, {}))
    words = STATUSES[status].partition(":")[0]

    for render in (render_markdown, render_html, render_table):
        assert words in render(unrun)
        assert words not in render(run)
