"""Ways of answering: drawn answers, votes, kept features, calibration, threads, pictures of every mode."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from grounding import engine
from grounding.boxes import Box
from grounding.calibration import Calibration
from grounding.decoding.settings import Decoding
from grounding.errors import ModelError, PictureError, RecordError, SettingsError
from grounding.feature_store import FeatureStore
from grounding.predict import Predictor
from grounding.records import Prediction, Sample, Status

MakeAdapter = Callable[..., Path]
Question = tuple[Path, str]
EXIF_ORIENTATION = 0x0112


def said(answers: Sequence[Prediction]) -> list[tuple[Any, ...]]:
    return [
        (a.raw_text, a.boxes_xyxy_px, a.status, None if a.confidence is None else round(a.confidence, 3))
        for a in answers
    ]


def drawn(seed: int, temperature: float = 0.7, samples: int = 3, **more: Any) -> Decoding:
    return Decoding(samples=samples, temperature=temperature, seed=seed, **more)


# --- settings ---


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "free-ish"},
        {"coordinates": "mean"},
        {"choose": "first"},
        {"samples": 0},
        {"samples": 65},
        {"samples": 2.0},
        {"samples": True},
        {"samples": "5"},
        {"max_boxes": 0},
        {"max_boxes": 101},
        {"temperature": 0.0},
        {"temperature": 2.01},
        {"temperature": float("nan")},
        {"temperature": "hot"},
        {"temperature": None},
        {"temperature": True},
        {"seed": -1},
        {"seed": 1.5},
        {"seed": "x"},
        {"seed": 2**64},
        {"mode": "free", "coordinates": "expected"},
    ],
    ids=str,
)
def test_a_setting_out_of_its_range_is_refused(wrong: dict[str, Any]) -> None:
    (name, value), *_ = wrong.items()
    with pytest.raises(SettingsError, match=rf"{name}|coordinates"):
        Decoding(**wrong)
    with pytest.raises(SettingsError):
        Decoding.from_json(Decoding().to_json() | wrong)
    assert value is wrong[name]


def test_settings_come_back_from_json() -> None:
    how = drawn(7, 1.25, 5, choose="rerank", max_boxes=3, coordinates="expected")
    assert Decoding.from_json(how.to_json()) == how
    assert Decoding.from_json({}) == Decoding()
    with pytest.raises(SettingsError, match="'beams' is no decoding setting"):
        Decoding.from_json({"beams": 3})


# --- drawn answers ---


@pytest.fixture(scope="module")
def vague(questions: list[Question]) -> list[Question]:
    """Phrases that may mean several things."""
    return [(questions[0][0], "left dog"), (questions[1][0], questions[1][1]), (questions[2][0], "the red one")]


@pytest.mark.parametrize("mode", ["forced", "free"])
def test_the_same_seed_draws_the_same(predictor: Predictor, vague: list[Question], mode: str) -> None:
    answers = [said(predictor.predict_many(vague, decoding=drawn(seed, 1.5, mode=mode))) for seed in (1, 1, 2, 3)]
    assert answers[0] == answers[1]
    assert len({str(one) for one in answers}) > 1


def test_drawn_answers_hardly_warmed_are_the_greedy_ones(predictor: Predictor, questions: list[Question]) -> None:
    greedy = predictor.predict_many(questions[:4])
    cold = predictor.predict_many(questions[:4], decoding=drawn(5, 1e-3))
    assert [(a.raw_text, a.status) for a in cold] == [(a.raw_text, a.status) for a in greedy]
    assert [a.confidence for a in cold] == [1.0] * 4  # all three agree
    for one, other in zip(cold, greedy, strict=True):
        assert [value for box in one.boxes for value in box] == pytest.approx([v for box in other.boxes for v in box])


def test_five_answers_vote(predictor: Predictor, vague: list[Question], monkeypatch: pytest.MonkeyPatch) -> None:
    from grounding import predict

    ballots: list[list[Any]] = []
    vote = predict.vote
    monkeypatch.setattr(predict, "vote", lambda candidates: (ballots.append(list(candidates)), vote(candidates))[1])
    answers = predictor.predict_many(vague, decoding=drawn(3, 1.5, 5))
    assert [len(ballot) for ballot in ballots] == [5, 5, 5]
    assert any(len({c.boxes_xyxy_px for c in ballot}) > 1 for ballot in ballots)
    for answer, ballot in zip(answers, ballots, strict=True):
        choice = vote(ballot)
        assert (answer.boxes_xyxy_px, answer.status) == (choice.boxes_xyxy_px, choice.status)
        assert answer.confidence == choice.agreement
        assert answer.box_confidences == (choice.agreement,) * len(choice.boxes_xyxy_px)


def test_rerank_takes_what_the_scorer_likes(predictor: Predictor, questions: list[Question]) -> None:
    asked: list[tuple[tuple[int, int], int, str]] = []

    def smallest_x(picture: Image.Image, boxes: Sequence[Box], phrase: str) -> list[float]:
        asked.append((picture.size, len(boxes), phrase))
        return [-box.x1 for box in boxes]

    how = drawn(3, 2.0, 6, choose="rerank", max_boxes=1)
    ranked = Predictor(predictor.loaded, predictor.registry.folder, scorer=smallest_x)
    (answer,) = ranked.predict_many(questions[:1], decoding=how)
    features = ranked._look_at({0: questions[0][0]}, lambda: None)[0]
    from grounding.answering import Ask

    (candidates,) = ranked._answerer.sample([Ask(features, questions[0][1])], how)
    boxes = [box for one in candidates for box in one.decoded.boxes_xyxy_px]
    assert len(set(boxes)) > 1
    assert asked == [((256, 256), len(boxes), questions[0][1])]
    assert answer.boxes_xyxy_px == (min(boxes, key=lambda box: box.x1),)


def test_rerank_without_a_scorer_is_refused_before_anything_is_done(
    predictor: Predictor, questions: list[Question], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "encode_images", lambda *_: pytest.fail("a picture was looked at"))
    with pytest.raises(SettingsError, match="needs a scorer"):
        predictor.predict(*questions[0], decoding=drawn(1, choose="rerank"))


# --- kept features ---


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures each vision pass took."""
    counts: list[int] = []
    encode = engine.encode_images
    monkeypatch.setattr(engine, "encode_images", lambda *a: (counts.append(len(a[1])), encode(*a))[1])
    return counts


def test_a_picture_is_looked_at_once_for_all_who_share_a_folder(
    predictor: Predictor, questions: list[Question], tmp_path: Path, looks: list[int]
) -> None:
    questions = list({picture: (picture, phrase) for picture, phrase in questions}.values())
    plain = said(predictor.predict_many(questions[:4]))
    looks.clear()
    adapters = predictor.registry.folder
    first, second = (Predictor(predictor.loaded, adapters, features=FeatureStore(tmp_path / "kept")) for _ in range(2))
    assert said(first.predict_many(questions[:4])) == plain
    assert looks == [4]
    assert said(first.predict_many(questions[:4])) == said(second.predict_many(questions[:4])) == plain
    assert looks == [4]
    assert said(second.predict_many(questions[2:5]))[:2] == plain[2:]
    assert looks == [4, 1]


def test_an_opened_picture_has_features_of_its_own(
    predictor: Predictor, questions: list[Question], tmp_path: Path, looks: list[int]
) -> None:
    keeping = Predictor(predictor.loaded, tmp_path, features=FeatureStore(tmp_path / "kept"))
    with Image.open(questions[0][0]) as opened:
        picture = opened.convert("RGB")
    phrase = questions[0][1]
    answers = said([keeping.predict(picture, phrase), keeping.predict(picture.copy(), phrase)])
    assert looks == [1]
    assert answers[0] == answers[1]
    picture.paste((255, 0, 0), (0, 0, 128, 128))
    keeping.predict(picture, phrase)
    assert looks == [1, 1]


@pytest.mark.parametrize("changed", ["budget", "model", "nothing"])
def test_what_changes_the_features_changes_their_key(
    predictor: Predictor, questions: list[Question], tmp_path: Path, looks: list[int], changed: str
) -> None:
    loaded, store = predictor.loaded, FeatureStore(tmp_path / "kept")
    Predictor(loaded, tmp_path, features=store).predict(*questions[0])
    if changed == "budget":
        loaded = replace(loaded, profile=replace(loaded.profile, pixel_budget=(4096, 32768)))
    elif changed == "model":
        loaded = replace(loaded, fingerprint="of other files")
    Predictor(loaded, tmp_path, features=store).predict(*questions[0])
    assert looks == ([1] if changed == "nothing" else [1, 1])


def test_damaged_features_are_made_anew(
    predictor: Predictor, questions: list[Question], tmp_path: Path, looks: list[int]
) -> None:
    keeping = Predictor(predictor.loaded, tmp_path, features=FeatureStore(tmp_path / "kept"))
    before = said([keeping.predict(*questions[0])])
    (file,) = (tmp_path / "kept").glob("*/*.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    assert said([keeping.predict(*questions[0])]) == before
    assert looks == [1, 1]


def test_a_picture_that_is_replaced_before_it_is_looked_at_leaves_no_features_under_the_name_of_the_old_one(
    predictor: Predictor, questions: list[Question], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first, phrase), (second, _) = questions[0], next(one for one in questions if one[0] != questions[0][0])
    path = tmp_path / "picture.png"
    shutil.copy(first, path)
    store = FeatureStore(tmp_path / "kept")
    keeping = Predictor(predictor.loaded, tmp_path, features=store)
    with monkeypatch.context() as patch:
        patch.setattr(store, "get", lambda key: shutil.copy(second, path) and None)  # it has its name already
        assert said([keeping.predict(path, phrase)]) == said([predictor.predict(second, phrase)])
    shutil.copy(first, path)
    assert said([keeping.predict(path, phrase)]) == said([predictor.predict(first, phrase)])


# --- calibration ---


def test_calibrating_gives_confidences_that_fit(
    loaded: Any, predictor: Predictor, demo_samples: dict[str, list[Sample]], tmp_path: Path
) -> None:
    own = Predictor(replace(predictor.loaded, calibration=None), tmp_path)
    named = [replace(s, phrase=f"the {s.category}") for s in demo_samples["train"] if len(s.boxes_xyxy_px) == 1]
    wrong = [replace(s, boxes_xyxy_px=(Box(0, 0, 3, 3),)) for s in named[:3]]
    nothing = [replace(named[0], boxes_xyxy_px=())]
    told: list[tuple[int, int]] = []
    before = own.predict_many([(s.image, s.phrase) for s in named])
    calibration = own.calibrate([*named, *wrong, *nothing], progress=lambda *step: told.append(step))
    assert told == [(len(named) + 3, len(named) + 3)]
    boxes = sum(answer.status is Status.OK for answer in before)
    of_wrong = sum(answer.status is Status.OK for answer in before[:3])
    assert calibration.samples == boxes + of_wrong
    assert own.loaded.calibration == calibration != loaded.calibration
    after = own.predict_many([(s.image, s.phrase) for s in named])
    assert [a.boxes_xyxy_px for a in after] == [b.boxes_xyxy_px for b in before]
    assert any(a.confidence != b.confidence for a, b in zip(after, before, strict=True))
    # Measuring is not swayed by an earlier calibration.
    again = own.calibrate([*named, *wrong])
    assert again == calibration


def test_calibrating_names_a_sample_that_can_not_be_asked(
    predictor: Predictor, demo_samples: dict[str, list[Sample]], tmp_path: Path
) -> None:
    own = Predictor(predictor.loaded, tmp_path)
    good = [sample for sample in demo_samples["train"] if len(sample.boxes_xyxy_px) == 1]
    for bad in (replace(good[0], id="odd", image=tmp_path / "none.png"), replace(good[0], id="odd", phrase=" ")):
        with pytest.raises((PictureError, RecordError), match="The sample odd can't be scored"):
            own.calibrate([*good, bad], progress=lambda *_: pytest.fail("the model was asked"))


def test_calibrating_on_nothing_says_so(predictor: Predictor, tmp_path: Path) -> None:
    own = Predictor(predictor.loaded, tmp_path)
    with pytest.raises(ModelError, match="nothing to calibrate"):
        own.calibrate([])
    none = Sample("s", tmp_path / "a.png", "mug", ())
    with pytest.raises(ModelError, match="None of the 1 samples has exactly one true box"):
        own.calibrate([none])
    assert isinstance(Calibration(0, 1, 0, 0, 0), Calibration)


# --- threads ---


@pytest.mark.slow
def test_eight_threads_compare_as_one(
    predictor: Predictor, questions: list[Question], make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    """Base and two adapters in one call, forced, free and drawn, out of eight threads and one store."""
    make_adapter("thread-a", seed=1)
    make_adapter("thread-b", seed=2)
    models, few = [None, "thread-a", "thread-b"], questions[:2]
    ways = [
        Decoding(max_boxes=2),
        Decoding(mode="free"),
        drawn(4, max_boxes=1),
        Decoding(coordinates="expected", max_boxes=2),
    ]
    own = Predictor(predictor.loaded, predictor.registry.folder, features=FeatureStore(tmp_path / "kept"))
    alone = [[said(row) for row in own.compare_many(few, models, decoding=how)] for how in ways]
    start = threading.Barrier(8)

    def ask(thread: int) -> bool:
        start.wait()
        rows = own.compare_many(few, models, decoding=ways[thread % 4])
        return [said(row) for row in rows] == alone[thread % 4]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [True] * 8


# --- pictures as people see them ---


@pytest.fixture(scope="module")
def upright(questions: list[Question], oblong_picture: Image.Image) -> tuple[Image.Image, str]:
    return oblong_picture, questions[0][1]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("opened", [False, True])
def test_a_turned_photo_is_answered_upright(
    predictor: Predictor, upright: tuple[Image.Image, str], tmp_path: Path, orientation: int, opened: bool
) -> None:
    """The file holds other pixels and says how to turn them: the boxes are on the picture as people see it."""
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Transpose methods that undo each orientation's turning
    picture, phrase = upright
    expected = predictor.predict(picture, phrase)
    stored = picture if orientation == 1 else picture.transpose(Image.Transpose(turns[orientation]))
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    path = tmp_path / "turned.png"
    stored.save(path, exif=exif)
    with Image.open(path) as again:
        answer = predictor.predict(again if opened else path, phrase)
    assert said([answer]) == said([expected])


def test_a_turned_jpeg_is_answered_upright(
    predictor: Predictor, upright: tuple[Image.Image, str], tmp_path: Path
) -> None:
    picture, phrase = upright
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", quality=100, subsampling=0, exif=exif)
    picture.save(tmp_path / "upright.jpg", quality=100, subsampling=0)
    turned, plain = (predictor.predict(tmp_path / name, phrase) for name in ("turned.jpg", "upright.jpg"))
    assert turned.status == plain.status
    for one, other in zip(turned.boxes, plain.boxes, strict=True):
        assert tuple(one) == pytest.approx(tuple(other), abs=6)
        assert one.x2 <= 192 and one.y2 <= 256


def in_mode(picture: Image.Image, mode: str) -> Image.Image:
    """The same picture to the eye."""
    if mode == "I;16":
        grey = picture.convert("L")
        return Image.frombytes("I;16", grey.size, b"".join(bytes((0, value)) for value in grey.tobytes()))
    return picture.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "CMYK", "LA", "I;16", "P", "L"])
def test_pictures_of_every_mode(
    predictor: Predictor, upright: tuple[Image.Image, str], tmp_path: Path, mode: str
) -> None:
    """As a file and opened, each is answered as the plain colours that people see."""
    picture, phrase = upright
    converted = in_mode(picture, mode)
    suffix = ".tif" if mode == "CMYK" else ".png"
    converted.save(tmp_path / f"picture{suffix}")
    if mode.startswith("P"):  # a palette is put in order when it is saved
        with Image.open(tmp_path / "picture.png") as saved:
            saved.load()
            converted = saved.copy()
    grey = mode in ("LA", "I;16", "L")
    seen = picture.convert("L").convert("RGB") if grey else converted.convert("RGBA").convert("RGB")
    expected = predictor.predict(seen, phrase)
    assert said([predictor.predict(tmp_path / f"picture{suffix}", phrase)]) == said([expected])
    assert said([predictor.predict(converted, phrase)]) == said([expected])
    if mode in ("RGBA", "CMYK"):
        assert said([expected]) == said([predictor.predict(picture, phrase)])


def test_a_strip_is_refused(predictor: Predictor) -> None:
    with pytest.raises(PictureError, match="200 times"):
        predictor.predict(Image.new("RGB", (4, 900)), "dog")


def test_a_strip_in_a_file_is_named(predictor: Predictor, tmp_path: Path) -> None:
    Image.new("RGB", (4, 900)).save(tmp_path / "strip.png")
    with pytest.raises(PictureError, match=r"^strip\.png can't be asked about\. The picture has 4 x 900 pixels"):
        predictor.predict(tmp_path / "strip.png", "dog")


def test_what_is_drawn_does_not_depend_on_the_batch(predictor: Predictor, questions: list[Question]) -> None:
    def seen(prediction: Prediction) -> tuple[str, list[tuple[float, ...]]]:
        return prediction.raw_text, [box.rounded(1) for box in prediction.boxes]

    hot = drawn(3, 2.0)
    together = predictor.predict_many(questions, decoding=hot)
    assert [seen(p) for p in together] == [seen(predictor.predict(*question, decoding=hot)) for question in questions]
