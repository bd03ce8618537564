"""Further models in Compare: added, loaded when chosen, answered beside the app's own, lent with it, removed."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from compared_samples import answered, keep, some_scenes
from grounding.boxes import Box
from grounding.errors import BusyError, ModelError, SettingsError
from grounding.heat import Heat
from grounding.records import Prediction, Status
from grounding.ui.chosen import BASE, further_key
from grounding.ui.compare import Handlers
from grounding.ui.desk import LATE_MODELS, Compare, Desk
from grounding.ui.further import FurtherModel, FurtherModels, parse_also
from grounding.ui.further_panel import FurtherHandlers, list_html
from grounding.ui.model_service import ModelService, Phase
from grounding.ui.scoreboard import Scoreboard
from grounding.ui.serving import read_flags
from grounding.ui.sources import Parts

OTHER_BOX = Box(0, 0, 40, 20)
DETECTOR_SAYS = "tiny is a detector: it gives boxes with scores and writes no digits."


class OtherPredictor:
    """A further model, a detector: boxes, and no heat."""

    device = "cpu"
    load_notes = ("float32: a detector.",)

    def compare(self, image: object, phrase: str, adapters: tuple[None, ...]) -> list[Prediction]:
        assert adapters == (None,), "no adapter fits it"
        return [Prediction((OTHER_BOX,), Status.OK, "a box", 0.5, 0.1)]

    def compare_many(self, pairs: list[Any], adapters: tuple[None, ...], **_: Any) -> list[list[Prediction]]:
        return [self.compare(image, phrase, adapters) for image, phrase in pairs]

    def heat(self, image: object, phrase: str, adapters: tuple[None, ...]) -> list[Heat]:
        return [Heat((), DETECTOR_SAYS)]

    def prompt(self, image: object, phrase: str) -> Any:
        return SimpleNamespace(text=f"{phrase}.", tokens=(), length=3)


@dataclass
class Loaders:
    """What loads further models: at once, unless the gate is shut."""

    gate: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None
    loaded: list[str] = field(default_factory=list)

    def __call__(self, one: FurtherModel) -> Callable[[], Any]:
        def load() -> OtherPredictor:
            assert self.gate.wait(10)
            self.loaded.append(one.name)
            if self.error is not None:
                raise self.error
            return OtherPredictor()

        return load


@pytest.fixture
def loaders() -> Loaders:
    made = Loaders()
    made.gate.set()
    return made


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A folder that says it holds a Grounding DINO."""
    return model_folder(tmp_path / "models" / "tiny", "grounding-dino")


def model_folder(folder: Path, model_type: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return folder


@pytest.fixture
def further(models: ModelService, loaders: Loaders) -> FurtherModels:
    return FurtherModels(models, load=loaders)


@pytest.fixture
def compare(parts: Parts, further: FurtherModels) -> Compare:
    return Compare(parts, Scoreboard(parts), further)


def settled(further: FurtherModels, key: str) -> Phase:
    """The phase once nothing loads any more."""
    service = further.service(key)
    with suppress(ModelError):
        service.predictor(10)
    return service.state.phase


def asked(compare: Compare, *models: str | None) -> tuple[Desk, list[str]]:
    desk = Desk()
    compare.pick(desk, "s0")
    return desk, list(compare.ask(desk, "the red mug", models))


def test_what_was_added_is_remembered_and_not_loaded(
    further: FurtherModels, models: ModelService, tiny: Path, loaders: Loaders
) -> None:
    assert further.add(str(tiny)).name == "tiny"
    assert further.add("Qwen/Qwen3-VL-2B-Instruct", "4bit").name == "Qwen3-VL-2B-Instruct 4-bit"
    assert further.add("Qwen/Qwen3-VL-2B-Instruct").name == "Qwen3-VL-2B-Instruct"
    assert further.add("Other/Qwen3-VL-2B-Instruct").name == "Other/Qwen3-VL-2B-Instruct"
    again = FurtherModels(models, [("Qwen/Qwen3-VL-2B-Instruct", "4bit"), ("demo", "8bit")], load=loaders)
    assert again.offered()[:4] == further.offered()
    assert [one.name for one in again.offered()[4:]] == ["demo 8-bit"], "what stands there is not offered twice"
    assert loaders.loaded == []
    again.add("Qwen/Qwen3-VL-4B-Instruct")
    assert len(FurtherModels(models).offered()) == 5, "what came by a flag is for one start"


@pytest.mark.parametrize(
    ("model", "quantize", "error", "said"),
    [
        ("", "none", SettingsError, "names no model"),
        ("demo", "none", SettingsError, "The app's own model stands in the list"),
        ("Qwen/Qwen3-VL-2B-Instruct", "2bit", SettingsError, "expected one of|Expected one of"),
        ("/no/such/folder", "none", ModelError, "There is no model folder"),
        ("x" * 501, "none", SettingsError, "names no model"),
        ("../../etc", "none", ModelError, "holds no config.json|no model folder"),
    ],
)
def test_what_is_no_model_is_a_sentence(
    further: FurtherModels, model: str, quantize: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        further.add(model, quantize)
    assert further.offered() == ()


def test_no_more_are_offered_than_there_is_room_for(further: FurtherModels, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        further.add(str(tmp_path))
    with pytest.raises(ModelError, match="bert"):
        further.add(str(model_folder(tmp_path / "bert", "bert")))
    for number in range(8):
        further.add(f"someone/model-{number}")
    with pytest.raises(SettingsError, match="no more fit"):
        further.add("someone/model-8")


def test_a_damaged_list_is_named_and_put_aside(models: ModelService, further: FurtherModels, tiny: Path) -> None:
    file = models.workspace.compare_models
    file.parent.mkdir()
    file.write_text('{"format": "boxwright-compare-models/1", "models": [{"name": "a<b>", "model": 7}]}')
    damaged = FurtherModels(models)
    assert damaged.offered() == () and str(file) in damaged.problem
    assert "can&#x27;t be read" in list_html(damaged)
    damaged.add(str(tiny))
    assert damaged.problem == "" and [one.name for one in FurtherModels(models).offered()] == ["tiny"]
    assert file.with_suffix(".damaged").is_file()


def test_it_answers_beside_the_base_and_its_adapter(
    compare: Compare, further: FurtherModels, tiny: Path, add_adapter: Callable[..., None], loaders: Loaders
) -> None:
    add_adapter("tools-v1")
    key = further.add(str(tiny)).key
    models = compare.check_models([BASE, key, "tools-v1"])
    loaders.gate.clear()
    desk, pages = asked(compare, *models)
    assert "Loading" in pages[-1] and 'data-waiting="true"' in pages[-1]
    assert "IoU 0.25" in pages[-1] and "IoU 1.00" in pages[-1], "what answers does not wait for what loads"
    loaders.gate.set()
    assert settled(further, key) is Phase.READY
    html = compare.more(desk, LATE_MODELS) or ""
    assert 'data-waiting="false"' in html
    assert "IoU 0.50" in html and "tiny on “the red mug”: Found" in html
    assert compare.more(desk, LATE_MODELS) is None, "nothing is new"
    _, pages = asked(compare, None, key)
    assert "tiny +0.25 IoU" in pages[-1], "what is loaded answers at once"
    assert loaders.loaded == ["tiny"]


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("heats", f"No heat map: {DETECTOR_SAYS}"),
        ("probes", '<b title="tiny">tiny</b>'),
        ("prompt", "<b>tiny:</b> 3 tokens"),
    ],
)
def test_heat_probes_and_prompt_come_of_it_too(
    compare: Compare, further: FurtherModels, tiny: Path, part: str, said: str
) -> None:
    key = further.add(str(tiny)).key
    further.want(key)
    settled(further, key)
    desk, _ = asked(compare, None, key)
    html = compare.more(desk, part) or ""
    assert said in html
    assert 'data-heats="yes"' in html or part != "heats"


def test_an_adapter_and_a_model_of_one_name_are_each_told_how_they_do(
    compare: Compare, further: FurtherModels, tmp_path: Path, add_adapter: Callable[..., None]
) -> None:
    """As where a folder has the model that an adapter was merged into."""
    add_adapter("tools")
    key = further.add(str(model_folder(tmp_path / "merged" / "tools", "grounding-dino"))).key
    further.want(key)
    settled(further, key)
    samples = some_scenes(12)
    keep(compare.parts.workspace.evaluations / "b", [answered(s, s.boxes_xyxy_px) for s in samples], "tools")
    desk, _ = asked(compare, "tools", key)
    html = compare.more(desk, "probes") or ""
    said = re.findall(r'<small class="bw-standing" data-better="(\w+)">([^<]*)</small>', html)
    assert [better for better, _ in said] == ["yes", "unknown"], said
    assert "100.0%" in said[0][1] and "Not evaluated yet" in said[1][1]


def test_one_that_fails_says_why_and_leaves_the_others(
    compare: Compare, further: FurtherModels, tiny: Path, loaders: Loaders
) -> None:
    loaders.error = ModelError("3 weights are <missing>.")
    key = further.add(str(tiny)).key
    desk, _ = asked(compare, None, key)
    assert settled(further, key) is Phase.FAILED
    html = compare.more(desk, LATE_MODELS) or compare.more(desk, "prompt") or ""
    assert "3 weights are &lt;missing&gt;." in html and "IoU 0.25" in html
    for part in ("heats", "probes", "prompt"):
        html = compare.more(desk, part) or ""
        assert f'data-{part}="yes"' in html, "of the models that answered"
    assert "Try again" in list_html(further)
    loaders.error = None
    further.try_again("tiny")
    assert settled(further, key) is Phase.READY
    assert "Ready on CPU" in list_html(further)


@pytest.mark.parametrize("what", ["model", "picture"])
def test_an_unforeseen_error_of_one_that_came_late_is_said_once(
    compare: Compare,
    further: FurtherModels,
    tiny: Path,
    loaders: Loaders,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    """A page that waits asks every second: an error that leaves it waiting would be a notice every second."""

    def too_large(*_: object) -> list[Prediction]:
        raise RuntimeError("CUDA out of memory")

    key = further.add(str(tiny)).key
    loaders.gate.clear()
    desk, pages = asked(compare, None, key)
    assert 'data-waiting="true"' in pages[-1]
    if what == "model":
        monkeypatch.setattr(OtherPredictor, "compare", too_large)
    else:
        compare.parts.source.get_sample("s0").image.unlink()
    loaders.gate.set()
    settled(further, key)
    html = compare.more(desk, LATE_MODELS) or ""
    assert 'data-waiting="false"' in html and "IoU 0.25" in html
    assert ("did not foresee" if what == "model" else "There is no picture") in html
    assert compare.more(desk, LATE_MODELS) is None


def test_an_unforeseen_error_of_one_leaves_the_others(
    compare: Compare, further: FurtherModels, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: object) -> list[Prediction]:
        raise RuntimeError("CUDA out of memory")

    key = further.add(str(tiny)).key
    further.want(key)
    settled(further, key)
    monkeypatch.setattr(OtherPredictor, "compare", too_large)
    _, pages = asked(compare, None, key)
    assert "IoU 0.25" in pages[-1] and "did not foresee" in pages[-1]


def test_the_apps_own_model_failing_leaves_a_further_one(
    compare: Compare, further: FurtherModels, tiny: Path, predictor: Any
) -> None:
    key = further.add(str(tiny)).key
    further.want(key)
    settled(further, key)
    predictor.error = ModelError("Out of memory.")
    _, pages = asked(compare, None, key)
    assert "Out of memory." in pages[-1] and "IoU 0.50" in pages[-1]
    _, pages = asked(compare, key)
    assert "Out of memory." not in pages[-1] and "IoU 0.50" in pages[-1]


def test_its_memory_is_lent_with_that_of_the_apps_model(
    compare: Compare, further: FurtherModels, models: ModelService, tiny: Path
) -> None:
    key = further.add(str(tiny)).key
    further.want(key)
    settled(further, key)
    models.unload()
    assert further.service(key).state.phase is Phase.UNLOADED
    assert "lent to a training run" in further.want(key).sentence, "it does not come back before the app's own"
    _, pages = asked(compare, key)
    assert "lent to a training run" in pages[-1] and 'data-waiting="false"' in pages[-1]
    models.start()
    models.predictor(10)
    assert further.service(key).state.phase is Phase.UNLOADED, "on request only"
    further.want(key)
    assert settled(further, key) is Phase.READY


def test_a_run_waits_for_one_that_loads(further: FurtherModels, models: ModelService, loaders: Loaders) -> None:
    key = further.add("someone/model").key
    loaders.gate.clear()
    further.want(key)
    models.unload()
    assert models.companions_load and further.service(key).state.phase is Phase.LOADING, "it can't be broken off"
    with pytest.raises(BusyError, match="can't be broken off"):
        further.remove("model")
    loaders.gate.set()
    settled(further, key)
    models.unload()
    assert not models.companions_load and further.service(key).state.phase is Phase.UNLOADED


def test_removing_frees_it_and_forgets_it(
    compare: Compare, further: FurtherModels, models: ModelService, tiny: Path
) -> None:
    panel = FurtherHandlers(further, compare.adapter_names)
    choices, emptied = panel.add([BASE], str(tiny), "none")
    key = further_key("tiny")
    assert (choices.value, emptied) == ([BASE, key], "")
    assert ("tiny", key) in choices.choices
    further.want(key)
    settled(further, key)
    service = further.service(key)
    assert panel.remove(gr.EventData(None, {"name": "tiny"}), [key, BASE]).value == [BASE]
    assert service.state.phase is Phase.UNLOADED and further.offered() == ()
    assert FurtherModels(models).offered() == ()
    _, pages = asked(compare, None, key)
    assert "no longer offered" in pages[-1] and "IoU 0.25" in pages[-1]
    with pytest.raises(ModelError, match="no longer offered"):
        compare.check_models([BASE, key])
    with pytest.raises(gr.Error, match="no longer offered"):
        panel.remove(gr.EventData(None, {"name": "<b>"}), [])


def test_four_are_chosen_at_most(
    further: FurtherModels, compare: Compare, tiny: Path, add_adapter: Callable[..., None]
) -> None:
    for name in "abcd":
        add_adapter(name)
    panel = FurtherHandlers(further, compare.adapter_names)
    choices, _ = panel.add(["a", "b", "c", "d"], str(tiny), "none")
    assert choices.value == ["a", "b", "c", "d"], "a fifth is offered, not chosen"
    key, desk = further_key("tiny"), Desk()
    *_, offered, _, _ = Handlers(compare).open_page(desk)
    assert key not in offered.value and ("tiny", key) in offered.choices


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("org/model", ("org/model", "none")),
        ("org/model:4bit", ("org/model", "4bit")),
        ("C:\\models\\one", ("C:\\models\\one", "none")),
        ("/models/a:b:8bit", ("/models/a:b", "8bit")),
    ],
)
def test_also_is_read(text: str, expected: tuple[str, str]) -> None:
    assert parse_also(text) == expected
    assert read_flags(["--also", text, "--also", "demo"], {}).also == (expected, ("demo", "none"))


def test_also_without_a_model_is_refused() -> None:
    with pytest.raises(SettingsError, match="--also ':4bit'"):
        read_flags(["--also", ":4bit"], {})
