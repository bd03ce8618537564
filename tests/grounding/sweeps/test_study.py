"""The study: what it proposes, and whom it prunes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from grounding.errors import StoreError
from grounding.sweeps.settings import SweepSettings
from grounding.sweeps.study import Study


def done(iou: float) -> dict[str, Any]:
    return {"state": "done", "mean_iou": iou}


def drawn(folder: Path, sweep: SweepSettings) -> list[dict[str, Any]]:
    """All values of a sweep, each drawn by a process that knows nothing but the file."""
    folder.mkdir()
    Study(folder, sweep, create=True).__exit__()
    for _ in range(sweep.runs):
        with Study(folder, sweep) as study:
            trial = study.propose()
            study.finish(trial.number, done(1 / (1 + trial.number)))
    with Study(folder, sweep) as study:
        return [dict(trial.values) for trial in study.trials()]


def test_the_settings_as_they_stand_come_first_and_nothing_comes_twice(make_sweep: Any, tmp_path: Path) -> None:
    sweep = make_sweep(search={"lora_rank": "4,8,16,32", "lora_dora": "true,false"}, runs=8)
    values = drawn(tmp_path / "a", sweep)
    assert values[0] == {"lora_rank": 16, "lora_dora": False}
    assert len({tuple(sorted(each.items())) for each in values}) == 8, "all that there is, each once"


def test_the_seed_decides_and_each_draw_is_another(make_sweep: Any, tmp_path: Path) -> None:
    first, again, other = (
        drawn(tmp_path / name, make_sweep(seed=seed, runs=5)) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == again
    assert first[1:] != other[1:]
    assert len({each["learning_rate"] for each in first}) == 5
    assert all(1e-4 <= each["learning_rate"] <= 1e-2 for each in first)


def test_who_falls_behind_the_median_is_pruned_once_two_have_finished(make_sweep: Any, tmp_path: Path) -> None:
    sweep = make_sweep(steps=8, runs=6)
    with Study(tmp_path, sweep, create=True) as study:
        for number, iou in enumerate((0.8, 0.6)):
            study.propose()
            assert study.report(number, 4, iou / 2) is None, "nothing to be held against yet"
            study.finish(number, done(iou))
        study.propose()
        assert study.report(2, 1, 0.0) is None, "no run is pruned in its first quarter"
        assert study.report(2, 4, 0.2) == pytest.approx(0.35)
        study.finish(2, {"state": "pruned"})
        study.propose()
        assert study.report(3, 4, 0.36) is None


def test_pruning_may_be_off(make_sweep: Any, tmp_path: Path) -> None:
    with Study(tmp_path, make_sweep(prune=False), create=True) as study:
        for number in range(2):
            study.propose()
            study.report(number, 4, 0.5)
            study.finish(number, done(0.5))
        study.propose()
        assert study.report(2, 4, 0.1) is None


def test_a_run_that_the_study_does_not_know_is_a_sentence(make_sweep: Any, tmp_path: Path) -> None:
    with Study(tmp_path, make_sweep(), create=True) as study:
        study.propose()
        for what in (
            lambda: study.report(1, 4, 0.5),
            lambda: study.mark_pruned(1, 4),
            lambda: study.finish(1, done(0.5)),
        ):
            with pytest.raises(StoreError, match="knows nothing of run 2"):
                what()


def test_a_study_that_is_gone_or_damaged_is_a_sentence(make_sweep: Any, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is gone"):
        Study(tmp_path, make_sweep())
    (tmp_path / "study.db").write_text("no database at all " * 100)
    with pytest.raises(StoreError, match="can't be used"):
        Study(tmp_path, make_sweep())
