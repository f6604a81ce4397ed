"""Progress is thinned out by one rule: the newest of each stage, every stage, and never backwards."""

from app.spec.progress import JobProgress
from worker.runtime.progress_throttle import ProgressThrottle


def at(step: int, fraction: float = 0.0) -> JobProgress:
    return JobProgress(stage=f"stage {step}", step=step, steps=3, fraction=fraction)


def test_the_newest_of_each_stage_is_taken_once() -> None:
    throttle = ProgressThrottle()
    for progress in (at(1), at(1, 0.9), at(2), at(2, 0.1), at(2, 0.2), at(3)):
        throttle.add(progress)

    assert throttle.take() == [at(1, 0.9), at(2, 0.2), at(3)]
    assert throttle.take() == []


def test_stages_only_go_forward() -> None:
    throttle = ProgressThrottle()
    throttle.add(at(2))
    throttle.take()
    throttle.add(at(1, 0.5))

    assert throttle.take() == []


def test_a_stage_is_due_when_it_begins_and_then_once_per_interval() -> None:
    throttle = ProgressThrottle(interval_s=3600)
    due = []
    for progress in (at(1), at(1, 0.1), at(1, 0.2), at(2), at(2, 0.1)):
        throttle.add(progress)
        due.append(throttle.due())

    assert due == [[at(1)], [], [], [at(1, 0.2), at(2)], []]
    assert throttle.take() == [at(2, 0.1)]


def test_what_could_not_be_shown_gives_way_to_what_is_newer() -> None:
    throttle = ProgressThrottle()
    for progress in (at(1), at(2, 0.5)):
        throttle.add(progress)
    taken = throttle.take()
    throttle.add(at(2, 0.7))
    throttle.put_back(taken)

    assert throttle.take() == [at(1), at(2, 0.7)]


def test_the_share_of_the_whole_counts_every_stage_alike() -> None:
    assert [at(1).overall, at(2, 0.5).overall, at(3, 1.0).overall] == [0.0, 0.5, 1.0]
    assert JobProgress().overall == 0.0
    assert JobProgress(step=0, steps=3, fraction=0.5).overall == 0.0
