"""The endpoints for programs: what they give back, and what they refuse."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio.utils import get_upload_folder
from PIL import Image

from compared_samples import answered, keep, keep_two
from grounding.arena import Questions, VoteStore
from grounding.boxes import Box
from grounding.compared import Report, open_comparison
from grounding.compared.columns import DIMENSIONS
from grounding.errors import AdapterError, PictureError, RecordError, SettingsError, StoreError, WorkspaceError
from grounding.ui import api_records as records
from grounding.ui.api import Api, build_api
from grounding.ui.compare import MODEL_QUEUE
from grounding.ui.desk import Compare, Desk
from grounding.ui.events import tell_programs
from grounding.ui.scoreboard import Scoreboard
from grounding.ui.sources import Parts
from grounding.ui.whole_figures import faceted
from grounding.workspace import Workspace


@pytest.fixture
def api(parts: Parts) -> Api:
    return Api(parts)


@pytest.fixture
def two(workspace: Workspace) -> None:
    keep_two(workspace.evaluations)


def test_a_sample_is_asked_about_by_its_id(api: Api, add_adapter: Callable[..., None], predictor: Any) -> None:
    add_adapter("tools")
    first, second = api.compare("s0", "the red mug", [None, "tools"])
    assert first["boxes_xyxy_px"] == [[0.0, 0.0, 20.0, 20.0]] and second["boxes_xyxy_px"] == [[0.0, 0.0, 40.0, 40.0]]
    assert (first["adapter"], second["adapter"], first["status"]) == (None, "tools", "ok")
    assert api.predict("s0", "  the  red mug ", "tools") == second
    picture = api.samples("test", limit=1)[0]["image"]
    assert api.predict(picture, "the red mug") == first, "a picture's id will do"
    assert {phrase for phrase, _ in predictor.asked} == {"the red mug"}


def test_a_file_must_be_one_that_was_sent(api: Api, tmp_path: Path) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "mine.png")
    uploads = Path(get_upload_folder())
    uploads.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=uploads) as sent:
        Image.new("RGB", (40, 40)).save(Path(sent) / "sent.png")
        assert api.predict({"path": str(Path(sent) / "sent.png")}, "mug")["status"] == "ok"
        (Path(sent) / "link.png").symlink_to(tmp_path / "mine.png")
        ways = [tmp_path / "mine.png", Path(sent) / "link.png", Path(sent) / "../../../etc/passwd"]
        for image in [*({"path": str(way)} for way in ways), {"path": 7}, {}, None, 3, [], {"path": "a\0b"}]:
            with pytest.raises(PictureError, match="neither a file that was sent nor an id"):
                api.predict(image, "mug")  # type: ignore[arg-type]
    with pytest.raises(PictureError, match="no picture with the id"):
        api.predict(str(tmp_path / "mine.png"), "mug")


def test_a_probe_knows_what_a_samples_phrase_means(api: Api) -> None:
    probed = api.probe("s0", "the red mug", other="the absent dog")
    assert probed["verdict"] == "stays" and "does not follow the words" in probed["sentence"]
    assert [one["kind"] for one in probed["probes"]][-1] == "another sample's phrase"
    assert all(one["iou"] == 1.0 and not one["moved"] for one in probed["probes"])


def test_a_probe_says_what_the_page_says_of_the_same_sample(api: Api, parts: Parts, source: Any) -> None:
    # On the picture of s0 another thing has a phrase: its truth is known to both.
    source.samples.append(
        replace(source.samples[0], id="s4", phrase="the blue cup", boxes_xyxy_px=(Box(60, 50, 90, 75),))
    )
    page = Compare(parts, Scoreboard(parts))
    desk = Desk()
    page.pick(desk, "s0")
    list(page.ask(desk, "the red mug", (None,)))
    page.more(desk, "probes")
    assert desk.answered is not None and desk.answered.evidence.probes is not None
    (shown,) = desk.answered.evidence.probes
    assert shown is not None and shown.answers[-1].truth_iou == 0.0
    told = api.probe("s0", "the red mug")
    for one in [told, records.probed(shown)]:
        assert (one["probes"][-1]["phrase"], one["probes"][-1]["truth_iou"]) == ("the blue cup", 0.0)
    assert told == records.probed(shown)
    assert told["truth_iou"] == 0.25 and told["probes"][0]["truth_iou"] is None
    by_file = api.probe(source.samples[0].image.stem, "the red mug")
    assert by_file["truth_iou"] == 0.25 and by_file["probes"][-1]["phrase"] == "the blue cup"


def test_a_swapped_wording_means_what_another_sample_calls_so(api: Api, source: Any) -> None:
    left, right = Box(0, 0, 20, 20), Box(60, 50, 90, 75)
    one = replace(source.samples[0], id="left", phrase="the left mug", boxes_xyxy_px=(left,))
    source.samples[:] = [one, replace(one, id="right", phrase="The right  mug", boxes_xyxy_px=(right,))]
    swapped = next(p for p in api.probe("left", "the left mug")["probes"] if p["phrase"] == "the right mug")
    assert swapped["truth_iou"] is not None
    source.samples.append(replace(one, id="again", phrase="the right mug"))  # they don't agree
    swapped = next(p for p in api.probe("left", "the left mug")["probes"] if p["phrase"] == "the right mug")
    assert swapped["truth_iou"] is None


def test_another_wording_of_the_same_thing_is_not_foreign(api: Api, source: Any) -> None:
    """A good model stays with it, and would be told that it heeds no words."""
    mug, cup = Box(0, 0, 20, 20), Box(60, 50, 90, 75)
    one = replace(source.samples[0], id="mug", phrase="the red mug", boxes_xyxy_px=(mug,))
    again = replace(one, id="again", phrase="coffee", boxes_xyxy_px=(Box(0, 0, 20, 19),))
    source.samples[:] = [one, again, replace(one, id="cup", phrase="the red cup", boxes_xyxy_px=(cup,))]
    assert api.probe("mug", "the red mug")["probes"][-1]["phrase"] == "the red cup"
    # Asked with the words of another sample, one's own are foreign.
    assert api.probe("mug", "the red cup")["probes"][-1]["phrase"] == "coffee"
    far = source.samples[1].image.with_name("f" * 64 + ".png")
    source.samples[2:] = []
    assert "another sample's phrase" not in [probe["kind"] for probe in api.probe("mug", "the red mug")["probes"]]
    source.samples.append(replace(one, id="far", image=far, phrase="a tent"))
    assert api.probe("mug", "the red mug")["probes"][-1]["phrase"] == "a tent"


def test_who_chooses_the_foreign_phrase_is_heard(api: Api) -> None:
    kinds = [one["kind"] for one in api.probe("s0", "the red mug", other="")["probes"]]
    assert kinds == ["“the object” instead", "words shuffled"]
    assert api.probe("s0", "the red mug", other="")["verdict"] == "unknown"
    assert api.probe("s0", "the red mug", other=" a  lamp ")["probes"][-1]["phrase"] == "a lamp"
    with pytest.raises(SettingsError, match="other=3 is no text"):
        api.probe("s0", "the red mug", other=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("adapters", [[], [None] * 5, "tools", None, {}])
def test_too_many_models_or_none_are_refused(api: Api, adapters: Any) -> None:
    with pytest.raises(SettingsError, match="expected 1 to 4 names"):
        api.compare("s0", "mug", adapters)


def test_what_is_wrong_is_named(api: Api, add_adapter: Callable[..., None]) -> None:
    add_adapter("other", base="another/base")
    with pytest.raises(AdapterError, match="Adapters here: none yet"):
        api.predict("s0", "mug", "other")
    with pytest.raises(RecordError, match="phrase is empty"):
        api.predict("s0", "  ")
    with pytest.raises(StoreError, match="expected one of train, val, test"):
        api.samples("tset")
    with pytest.raises(SettingsError, match="limit=0 is out of range"):
        api.samples(limit=0)
    with pytest.raises(SettingsError, match="words=3 is no text"):
        api.samples(words=3)  # type: ignore[arg-type]
    for split in (["test"], {}):
        with pytest.raises(StoreError, match="There is no split"):
            api.samples(split)  # type: ignore[arg-type]
    assert api.samples(None, offset=10**30) == [], "there are not as many"


def test_samples_are_found_by_words(api: Api) -> None:
    assert [one["id"] for one in api.samples(None, "MUG")] == ["s0", "s3"]
    assert [one["id"] for one in api.samples(None, "mug", offset=1)] == ["s3"]
    assert api.samples(None, "left mug")[0]["boxes_xyxy_px"] == [[0.0, 0.0, 20.0, 20.0]]


@pytest.mark.usefixtures("two")
class TestEvaluations:
    def test_they_are_listed_with_their_figures(self, api: Api) -> None:
        newest, before = api.evaluations()
        assert (newest["id"], newest["adapter"], before["id"], before["adapter"]) == ("b", "tools", "a", None)
        headline = api.report("a", "b")["headline"]
        assert newest["accuracy_50"] == headline["scores"][1]["accuracy"]["0.5"]
        assert before["mean_iou"] == headline["differences"]["mean_iou"]["a"]
        assert before["samples"] == headline["count"]

    def test_a_filter_narrows_the_report(self, api: Api) -> None:
        report = api.report("a", "b", {"outcome": "loss"})
        losses = api.report("a", "b")["headline"]["outcomes"]["losses"]
        assert report["headline"]["outcomes"]["losses"] == report["headline"]["count"] == losses > 0
        with pytest.raises(RecordError, match="no filter 'self'"):
            api.report("a", "b", {"self": "a"})
        with pytest.raises(RecordError, match="no filter 'colour'"):
            api.report("a", "b", {"colour": "red"})
        with pytest.raises(SettingsError, match="is no filter"):
            api.report("a", "b", [])  # type: ignore[arg-type]

    def test_one_alone_has_intervals_of_its_own(self, api: Api) -> None:
        report = api.report("a")
        assert report["headline"]["outcomes"] is None and len(report["headline"]["estimates"]["accuracy_50"]) == 3

    def test_the_report_has_what_the_page_draws(self, api: Api, workspace: Workspace) -> None:
        told = api.report("a", "b")
        report = Report(open_comparison([workspace.evaluations / name for name in "ab"], workspace=workspace))
        page = faceted(report, exact=True)
        rows = {(row["dimension"], row["bucket"]): row for row in told["breakdowns"] if row["figure"] == "accuracy_50"}
        shown = {(name, one.name): one for name, found in page.breakdowns.items() for one in found if one.count}
        assert rows.keys() == shown.keys() and {name for name, _ in rows} == set(DIMENSIONS)
        for key, bucket in shown.items():
            shares = [scores.accuracy[0.5] for scores in bucket.scores]
            difference = bucket.differences["accuracy_50"]
            ends = [difference.difference, difference.low, difference.high]
            assert [rows[key][name] for name in ("a", "b", "difference", "low", "high")] == [*shares, *ends]
            assert rows[key]["samples"] == bucket.count
        for side, curve, calibration, chance in zip(
            "ab", report.curves(), report.calibrations(), page.headline.chances, strict=True
        ):
            points = [(one["threshold"], one["accuracy"]) for one in told["curves"] if one["side"] == side]
            assert points == list(zip(curve.thresholds, curve.accuracy, strict=True))
            bins = [one for one in told["calibrations"] if one["side"] == side]
            assert bins == [{"side": side, **asdict(one)} for one in calibration.bins]
            (entry,) = [one for one in told["chances"] if one["side"] == side]
            assert chance is not None and (entry["by_chance"], entry["samples"]) == (chance.share, chance.count)
        assert [one["sentence"] for one in told["chances"]] == [one.sentence for one in report.chances if one]
        assert all(one["low"] is not None for one in told["chances"])
        json.dumps(told, allow_nan=False)

    def test_lists_are_over_the_filtered_samples(self, api: Api) -> None:
        told = api.report("a", "b", {"box_size": "small"})
        assert {row["bucket"] for row in told["breakdowns"] if row["dimension"] == "box_size"} == {"small"}
        alone = api.report("a")
        assert {one["side"] for one in alone["curves"] + alone["calibrations"] + alone["chances"]} == {"a"}
        assert not any({"b", "difference"} & row.keys() for row in alone["breakdowns"])

    def test_the_worst_come_first(self, api: Api) -> None:
        worst = api.worst("a", "b", limit=5)
        ious = [one["answers"][1]["iou"] for one in worst]
        assert len(ious) == 5 and ious == sorted(ious)
        gains = [one["answers"][1]["iou"] - one["answers"][0]["iou"] for one in api.worst("a", "b", order="gain")]
        assert gains == sorted(gains, reverse=True)

    @pytest.mark.parametrize("name", ["../a", "/etc", "", 3, None, "c", "a/../b"])
    def test_only_an_evaluation_of_the_workspace_is_opened(self, api: Api, name: Any) -> None:
        with pytest.raises(WorkspaceError, match="evaluation"):
            api.report(name)


def test_the_arenas_votes_are_told(api: Api, workspace: Workspace, parts: Parts) -> None:
    sample = parts.source.get_sample("s0")
    kept = [
        keep(workspace.evaluations / name, [answered(sample, [Box(x, 0, x + 30, 30)])], adapter)
        for name, x, adapter in (("a", 0, None), ("b", 60, "tools"))
    ]
    assert api.arena("a", "b")["share_b"] is None
    votes = VoteStore(workspace.arena_db)
    question = Questions(open_comparison(kept, workspace=workspace), votes.secret, lambda _: True).next(votes, "ann")
    assert question is not None
    votes.cast(question, "left" if question.left == "b" else "right", "ann")
    told = api.arena("a", "b")
    assert (told["a"], told["b"], told["b_votes"], told["people"]) == ("base of demo", "tools on demo", 1, 1)
    assert told["share_b"] == 1.0 and told["interval"] == pytest.approx([0.2065, 1.0], abs=1e-4)


def test_suspects_come_with_what_is_suggested(api: Api, parts: Parts, workspace: Workspace) -> None:
    sample, elsewhere = parts.source.get_sample("s0"), Box(60, 50, 90, 75)
    for name in ("a", "b"):
        keep(workspace.evaluations / name, [answered(sample, [elsewhere])], None if name == "a" else "tools")
    (suspect,) = api.suspects("a", "b")
    assert suspect["kind"] == "box_elsewhere" and suspect["suggested_xyxy_px"] == [[60.0, 50.0, 90.0, 75.0]]
    assert suspect["sample"]["image"] == sample.image.stem


def test_errors_reach_a_program_as_plain_text(api: Api) -> None:
    with pytest.raises(gr.Error) as raised:
        tell_programs(api.predict)("s0", "mug", "none")
    assert raised.value.message == "There is no adapter 'none' for this model. Adapters here: none yet."


def test_what_asks_the_model_waits_in_its_queue(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    queues: dict[str, Any] = {}
    monkeypatch.setattr("grounding.ui.api._publish", lambda handler, queue: queues.update({handler.__name__: queue}))
    build_api(parts)
    assert {name for name, queue in queues.items() if queue == MODEL_QUEUE} == {"predict", "compare", "probe"}
    assert set(queues) == {name for name in vars(Api) if not name.startswith("_")}, "every method is published"
