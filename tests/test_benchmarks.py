"""The benchmarks of training walk through on a small scale: what they compare must be the same. Those of Compare fail
where a promised limit is missed."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


def walk(script: str) -> list[dict[str, object]]:
    """The cases that a script prints with `--tiny`."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, f"benchmarks/{script}.py", "--tiny"],
        cwd=ROOT, env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return [ast.literal_eval(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a script; what it would write goes into `script.written` instead."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))

    def load(name: str) -> ModuleType:
        script: Any = importlib.import_module(name)
        monkeypatch.setattr(script, "written", [], raising=False)
        monkeypatch.setattr(script, "write_result", lambda name, result, packages: script.written.append(result))
        return script

    return load


@pytest.mark.parametrize(("median", "status"), [(0.499, 0), (0.5, 1), (3.0, 1)])
def test_slow_first_boxes_fail(load: Any, capsys: pytest.CaptureFixture[str], median: float, status: int) -> None:
    script = load("compare_page")
    assert script.finish({"seconds_to_boxes": {"median": median, "worst": 9.0}}) == status
    assert len(script.written) == 1
    said = capsys.readouterr().err
    assert said == (f"Too slow: 'boxes' took {median:g} s, and less than 0.5 s is promised.\n" if status else "")


@pytest.mark.parametrize(
    ("slow", "seconds", "samples", "status"),
    [
        ("open two", 0.99, 10_000, 0),
        ("open two", 1.0, 10_000, 1),
        ("filter: losses", 0.3, 10_000, 1),
        ("page: open, until figures and cards stand", 1.2, 10_000, 1),
        ("page: open, until the intervals have followed", 1.2, 10_000, 0),
        ("page: filter losses", 0.3, 10_000, 1),
        ("breakdown by category", 9.0, 10_000, 0),
        ("open two", 9.0, 100_000, 0),
    ],
)
def test_a_slow_comparison_fails(
    load: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    slow: str,
    seconds: float,
    samples: int,
    status: int,
) -> None:
    script = load("comparison")
    ways = ("open two", "filter: losses", "page: open, until figures and cards stand", "page: filter losses")
    monkeypatch.setattr(script, "measure", lambda *asked: {**dict.fromkeys(ways, 0.1), slow: seconds})
    assert script.main(["--samples", str(samples)]) == status
    assert script.written[0]["median_seconds"][slow] == seconds, "the result is written all the same"
    assert (f"Too slow: '{slow}' took {seconds:g} s" in capsys.readouterr().err) is bool(status)


def test_a_limit_that_limits_nothing_is_an_error(load: Any) -> None:
    with pytest.raises(ValueError, match="'open' limits nothing"):
        load("measuring").exit_status({"close": 0.1}, {"open": 1.0})


@pytest.mark.slow
def test_the_loss_curves_are_trls_on_the_embedded_model() -> None:
    cases = {case["precision"]: case["curves_differ_by"] for case in walk("train_speed")}
    assert cases.keys() <= {"float32", "bfloat16"}
    assert max(cases["float32"].values()) < 1e-4  # type: ignore[attr-defined]
    assert max(max(differences.values()) for differences in cases.values()) < 0.02  # type: ignore[attr-defined]


@pytest.mark.slow
def test_the_loss_curves_are_trls_in_the_large_models_form() -> None:
    (case,) = walk("gpu_train_speed")
    assert max(case["curves_differ_by"].values()) < 1e-3  # type: ignore[attr-defined]


def test_models_of_the_2bs_shape_see_what_it_would(load: Any) -> None:
    """640x480 pixels are 300 visual tokens in Qwen3-VL's budget; the embedded model's would make 54 of them."""
    found = load("cpu_numbers").measure(tiny=True, rounds=1)
    assert found["visual_tokens"] == 300
    assert found["float32"]["weights_gib"] == 2 * found["bfloat16"]["weights_gib"]
    assert found["times_as_fast"] > 0
