"""Answers of one model, adapter or way of asking never pass for those of another."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from grounding import answering, models
from grounding.__main__ import main
from grounding.answering import Ask
from grounding.decoding.settings import Decoding
from grounding.errors import ModelError, PictureError
from grounding.evaluation import evaluate
from grounding.feature_store import FeatureStore
from grounding.journal import Journal, settings_of
from grounding.metrics import score
from grounding.models import DEMO_MODEL_FOLDER, load_model
from grounding.predict import Predictor
from grounding.records import Sample, write_samples
from grounding.reports import ReportStore, samples_digest
from grounding.training import run
from grounding.training.events import ScoreEvent
from grounding.training.settings import TrainSettings

Questions = list[tuple[Path, str]]


@pytest.fixture
def own_model(tmp_path: Path, one_thread: None) -> Path:
    """A copy of the embedded model's folder."""
    return Path(shutil.copytree(DEMO_MODEL_FOLDER, tmp_path / "model"))


def replace_weights(folder: Path) -> None:
    """Other weights of the same shapes under the same names."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    changed = {name: torch.roll(tensor, 1, -1).contiguous() for name, tensor in weights.items()}
    save_file(changed, folder / "model.safetensors", {"format": "pt"})


def test_other_weights_in_the_same_folder_are_another_evaluation(
    own_model: Path, demo_samples: dict[str, list[Sample]], tmp_path: Path
) -> None:
    before, samples = Predictor(load_model(str(own_model)), tmp_path), demo_samples["val"][:2]
    settings = settings_of(samples, before, None)
    assert settings_of(samples, Predictor(load_model(str(own_model)), tmp_path), None) == settings
    replace_weights(own_model)
    after = settings_of(samples, Predictor(load_model(str(own_model)), tmp_path), None)
    assert after.differences(settings.to_json())


def test_features_are_named_after_the_weights_that_were_loaded(
    own_model: Path, questions: Questions, tmp_path: Path
) -> None:
    old = Predictor(load_model(str(own_model)), tmp_path, features=FeatureStore(tmp_path / "features"))
    replace_weights(own_model)
    old.predict(*questions[0])  # kept under the name of the old files, though the new ones stand by now
    new = load_model(str(own_model))
    keeping = Predictor(new, tmp_path, features=FeatureStore(tmp_path / "features"))
    assert keeping.predict(*questions[0]).raw_text == Predictor(new, tmp_path).predict(*questions[0]).raw_text


def test_two_predictors_on_one_model_take_turns(loaded: Any, tmp_path: Path, questions: Questions) -> None:
    first, second = Predictor(loaded, tmp_path), Predictor(replace(loaded), tmp_path)
    entered = threading.Event()
    with loaded.lock:
        other = threading.Thread(target=lambda: (second.predict(*questions[0]), entered.set()))
        other.start()
        assert not entered.wait(0.4), "the model is in use by the first one"
        first.predict(*questions[0])  # its own thread may go on
    other.join(20)
    assert entered.is_set()


def test_draws_of_one_question_differ_however_they_are_split(
    predictor: Predictor, questions: Questions, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture, phrase = questions[-1]
    features = predictor._look_at({0: picture}, lambda: None)[0]
    monkeypatch.setattr(answering, "tokens_at_once", lambda loaded: 3 * (features.visual_tokens + 256))
    how = Decoding(mode="free", samples=9, temperature=2.0, seed=3)
    (drawn,) = predictor._answerer.sample([Ask(features, phrase)], how)
    texts = [answer.text for answer in drawn]
    assert texts[:3] != texts[3:6] and texts[3:6] != texts[6:]


def test_the_figures_of_the_page_are_of_the_default_way_of_asking(
    predictor: Predictor, demo_samples: dict[str, list[Sample]], tmp_path: Path
) -> None:
    samples = demo_samples["val"][:2]
    store, digest = ReportStore(tmp_path / "evaluations"), samples_digest(samples)
    plain = store.keep(evaluate(samples, predictor), split="test")
    for number, (decoding, conditions) in enumerate(
        [
            (Decoding(mode="free"), {}),
            (Decoding(), {"profile": "qwen3-vl-floats"}),
            (Decoding(), {"rerank": "clip"}),
            (Decoding(), {"quantize": "4bit"}),
        ]
    ):
        other = Predictor(predictor.loaded, tmp_path, decoding=decoding)
        log = tmp_path / f"{number}.jsonl"
        store.keep(evaluate(samples, other, log=log, conditions=conditions), split="test")
        found, newest = store.find("demo", None, digest), store.latest("demo", None, split="test")
        assert found is not None and newest is not None
        assert found.id == newest.id == plain.id
    again = evaluate(samples, predictor, log=tmp_path / "again.jsonl", conditions={"quantize": "none"})
    assert store.keep(again, split="test") == store.find("demo", None, digest)


def test_a_picture_cut_short_or_a_strip_is_found_before_the_first_answer(
    predictor: Predictor, demo_samples: dict[str, list[Sample]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = demo_samples["val"][0]
    Image.effect_noise((300, 200), 90).convert("RGB").save(tmp_path / "whole.jpg")
    (tmp_path / "torn.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:9000])
    Image.new("RGB", (2010, 10)).save(tmp_path / "strip.png")
    monkeypatch.setattr(Predictor, "predict_many", lambda *_, **__: pytest.fail("a model was asked"))
    for name in ("torn.jpg", "strip.png"):
        bad = replace(good, id=f"the-{name}", image=tmp_path / name)
        with pytest.raises(PictureError, match=f"sample the-{name} can't be scored"):
            evaluate([good, bad], predictor)


def test_one_evaluation_at_a_time_writes_into_a_folder(
    predictor: Predictor,
    demo_samples: dict[str, list[Sample]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    samples = demo_samples["val"][:2]
    write_samples(tmp_path / "some.jsonl", samples)
    monkeypatch.setattr(models, "load_model", lambda *_, **__: predictor.loaded)
    settings = settings_of(samples, Predictor(predictor.loaded, tmp_path), None, {"quantize": "none"})
    out = tmp_path / "workspace" / "evaluations" / "one"
    journal = Journal(out / "answers.jsonl", settings)
    journal.append({0: predictor.predict(samples[0].image, samples[0].phrase)})
    command = ["evaluate", str(tmp_path / "some.jsonl"), "--workspace", str(tmp_path / "workspace")]
    with journal.held():
        assert ReportStore(out.parent).unfinished(settings) is None, "another program is at it"
        assert main([*command, "--out", str(out)]) == 1
        assert "evaluating into" in capsys.readouterr().err
    assert ReportStore(out.parent).unfinished(settings) == out
    assert main([*command, "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["report.json", "report.md", "samples.parquet"]


def test_a_hub_model_that_transformers_does_not_know_is_told_which_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoConfig

    def unknown(source: str) -> None:
        raise ValueError(
            "The checkpoint you are trying to load has model type `ovis2_5` but Transformers does not recognize this "
            "architecture. This could be because of an issue with the checkpoint."
        )

    monkeypatch.setattr(AutoConfig, "from_pretrained", unknown)
    with pytest.raises(ModelError, match=r"'ovis2_5'\. Known types: .*qwen3_vl"):
        load_model("somebody/ovis")


def test_training_scores_a_base_in_bfloat16(
    tiny_samples: list[Sample], tmp_path: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: peft keeps the factors in float32 beside it."""
    from grounding.snapshots import Snapshot

    choose: Callable[..., Any] = models.choose_device
    monkeypatch.setattr(models, "choose_device", lambda *given: (choose(*given)[0], torch.bfloat16, ["as a test"] * 2))
    settings = TrainSettings(steps=2, images_per_step=1, score_samples=2, score_every_steps=1, augment=False)
    snapshot = Snapshot("tiny", tmp_path, "0" * 64, tuple(tiny_samples))
    plan = run.TrainPlan("half", snapshot, "demo", "none", settings, tmp_path / "adapters" / "half", run_id="run-1")
    told: list[Any] = []
    run.train(plan, told.append, lambda: False)
    assert [event.step for event in told if isinstance(event, ScoreEvent)] == [0, 1, 2]


def test_answers_that_can_not_be_read_agree_on_nothing(predictor: Predictor, questions: Questions) -> None:
    short = replace(predictor.loaded, profile=replace(predictor.loaded.profile, max_new_tokens=3))
    cut = Predictor(short, predictor.registry.folder)
    answer = cut.predict(*questions[0], decoding=Decoding(mode="free", samples=3, temperature=0.01))
    assert (answer.status, answer.confidence) == ("unreadable", 0.0)
    sample = Sample("a", questions[0][0], "x", ())
    assert json.dumps(score(sample, answer).prediction.confidence) == "0.0"
