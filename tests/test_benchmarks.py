"""The benchmarks of training walk through on a small scale: what they compare must be the same."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

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
