"""The adapters panel and the preset chooser of the Train tab, without a browser and without a model."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import gradio as gr
import huggingface_hub
import pytest

from grounding.adapters import AdapterInfo, AdapterRegistry, changes, merge
from grounding.adapters.evaluations import Standing
from grounding.errors import AdapterError
from grounding.training.presets import presets_for
from grounding.training.settings import TrainSettings
from grounding.ui.adapter_cards import Card, adapters_html, told_html
from grounding.ui.chosen import BASE
from grounding.ui.model_service import ModelService
from grounding.ui.train_adapters import Handlers
from grounding.ui.train_presets import Chooser, as_typed, preset_html
from grounding.ui.train_presets import Handlers as PresetHandlers
from grounding.workspace import Workspace, find_workspace


@dataclass(frozen=True)
class Parts:
    workspace: Workspace
    models: Any
    curation: Any = None


@pytest.fixture
def handlers() -> Iterator[Handlers]:
    workspace = find_workspace()
    for name, base in (("a", "demo"), ("b", "demo"), ("c", "other/base")):
        folder = workspace.adapters / name
        folder.mkdir(parents=True)
        (folder / "adapter_model.safetensors").write_text("weights")
        (folder / "adapter_config.json").write_text("{}")
        AdapterInfo(name, folder, base, "qwen3-vl-demo", "2026-01-01T00:00:00+00:00").save()
    models = ModelService("demo", "none", workspace, load=lambda: SimpleNamespace(device="cpu"))  # type: ignore[arg-type, return-value]
    made = Handlers(Parts(workspace, models))  # type: ignore[arg-type]
    yield made
    for packed in made._packed:
        packed.cleanup()


def event(**data: Any) -> gr.EventData:
    return gr.EventData(None, data)


def act(handlers: Handlers, action: str, name: str = "", entry: str = "", **form: str) -> tuple[Any, ...]:
    return handlers.act(event(action=action, name=name, id=entry, fields=form))


def test_rename_note_delete_and_undo(handlers: Handlers) -> None:
    told, _, html, shown = act(handlers, "rename", "a", new_name="mugs")
    assert "a is called mugs now." in told and 'data-name="mugs"' in html and html == shown
    noted = act(handlers, "note", "mugs", text="a <b>note", read="")[2]
    assert 'name="read" value="a &lt;b&gt;note"' in noted
    with pytest.raises(gr.Error, match="was changed meanwhile"):
        act(handlers, "note", "mugs", text="another", read="")
    told = act(handlers, "delete", "mugs")[0]
    (entry,) = changes.deleted(handlers.workspace)
    assert f'data-undo="{entry.id}"' in told
    told, _, html, _ = handlers.undo(event(id=entry.id))
    assert "mugs is back." in told and 'data-name="mugs"' in html
    assert "a &lt;b&gt;note" in html


def test_undo_where_the_name_is_taken_brings_it_back_beside(handlers: Handlers) -> None:
    act(handlers, "delete", "a")
    act(handlers, "rename", "b", new_name="a")
    told = handlers.undo(event(id=changes.deleted(handlers.workspace)[0].id))[0]
    assert "a is back as a-back, as there is another a now." in told
    assert {info.name for info in AdapterRegistry(handlers.workspace.adapters).list()} == {"a", "a-back", "c"}


def test_purging_takes_it_from_the_bin(handlers: Handlers) -> None:
    act(handlers, "delete", "a")
    entry = changes.deleted(handlers.workspace)[0]
    assert "deleted for good" in act(handlers, "purge", entry=entry.id)[0]
    assert changes.deleted(handlers.workspace) == []


def test_exports_find_a_free_place_and_zips_are_outside_the_workspace(handlers: Handlers) -> None:
    assert "exports/a." in act(handlers, "folder", "a")[0]
    assert "exports/a-2." in act(handlers, "folder", "a")[0]
    files = [Path(act(handlers, "zip", "a")[1].value["path"]) for _ in range(6)]
    assert all(handlers.workspace.root not in file.parents for file in files)
    assert len(handlers._packed) == 4, "those of earlier downloads are gone"
    with zipfile.ZipFile(files[-1]) as archive:
        assert "a/README.md" in archive.namelist()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"action": "rename", "name": "a", "fields": {"new_name": "b"}}, "stands already"),
        ({"action": "rename", "name": "a", "fields": {}}, "can't name an adapter"),
        ({"action": "rename", "name": "../a", "fields": {"new_name": "z"}}, "can't name an adapter"),
        ({"action": "delete", "name": "gone"}, "There is no adapter"),
        ({"action": "fly"}, "There is no action"),
        ({"action": "note", "name": "a", "fields": "none"}, None),
        ({}, "There is no action"),
    ],
)
def test_whatever_the_page_sends_is_a_sentence(handlers: Handlers, data: dict[str, Any], sentence: str | None) -> None:
    if sentence is None:
        handlers.act(event(**data))
        return
    with pytest.raises(gr.Error) as error:
        handlers.act(event(**data))
    assert sentence in str(error.value.message).replace("&#x27;", "'") and "<b>" not in str(error.value.message)


def test_nothing_is_sent_until_something_changes(handlers: Handlers) -> None:
    _, shown = handlers.refresh("")
    assert handlers.refresh(shown) == (gr.skip(), gr.skip())
    changes.rename(handlers.workspace, "a", "mugs")
    assert 'data-name="mugs"' in handlers.refresh(shown)[0]


def test_show_in_compare_takes_adapters_of_this_base_only(handlers: Handlers) -> None:
    tabs, dropdown = handlers.show(event(name="b"))
    assert tabs.selected == "compare" and dropdown.value == [BASE, "b"]
    with pytest.raises(gr.Error, match="not there for this model"):
        handlers.show(event(name="c"))
    html = adapters_html([_card(handlers, "c", fits=False)], [])
    assert "of another base" in html and "data-show" not in html


def on_gpu() -> Any:
    return SimpleNamespace(device="cuda:0", load_notes=())


def test_a_merge_tells_what_came_of_it_and_gives_the_gpu_back(
    handlers: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    service = ModelService("demo", "none", handlers.workspace, load=on_gpu)  # type: ignore[arg-type]
    service.start()
    service.predictor(10)
    handlers.parts = Parts(handlers.workspace, service)  # type: ignore[assignment]

    def merged(workspace: Workspace, info: AdapterInfo, target: Path) -> merge.Agreement:
        done.append(f"{target.name}, {service.state.phase.value}, lent: {service.is_lent}")
        return merge.Agreement(20, 20, 20, 1.0, 1.0, "float32")

    monkeypatch.setattr(merge, "merge", merged)
    told = [shown[0] for shown in handlers.merge(event(action="merge", name="a"))]
    assert "Merging a" in told[0] and 'data-kind="busy"' in told[0] and "agree on 20" in told[-1]
    assert done == ["a-merged, unloaded, lent: True"] and not service.is_lent

    def refuse(workspace: Workspace, info: AdapterInfo, target: Path) -> merge.Agreement:
        raise AdapterError("They differ.")

    monkeypatch.setattr(merge, "merge", refuse)
    with pytest.raises(gr.Error, match="They differ"):
        told = [shown[0] for shown in handlers.merge(event(action="merge", name="a"))]
    assert not service.is_lent, "else Compare's model would never come back"


def test_a_push_tells_how_much_goes_up_and_how_long_it_has_taken(
    handlers: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SlowApi:
        def repo_info(self, repo_id: str, *, repo_type: str) -> SimpleNamespace:
            return SimpleNamespace(private=True)

        def create_repo(self, repo_id: str, *, repo_type: str, private: bool, exist_ok: bool) -> None:
            assert private and exist_ok

        def create_commit(self, repo_id: str, *, operations: list[Any], commit_message: str) -> None:
            time.sleep(1.3)

    monkeypatch.setattr(huggingface_hub, "HfApi", SlowApi)
    asked = event(action="push", name="a", fields={"repo_id": "me/a"})
    first, *more, last = [shown[0] for shown in handlers.push(asked)]
    assert "Uploading a to me/a" in first and 'data-kind="busy"' in first
    assert more and "4 files, 0.0 MB" in more[-1] and ">1 s</time>" in more[-1]
    assert "Pushed to https://huggingface.co/me/a, private." in last and 'data-kind="done"' in last


def test_a_push_that_fails_says_so_on_the_page_and_in_a_notice(handlers: Handlers) -> None:
    told = []
    with pytest.raises(gr.Error, match="is no name on the Hub") as error:
        told += [shown[0] for shown in handlers.push(event(action="push", name="a", fields={"repo_id": "<b>"}))]
    assert "<b>" not in str(error.value.message)
    shown = handlers.push(event(action="push", name="a", fields={"repo_id": "<b>"}))
    told = [next(shown)[0], next(shown)[0]]
    assert 'data-kind="busy"' in told[0] and 'data-kind="problem"' in told[1] and "<b>" not in told[1]


def _card(handlers: Handlers, name: str, **more: Any) -> Card:
    info = AdapterRegistry(handlers.workspace.adapters).find(name)
    return replace(Card(info, "", None, True), **more)


def test_a_card_draws_the_scores_against_the_base(handlers: Handlers) -> None:
    scores = {"accuracy_50": 0.41, "accuracy_75": 0.3, "mean_iou": 0.5}
    base = {"accuracy_50": 0.52, "accuracy_75": 0.3, "mean_iou": 0.25}
    html = adapters_html([_card(handlers, "a", standing=Standing("evaluation", "test", 1600, scores, base))], [])
    assert '<i data-kind="base" style="width:52.0%"></i><i data-kind="adapter" style="width:41.0%"></i>' in html
    assert 'data-sign="down">−0.110' in html and 'data-sign="same">+0.000' in html and 'data-sign="up">+0.250' in html
    assert "Kept evaluation on test, 1,600 phrases" in html
    alone = adapters_html([_card(handlers, "a", standing=Standing("training", "val", 9, scores, None))], [])
    assert "the base was not asked the same" in alone and 'data-kind="base"' not in alone
    assert "Not scored yet" in adapters_html([_card(handlers, "a")], [])
    assert adapters_html([], []) == ""


def test_nothing_on_a_card_is_markup(handlers: Handlers) -> None:
    evil = "<img src=x onerror=alert(1)>\"'"
    info = replace(
        AdapterRegistry(handlers.workspace.adapters).find("a"),
        base=evil,
        snapshot=evil,
        created_at=evil,
        settings=MappingProxyType({evil: evil}),
        versions=MappingProxyType({evil: evil}),
        data=MappingProxyType({evil: 1}),
    )
    html = adapters_html([Card(info, evil, Standing("evaluation", evil, 1, {}, None), False)], []) + told_html(evil)
    assert "<img" not in html and 'onerror=alert(1)>"' not in html


@pytest.fixture
def chooser() -> PresetHandlers:
    # The handlers use the components as keys only.
    settings = {spec.name: f"set-{spec.name}" for spec in fields(TrainSettings)}
    return PresetHandlers(Chooser(presets_for("demo"), "radio", "told"), settings)  # type: ignore[arg-type]


def sent(chooser: PresetHandlers, preset: str, **changed: Any) -> dict[Any, Any]:
    shown = dict(zip(chooser.settings, chooser.choose(preset)[:-1], strict=True)) | changed
    return {"radio": preset} | {chooser.settings[key]: value for key, value in shown.items()}


@pytest.mark.parametrize("name", ["quick", "balanced", "thorough"])
def test_a_chosen_preset_fills_the_inputs_with_what_it_is(chooser: PresetHandlers, name: str) -> None:
    *shown, told = chooser.choose(name)
    values = dict(zip(chooser.settings, shown, strict=True))
    assert "You changed" not in told and told == chooser.describe(sent(chooser, name))
    preset = next(p for p in chooser.chooser.presets if p.name == name)
    assert TrainSettings.from_mapping(values) == preset.settings
    assert "You changed" not in chooser.describe(sent(chooser, name))


def test_what_a_person_changes_is_told(chooser: PresetHandlers) -> None:
    html = chooser.describe(sent(chooser, "quick", lora_rank="8", keep_best=False))
    assert "You changed 2 values:" in html
    assert "LoRA rank <s>16</s> <b>8</b>" in html and "Keep best <s>on</s> <b>off</b>" in html
    assert html.count("<dt ") == len(fields(TrainSettings)), "every value is explained"
    assert "Here: a third of the usual" in html
    assert "lora_rank=" in chooser.describe(sent(chooser, "quick", lora_rank="many"))


def test_an_unknown_preset_is_a_sentence(chooser: PresetHandlers) -> None:
    with pytest.raises(gr.Error, match="There is no preset"):
        chooser.choose("<b>")


def test_values_as_typed() -> None:
    assert [as_typed(value) for value in (0.0015, 3, (3.0, 2.0, 0.4), True, "adamw")] == [
        "0.0015",
        "3",
        "3, 2, 0.4",
        "on",
        "adamw",
    ]
    assert "<dl>" in preset_html(presets_for("demo")[1], TrainSettings())
