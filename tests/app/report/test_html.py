"""The page: one well-formed file without scripts or requests, in which no name can become markup."""

import re
from html.parser import HTMLParser

import pytest

from app.report import render_html
from app.spec.report import Chart, LayerError, OutputParity, Report, Series, Size, StepReport, Table
from tests.support.reports import latency, layers, report, target, trained

VOID = {"meta", "br", "link", "img", "input", "hr"}
HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}\n\x1b[31m\u202e</style></title><img src=x onerror=y>"


class Page(HTMLParser):
    """Fails on unbalanced tags; collects elements, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert len(dict(attributes)) == len(attributes), f"an attribute twice in {tag}"
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def said(self) -> str:
        return " ".join(" ".join(self.text).split())


def hostile() -> Report:
    return report(
        name=HOSTILE,
        notes=(HOSTILE,),
        steps=(
            StepReport(
                type=HOSTILE,
                seconds=1,
                summary=HOSTILE,
                facts={HOSTILE: HOSTILE},
                notes=(HOSTILE,),
                charts=(
                    Chart(
                        title=HOSTILE,
                        kind="bars",
                        x_label=HOSTILE,
                        y_label=HOSTILE,
                        x=(HOSTILE,),
                        series=(Series(name=HOSTILE, values=(1.0,)), Series(name=HOSTILE, values=(None,))),
                    ),
                ),
                tables=(Table(title=HOSTILE, columns=(HOSTILE,), rows=((HOSTILE,),)),),
            ),
        ),
        targets=(
            target(
                artifact=HOSTILE,
                reasons=(HOSTILE,),
                notes=(HOSTILE,),
                layers=(LayerError(name=HOSTILE, operator=HOSTILE, sqnr_db=3.0),),
                parity=(OutputParity(output=HOSTILE, rows=1, sqnr_db=1.0, cosine=1, max_abs=0),),
            ),
        ),
    )


BARE = {"metrics": (), "latency": (), "parity": (), "layers": (), "size": Size(before_bytes=9, after_bytes=9)}
EVERY_SHAPE = {
    "ordinary": report(),
    "bare": report(steps=(), targets=(target(**BARE),)),
    "no targets": report(targets=()),
    "two targets, two hundred layers": report(targets=(target(layers=layers(200)), target(verdict="unusable"))),
    "a trained step": report(steps=(trained(), trained())),
    "hostile": hostile(),
}


@pytest.mark.parametrize("shape", EVERY_SHAPE)
def test_the_page_is_well_formed_and_needs_nothing(shape: str) -> None:
    page = Page(render_html(EVERY_SHAPE[shape]))

    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "img", "form", "base"}
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name in {"src", "href", "xlink:href"}]
    policies = [value["content"] for tag, value in page.elements if tag == "meta" and "http-equiv" in value]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    identifiers = [value["id"] for _, value in page.elements if "id" in value]
    assert len(identifiers) == len(set(identifiers))
    described = {name for _, value in page.elements for name in (value.get("aria-labelledby") or "").split()}
    assert described <= set(identifiers)


def test_hostile_names_are_shown_as_text() -> None:
    text = render_html(hostile())

    assert "<script" not in text
    assert "<img" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "<script>alert(1)</script>" in Page(text).said()
    assert "{{7*7}}" in Page(text).said()


def test_the_verdict_comes_before_the_figures() -> None:
    said = Page(render_html(report())).said()

    order = [said.index(part) for part in ("Improved", "3.6 times smaller", "Before and after", "Latency, batch 1")]
    assert order == sorted(order)


def test_everything_measured_is_on_the_page() -> None:
    said = Page(render_html(report())).said()

    for figure in (
        "44.7 MB",
        "12.4 MB",
        "97.8 %",
        "97.6 %",
        "31.2 dB",
        "99.3 %",
        "0.999630",
        "20 QLinearConv",
        "11,689,512",
        "quantize.static",
        "Platinum 8481C",
        "avx512_vnni",
        "onnxruntime 1.31.1",
        "measured",
        "1 thread",
    ):
        assert figure in said, figure
    assert said.count("9f86d081884c7d659a2feaa0c55ad015") >= 3


def test_a_step_shows_its_figures_and_pictures() -> None:
    page = Page(render_html(report(steps=(trained(),))))

    said = page.said()
    for part in (
        "best epoch 11",
        "early stop no",
        "Zeros buy compressed size",
        "36,864",
        "0.88",
        "cross-entropy by epoch",
    ):
        assert part in said, part
    lines = [attributes for tag, attributes in page.elements if tag == "polyline"]
    assert [len(line["points"].split()) for line in lines] == [12, 11], "a gap is a gap"
    assert sum(tag == "rect" and attributes.get("class") == "s0" for tag, attributes in page.elements) == 20


def test_size_bars_are_to_scale() -> None:
    bars = re.findall(r'<rect class="fill-(before|after)" x="0" y="0" width="([\d.]+)%"', render_html(report()))

    assert bars[0] == ("before", "100.0")
    assert float(bars[1][1]) == pytest.approx(100 * 12.4 / 44.7, abs=0.01)


def test_every_picture_has_a_title_or_is_decoration() -> None:
    for tag, attributes in Page(render_html(report())).elements:
        if tag == "svg":
            assert attributes.get("aria-hidden") == "true" or attributes.get("aria-labelledby")


def test_a_missed_limit_stands_out() -> None:
    missed = "Limit missed: top1 lost 7.1 points, at most 1.0 points is allowed."
    text = render_html(report(targets=(target(reasons=(missed,), missed_limits=(missed,)),)))

    assert f'<li class="bad">{missed}</li>' in text


def test_slower_is_said_to_be_slower() -> None:
    said = Page(render_html(report(targets=(target(latency=(latency(1, 1.0, 4.0),)),)))).said()

    assert "4.1× slower" in said
    assert "faster" not in said.split("How to read this")[0].replace("Faster: 2.83x", "")
