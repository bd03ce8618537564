"""The Predictor: orders, equality, adapters on the same weights, what it refuses, and threads."""

from __future__ import annotations

import json
import math
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from grounding import answering, engine
from grounding.adapters import AdapterInfo
from grounding.adapters.provenance import folder_sha256
from grounding.decoding.settings import Decoding
from grounding.decoding.text_model import TextModel
from grounding.errors import AdapterError, Cancelled, ModelError, PictureError, RecordError, SettingsError
from grounding.feature_store import FeatureStore
from grounding.formats import Frame
from grounding.models import DEMO_MODEL_FOLDER
from grounding.pictures import open_picture
from grounding.predict import Predictor
from grounding.records import MAX_PHRASE_CHARACTERS, Prediction, Status, check_phrase

MakeAdapter = Callable[..., Path]
Question = tuple[Path, str]
WEIGHTS = "adapter_model.safetensors"
FREE = Decoding(mode="free")


def said(predictions: Sequence[Prediction]) -> list[tuple[str, float | None]]:
    """What was answered, to compare: the text, and the confidence, which tells models apart that say the same."""
    return [(p.raw_text, None if p.confidence is None else round(p.confidence, 3)) for p in predictions]


@pytest.fixture
def pictures_encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures each image pass took, as they come."""
    counts: list[int] = []
    encode = engine.encode_images

    def counting(loaded: Any, images: Sequence[Image.Image]) -> list[engine.ImageFeatures]:
        counts.append(len(images))
        return encode(loaded, images)

    monkeypatch.setattr(engine, "encode_images", counting)
    return counts


@pytest.fixture
def short_answers(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers end after four tokens: their confidence tells the models apart all the same."""
    profile = replace(predictor.loaded.profile, max_new_tokens=4)
    monkeypatch.setattr(predictor, "loaded", replace(predictor.loaded, profile=profile))


@pytest.fixture(scope="module")
def base_answers(predictor: Predictor, questions: list[Question]) -> list[tuple[str, float | None]]:
    """The base's answers, asked one by one."""
    return said([predictor.predict(picture, phrase) for picture, phrase in questions])


# --- one, many and compare ---


def test_a_prediction_is_the_decoded_answer_of_the_engine(predictor: Predictor, questions: list[Question]) -> None:
    picture, phrase = questions[0]
    with Image.open(picture) as opened:
        features = engine.encode_images(predictor.loaded, [opened.convert("RGB")])
    (answer,) = engine.answer(predictor.loaded, features, [phrase])
    prediction = predictor.predict(picture, phrase)
    decoded = predictor.profile.box_format.decode(answer.text, Frame((256, 256)))
    assert prediction.raw_text == answer.text
    assert (prediction.boxes, prediction.status) == (decoded.boxes_xyxy_px, Status.OK)
    assert prediction.confidence == prediction.box_confidences[0]
    assert 0 < prediction.confidence < 1
    freely = predictor.predict(picture, phrase, decoding=FREE)
    assert freely.confidence == pytest.approx(answer.confidence)
    assert prediction.seconds > 0
    assert prediction.adapter is None


@pytest.mark.parametrize("batch_size", [None, 1, 3, 8, 100])
def test_many_answers_come_in_order_whatever_the_batch(
    predictor: Predictor, questions: list[Question], base_answers: list[Any], batch_size: int | None
) -> None:
    assert said(predictor.predict_many(questions, batch_size=batch_size)) == base_answers


def test_many_answers_of_nothing(predictor: Predictor) -> None:
    assert predictor.predict_many([]) == []


def test_the_same_picture_is_encoded_once_a_batch(
    predictor: Predictor, questions: list[Question], pictures_encoded: list[int]
) -> None:
    first, second = questions[0], questions[2]
    pairs = [first, second, (first[0], second[1]), (str(first[0]), first[1])]
    answers = said(predictor.predict_many(pairs))
    assert pictures_encoded == [2]
    assert answers[0] == answers[3] != answers[1]
    assert answers == said([predictor.predict(*pair) for pair in pairs])


def test_pictures_are_told_apart_by_object_not_by_looks(predictor: Predictor, questions: list[Question]) -> None:
    with Image.open(questions[0][0]) as one, Image.open(questions[2][0]) as other:
        opened = [one.convert("RGB"), other.convert("RGB")]
    phrase = questions[0][1]
    assert said(predictor.predict_many([(picture, phrase) for picture in opened])) == said(
        [predictor.predict(questions[0][0], phrase), predictor.predict(questions[2][0], phrase)]
    )


@pytest.mark.parametrize("kind", [str, Path, Image.open], ids=["text", "path", "picture"])
def test_a_picture_may_be_given_in_three_ways(
    predictor: Predictor, questions: list[Question], base_answers: list[Any], kind: Callable[[Path], Any]
) -> None:
    picture = kind(questions[0][0])
    assert said([predictor.predict(picture, questions[0][1])]) == base_answers[:1]
    if isinstance(picture, Image.Image):
        picture.close()


def test_boxes_are_in_pixels_of_the_original_picture(predictor: Predictor, questions: list[Question]) -> None:
    """The model sees a picture of 640 x 640 pixels at 256 x 256; the boxes are on the 640 x 640."""
    with Image.open(questions[1][0]) as opened:
        large = opened.convert("RGB").resize((640, 640))
    (box,) = predictor.predict(large, questions[1][1]).boxes
    (small,) = predictor.predict(questions[1][0], questions[1][1]).boxes
    assert tuple(box) == pytest.approx([value * 640 / 256 for value in small], abs=10)


def test_compare_answers_in_the_order_asked_from_one_image_pass(
    predictor: Predictor, questions: list[Question], make_adapter: MakeAdapter, pictures_encoded: list[int]
) -> None:
    make_adapter("order-a", seed=1)
    make_adapter("order-b", seed=2)
    asked = ["order-b", None, "order-a", None, "order-b"]
    compared = predictor.compare(*questions[0], asked)
    assert pictures_encoded == [1]
    assert [prediction.adapter for prediction in compared] == asked
    assert said(compared) == said([predictor.predict(*questions[0], name) for name in asked])
    assert len(set(said(compared))) == 3


def test_compare_without_adapters_asks_the_base(
    predictor: Predictor, questions: list[Question], base_answers: list[Any]
) -> None:
    assert said(predictor.compare(*questions[0])) == base_answers[:1]


# --- adapters ---


def test_an_adapter_changes_its_own_answers_and_never_the_bases(
    predictor: Predictor, questions: list[Question], base_answers: list[Any], make_adapter: MakeAdapter
) -> None:
    make_adapter("strange", seed=3)
    adapted = said(predictor.predict_many(questions, "strange"))
    assert all(ours != base for ours, base in zip(adapted, base_answers, strict=True))
    assert said(predictor.predict_many(questions)) == base_answers
    assert said(predictor.predict_many(questions, "strange")) == adapted


def test_an_adapter_answers_as_peft_itself_does(
    predictor: Predictor, questions: list[Question], make_adapter: MakeAdapter, lora_model: Any
) -> None:
    make_adapter("reference", seed=4)
    with_peft = replace(predictor.loaded, model=lora_model.base_model.model)
    for picture, phrase in questions[:3]:
        with Image.open(picture) as opened:
            features = engine.encode_images(with_peft, [opened.convert("RGB")])
        (expected,) = engine.answer(with_peft, features, [phrase])
        prediction = predictor.predict(picture, phrase, "reference", decoding=FREE)
        assert prediction.raw_text == expected.text
        assert prediction.confidence == pytest.approx(expected.confidence, abs=1e-4)


@pytest.mark.parametrize("name", ["tools.v1", "v1.2-final_3", "9"])
def test_names_that_a_folder_may_have(
    predictor: Predictor, questions: list[Question], make_adapter: MakeAdapter, name: str
) -> None:
    make_adapter(name, seed=5)
    assert predictor.predict(*questions[0], name).adapter == name


def test_an_adapter_may_be_named_by_its_folder(
    predictor: Predictor, questions: list[Question], make_adapter: MakeAdapter, tmp_path: Path
) -> None:
    elsewhere = shutil.copytree(make_adapter("here", seed=6), tmp_path / "elsewhere")
    assert said([predictor.predict(*questions[0], str(elsewhere))]) == said([predictor.predict(*questions[0], "here")])


def test_an_adapter_trained_anew_under_the_same_name_is_loaded_anew(
    predictor: Predictor, questions: list[Question], make_adapter: MakeAdapter
) -> None:
    make_adapter("again", seed=7)
    before = said([predictor.predict(*questions[0], "again")])
    make_adapter("again", seed=8)
    after = said([predictor.predict(*questions[0], "again")])
    make_adapter("other-name", seed=8)
    assert before != after == said([predictor.predict(*questions[0], "other-name")])


def test_an_adapter_that_is_replaced_or_gone_in_the_midst_of_a_call_ends_it(
    predictor: Predictor, questions: list[Question], make_adapter: MakeAdapter
) -> None:
    folder = make_adapter("meanwhile", seed=7)

    def ask(meanwhile: Callable[[], object]) -> None:
        predictor.predict_many(questions[:4], "meanwhile", batch_size=2, progress=lambda done, total: meanwhile())

    with pytest.raises(AdapterError, match="'meanwhile' was replaced by another while it answered"):
        ask(lambda: make_adapter("meanwhile", seed=8))
    with pytest.raises(AdapterError, match=r"'meanwhile' is not at .* any more"):
        ask(lambda: folder.rename(folder.with_name("meanwhile-renamed")))


def test_the_base_is_back_when_an_adapters_answer_fails(
    predictor: Predictor,
    questions: list[Question],
    base_answers: list[Any],
    make_adapter: MakeAdapter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_adapter("strange", seed=3)

    def fail(*arguments: Any, **settings: Any) -> None:
        raise RuntimeError("it failed")

    with monkeypatch.context() as patched:
        patched.setattr(answering, "generate", fail)
        with pytest.raises(RuntimeError, match="it failed"):
            predictor.predict(*questions[0], "strange", decoding=FREE)
    with monkeypatch.context() as patched:
        patched.setattr(TextModel, "extend", fail)
        with pytest.raises(RuntimeError, match="it failed"):
            predictor.predict(*questions[0], "strange")
    assert said([predictor.predict(*questions[0])]) == base_answers[:1]


@pytest.mark.parametrize(
    ("made_for", "told"),
    [
        pytest.param({"base": "Qwen/Qwen3-VL-2B-Instruct"}, "Qwen/Qwen3-VL-2B-Instruct", id="base"),
        pytest.param({"profile": "qwen3-vl"}, "profile qwen3-vl\\)", id="profile"),
    ],
)
def test_an_adapter_of_another_base_is_refused(
    predictor: Predictor, questions: list[Question], make_adapter: MakeAdapter, made_for: dict[str, str], told: str
) -> None:
    make_adapter("foreign", **made_for)
    with pytest.raises(AdapterError, match=f"'foreign' was trained on .*{told}.*the model here is demo"):
        predictor.predict(*questions[0], "foreign")


@pytest.mark.parametrize("decoding", [None, FREE], ids=["fast pass", "peft"])
def test_an_adapter_whose_base_was_changed_since_is_refused(
    predictor: Predictor, questions: list[Question], make_adapter: MakeAdapter, decoding: Decoding | None
) -> None:
    info = AdapterInfo.load(make_adapter("left-behind"))
    replace(info, base_sha256=folder_sha256(DEMO_MODEL_FOLDER)).save()
    predictor.predict(*questions[0], "left-behind", decoding=decoding)
    replace(info, base_sha256="0" * 64).save()
    with pytest.raises(
        AdapterError, match=r"base of 'left-behind' in .*base-model was changed since .*train the adapt"
    ):
        predictor.predict(*questions[0], "left-behind", decoding=decoding)


def test_an_unknown_adapter_names_those_that_stand(
    predictor: Predictor, questions: list[Question], make_adapter: MakeAdapter
) -> None:
    make_adapter("known-one")
    with pytest.raises(AdapterError, match=r"no adapter 'unknown'.*Adapters here: .*known-one"):
        predictor.predict(*questions[0], "unknown")


def test_an_unknown_adapter_where_none_stands(loaded: Any, questions: list[Question], tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="Adapters here: none yet"):
        Predictor(loaded, tmp_path).predict(*questions[0], "unknown")


def cut_in_half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def keep_weights(path: Path, count: int, suffix: str = "") -> None:
    weights = load_file(path)
    save_file({name + suffix: weights[name] for name in list(weights)[:count]}, path)


def put_into_weights(path: Path, value: float) -> None:
    weights = load_file(path)
    next(iter(weights.values()))[0, 0] = value
    save_file(weights, path)


def change_config(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda f: cut_in_half(f / WEIGHTS), id="weights cut short"),
        pytest.param(lambda f: (f / WEIGHTS).write_bytes(b""), id="weights empty"),
        pytest.param(lambda f: (f / WEIGHTS).unlink(), id="no weights"),
        pytest.param(lambda f: keep_weights(f / WEIGHTS, 10), id="some weights missing"),
        pytest.param(lambda f: keep_weights(f / WEIGHTS, 1000, "x"), id="weights of other names"),
        pytest.param(lambda f: put_into_weights(f / WEIGHTS, math.nan), id="a weight that is no number"),
        pytest.param(lambda f: put_into_weights(f / WEIGHTS, math.inf), id="an infinite weight"),
        pytest.param(lambda f: change_config(f / "adapter_config.json", r=8), id="another rank"),
        pytest.param(lambda f: change_config(f / "adapter_config.json", target_modules="nothing"), id="no target"),
        pytest.param(lambda f: change_config(f / "adapter_config.json", peft_type="NONSENSE"), id="no peft type"),
        pytest.param(lambda f: (f / "adapter_config.json").write_text("{"), id="config cut short"),
        pytest.param(lambda f: (f / "adapter_config.json").unlink(), id="no config"),
        pytest.param(lambda f: (f / "adapter.json").write_text("{"), id="manifest cut short"),
    ],
)
def test_a_damaged_adapter_is_told_in_a_sentence_and_leaves_the_model_as_it_was(
    predictor: Predictor,
    questions: list[Question],
    make_adapter: MakeAdapter,
    short_answers: None,
    damage: Callable[[Path], object],
    capfd: pytest.CaptureFixture[str],
) -> None:
    base = said([predictor.predict(*questions[0])])
    if not (predictor.registry.folder / "sound").exists():
        make_adapter("sound", seed=10)
    sound = said([predictor.predict(*questions[0], "sound")])
    damage(make_adapter("damaged", seed=11))
    for _ in range(2):  # the second time must not stumble over the remains of the first
        with pytest.raises(AdapterError, match="damaged") as caught:
            predictor.predict(*questions[0], "damaged")
        assert "\n" not in str(caught.value) and "rain " in str(caught.value)
    assert said([predictor.predict(*questions[0])]) == base
    assert said([predictor.predict(*questions[0], "sound")]) == sound
    make_adapter("damaged", seed=10)
    assert said([predictor.predict(*questions[0], "damaged")]) == sound
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("decoding", [Decoding(), FREE])
def test_an_adapter_of_other_numbers_never_answers_nor_spoils_the_base_beside_it(
    predictor: Predictor, questions: list[Question], make_adapter: MakeAdapter, short_answers: None, decoding: Decoding
) -> None:
    put_into_weights(make_adapter("nan", seed=11) / WEIGHTS, math.nan)
    with pytest.raises(AdapterError, match=r"'nan' at .*: some of its weights are no finite numbers\. .*rain it again"):
        predictor.compare_many(questions[:2], [None, "nan"], decoding=decoding)


@pytest.mark.parametrize("missing", [WEIGHTS, "adapter_config.json"])
@pytest.mark.parametrize("decoding", [Decoding(), FREE])
def test_an_incomplete_adapter_is_not_looked_for_on_the_hub(
    predictor: Predictor, questions: list[Question], make_adapter: MakeAdapter, missing: str, decoding: Decoding
) -> None:
    folder = make_adapter("half", seed=11)
    (folder / missing).unlink()
    with pytest.raises(AdapterError) as caught:
        predictor.predict(*questions[0], "half", decoding=decoding)
    assert str(caught.value).startswith(f"The adapter 'half' is incomplete: there is no {missing} in {folder}. ")


@pytest.mark.parametrize("decoding", [Decoding(), FREE, Decoding(samples=2), Decoding(mode="free", samples=2)])
def test_a_model_that_computes_no_numbers_says_so(
    predictor: Predictor, questions: list[Question], make_adapter: MakeAdapter, short_answers: None, decoding: Decoding
) -> None:
    """Each weight is a number, but what comes of them is none."""
    folder = make_adapter("huge", seed=11)
    weights = load_file(folder / WEIGHTS)
    save_file({name: weight * 1e30 for name, weight in weights.items()}, folder / WEIGHTS)
    base = said([predictor.predict(*questions[0])])
    with pytest.raises(ModelError, match="no finite numbers"):
        predictor.predict(*questions[0], "huge", decoding=decoding)
    assert said([predictor.predict(*questions[0])]) == base


def test_a_damaged_adapter_before_any_other(
    lora_model: Any, loaded: Any, adapters: Path, questions: list[Question], make_adapter: MakeAdapter
) -> None:
    """On a model that never had an adapter, a failed load leaves none, and the next one works."""
    from grounding.models import load_model

    fresh = Predictor(load_model("demo"), adapters)
    before = said([fresh.predict(*questions[0])])
    cut_in_half(make_adapter("first", seed=12) / WEIGHTS)
    with pytest.raises(AdapterError, match="'first'"):
        fresh.predict(*questions[0], "first")
    assert said([fresh.predict(*questions[0])]) == before
    make_adapter("first", seed=12)
    assert said([fresh.predict(*questions[0], "first")]) != before
    assert said([fresh.predict(*questions[0])]) == before


# --- what is refused ---


@pytest.mark.parametrize(
    ("phrase", "told"),
    [
        pytest.param("", "phrase is empty", id="empty"),
        pytest.param(" \t\n ", "phrase is empty", id="blanks"),
        pytest.param("x" * (MAX_PHRASE_CHARACTERS + 1), "501 characters; the limit is 500", id="too long"),
        pytest.param("dog \ud83d", "half a character", id="lone surrogate"),
    ],
)
def test_a_phrase_that_is_none(predictor: Predictor, questions: list[Question], phrase: str, told: str) -> None:
    with pytest.raises(RecordError, match=told):
        predictor.predict(questions[0][0], phrase)
    with pytest.raises(RecordError, match=told):
        predictor.compare(questions[0][0], phrase)
    with pytest.raises(RecordError, match=told):
        predictor.predict_many([questions[0], (questions[0][0], phrase)])


def test_blanks_in_a_phrase_do_not_count(
    predictor: Predictor, questions: list[Question], base_answers: list[Any]
) -> None:
    assert check_phrase("  left \n\t dog ") == "left dog"
    assert check_phrase("x" * MAX_PHRASE_CHARACTERS + " ") == "x" * MAX_PHRASE_CHARACTERS
    untidy = f"  {questions[0][1].replace(' ', '   ')}\n"
    assert said([predictor.predict(questions[0][0], untidy)]) == base_answers[:1]
    assert said(predictor.compare(questions[0][0], untidy)) == base_answers[:1]


@pytest.fixture(params=[True, False], ids=["features kept", "no features kept"])
def any_predictor(request: pytest.FixtureRequest, loaded: Any, tmp_path: Path) -> Predictor:
    return Predictor(loaded, tmp_path, features=FeatureStore(tmp_path / "features") if request.param else None)


def test_a_picture_that_is_not_there(any_predictor: Predictor, tmp_path: Path) -> None:
    """The same sentence as that of the command line, whether or not features are kept by content."""
    for path, told in ((tmp_path / "none.png", "There is no picture at"), (tmp_path, "is a folder: expected a pict")):
        with pytest.raises(PictureError) as caught:
            any_predictor.predict(path, "dog")
        with pytest.raises(PictureError) as opened:
            open_picture(path)
        assert str(caught.value) == str(opened.value)
        assert told in str(caught.value) and str(path) in str(caught.value)


def test_what_is_no_picture_at_all(any_predictor: Predictor, questions: list[Question]) -> None:
    with questions[0][0].open("rb") as file:
        for thing in (np.zeros((4, 4, 3), "uint8"), b"bytes", None, file, 5):
            with pytest.raises(PictureError, match=f"of the type {type(thing).__name__}: expected a path or an image"):
                any_predictor.predict(thing, "dog")  # type: ignore[arg-type]
    with pytest.raises(PictureError, match="null byte"):
        any_predictor.predict("a\0b.png", "dog")


@pytest.mark.parametrize("pairs", [["a.png"], [("a.png",)], [("a.png", "dog", "cat")], "ab", [5]])
def test_what_is_no_pair(predictor: Predictor, pairs: Any) -> None:
    with pytest.raises(SettingsError, match=r"is no question: expected a pair, \(picture, phrase\)"):
        predictor.predict_many(pairs)


@pytest.mark.parametrize("size", [2.5, True, "2", 0, -1])
def test_a_batch_size_that_is_none(predictor: Predictor, questions: list[Question], size: Any) -> None:
    with pytest.raises(SettingsError, match=r"batch_size=.* is no size: expected a whole number"):
        predictor.predict_many(questions[:1], batch_size=size)


@pytest.mark.parametrize("adapter", [5, 2.5, b"name", ["name"]])
def test_what_names_no_adapter(predictor: Predictor, questions: list[Question], adapter: Any) -> None:
    with pytest.raises(AdapterError, match="names no adapter: expected its name, its folder, or None"):
        predictor.predict(*questions[0], adapter)
    with pytest.raises(SettingsError, match="is no list: expected one"):
        predictor.compare_many(questions[:1], 5)  # type: ignore[arg-type]


def test_an_adapter_may_be_a_path(predictor: Predictor, questions: list[Question], make_adapter: MakeAdapter) -> None:
    folder: Any = make_adapter("by-path", seed=15)
    answer = predictor.predict(*questions[0], folder)
    assert answer.adapter == str(folder)
    assert said([answer]) == said([predictor.predict(*questions[0], "by-path")])


# --- progress, cancelling, threads ---


def test_a_further_predictor_waits_for_who_has_the_model(
    predictor: Predictor, questions: list[Question], make_adapter: MakeAdapter
) -> None:
    """It compares its pass with the model's own, which an adapter that is active would change."""
    info = predictor.registry.find(str(make_adapter("at-work", seed=3)))
    with ThreadPoolExecutor(1) as pool:
        with predictor.loaded.lock, predictor._answerer.adapters.using(info):
            further = pool.submit(Predictor, predictor.loaded, predictor.registry.folder)
            wait([further], timeout=1)
        assert further.result().load_notes == predictor.load_notes, "it answers by the fast pass, too"


def test_progress_is_told_after_every_batch(predictor: Predictor, questions: list[Question]) -> None:
    told: list[tuple[int, int]] = []
    predictor.predict_many(questions, batch_size=3, progress=lambda done, total: told.append((done, total)))
    assert told == [(3, 8), (6, 8), (8, 8)]


def test_cancelling_between_two_batches(predictor: Predictor, questions: list[Question]) -> None:
    told: list[int] = []
    with pytest.raises(Cancelled, match="after 3 of 8 phrases"):
        predictor.predict_many(
            questions, batch_size=3, progress=lambda done, total: told.append(done), cancelled=lambda: bool(told)
        )
    assert told == [3]


def test_cancelling_before_the_first_batch(
    predictor: Predictor, questions: list[Question], pictures_encoded: list[int]
) -> None:
    with pytest.raises(Cancelled, match="after 0 of 8"):
        predictor.predict_many(questions, cancelled=lambda: True)
    assert pictures_encoded == []


@pytest.mark.slow
def test_eight_threads_answer_as_one(
    predictor: Predictor, questions: list[Question], make_adapter: MakeAdapter
) -> None:
    """Base and two adapters asked at once, one by one, in batches and compared, give what each gives alone."""
    make_adapter("order-a", seed=1)
    make_adapter("order-b", seed=2)
    models = [None, "order-a", "order-b"]
    alone = {(i, m): said([predictor.predict(*questions[i], m)])[0] for i in range(2) for m in models}
    start = threading.Barrier(8)

    def ask(thread: int) -> list[tuple[Any, Any]]:
        start.wait()
        model = models[thread % 3]
        if thread == 6:
            answers = said(predictor.predict_many(questions[:2], model, batch_size=1))
            return [(answers[i], alone[i, model]) for i in range(2)]
        if thread == 7:
            answers = said(predictor.compare(*questions[0], models))
            return [(answers[i], alone[0, m]) for i, m in enumerate(models)]
        return [(said([predictor.predict(*questions[i], model)])[0], alone[i, model]) for i in range(2)]

    with ThreadPoolExecutor(8) as pool:
        for pairs in pool.map(ask, range(8)):
            for together, expected in pairs:
                assert together == expected


def test_adapters_do_not_disturb_one_another(
    predictor: Predictor, questions: list[Question], make_adapter: MakeAdapter, short_answers: None
) -> None:
    """Loading adapter 12 must leave adapter 1 as it was, in spite of how their names begin."""
    base = said([predictor.predict(*questions[0])])
    first = {}
    names = [f"many-{number}" for number in range(12)]
    for number, name in enumerate(names):
        make_adapter(name, seed=20 + number)
        first[name] = said([predictor.predict(*questions[0], name)])
    assert len({str(answer) for answer in first.values()}) == len(names)
    for name in names:
        assert said([predictor.predict(*questions[0], name)]) == first[name]
    assert said([predictor.predict(*questions[0])]) == base
