"""Grounding DINO and MM-Grounding DINO: tiny random models of the stock classes, loaded the way real ones are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from grounding import engine, models
from grounding.adapters import AdapterInfo
from grounding.boxes import Box
from grounding.errors import BoxError, JobError, ModelError, PictureError
from grounding.families import all_profiles, family_of_type
from grounding.families.grounding_dino import caption
from grounding.models import LoadedModel, load_model
from grounding.predict import Predictor
from grounding.records import Sample, Status
from grounding.snapshots import Snapshot
from grounding.training import run
from grounding.training.settings import TrainSettings

KINDS = ("grounding-dino", "mm-grounding-dino")
MOST_TOKENS = 24
WORDS = ("the", "a", "red", "dog", "left", "cat", "on", "mug")
SWIN = {
    "model_type": "swin",
    "window_size": 7,
    "embed_dim": 8,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 1, 1],
    "image_size": 64,
    "out_indices": [2, 3, 4],
}
BERT = {
    "model_type": "bert",
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "max_position_embeddings": 64,
    "vocab_size": 1031,
}


def write_vocabulary(path: Path) -> None:
    """Words, letters and digits; the special tokens at BERT's own places, which the models know by number."""
    tokens = [f"[unused{index}]" for index in range(1031)]
    tokens[0] = "[PAD]"
    for index, token in enumerate(("[UNK]", "[CLS]", "[SEP]", "[MASK]")):
        tokens[100 + index] = token
    tokens[1012], tokens[1029], tokens[500], tokens[501] = ".", "?", "[", "]"
    for index, character in enumerate("abcdefghijklmnopqrstuvwxyz0123456789"):
        tokens[200 + index], tokens[300 + index] = character, f"##{character}"
    tokens[400 : 400 + len(WORDS)] = WORDS
    path.write_text("\n".join(tokens), encoding="utf-8")


def write_detector(kind: str, folder: Path) -> Path:
    import transformers

    prefix = {"grounding-dino": "GroundingDino", "mm-grounding-dino": "MMGroundingDino"}[kind]
    config = getattr(transformers, f"{prefix}Config")(
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_queries=30,
        encoder_n_points=2,
        decoder_n_points=2,
        backbone_config=transformers.SwinConfig(**SWIN),
        text_config=dict(BERT),
        max_text_len=MOST_TOKENS,
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{prefix}ForObjectDetection")(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "bbox_embed" in name:  # fresh ones give every query the same small box
                weight.copy_(torch.randn_like(weight) * 0.2)
    model.save_pretrained(folder)
    write_vocabulary(folder / "vocab.txt")
    tokenizer = transformers.BertTokenizer(str(folder / "vocab.txt"))
    image_processor = transformers.GroundingDinoImageProcessor(size={"shortest_edge": 80, "longest_edge": 128})
    transformers.GroundingDinoProcessor(image_processor, tokenizer).save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Case:
    kind: str
    folder: Path
    loaded: LoadedModel
    predictor: Predictor


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Case:
    folder = write_detector(request.param, tmp_path_factory.mktemp(request.param))
    loaded = load_model(str(folder))
    return Case(request.param, folder, loaded, Predictor(loaded, folder / "adapters"))


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randint(0, 256, (height, width, 3), generator=generator, dtype=torch.uint8)
    return Image.fromarray(noise.numpy())


def stock_answer(case: Case, image: Image.Image, text: str) -> list[tuple[list[float], float]]:
    """What the model card's own lines give: (box in pixels, score), best first."""
    from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

    processor = AutoProcessor.from_pretrained(case.folder)
    model = AutoModelForZeroShotObjectDetection.from_pretrained(case.folder).eval()
    inputs = processor(images=image, text=text, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    (result,) = processor.post_process_grounded_object_detection(
        outputs, inputs["input_ids"], threshold=0.0, text_threshold=0.0, target_sizes=[image.size[::-1]]
    )
    return sorted(zip(result["boxes"].tolist(), result["scores"].tolist(), strict=True), key=lambda pair: -pair[1])


def scored(case: Case, least: float) -> Predictor:
    """A predictor for which a box counts from this score on."""
    profile = replace(case.loaded.profile, min_score=least)
    return Predictor(replace(case.loaded, profile=profile), case.folder / "adapters")


def test_a_detector_is_loaded_as_the_stock_class(case: Case) -> None:
    expected = {"grounding-dino": "GroundingDinoForObjectDetection"}.get(case.kind, "MMGroundingDinoForObjectDetection")
    assert type(case.loaded.model).__name__ == expected
    assert type(case.loaded.processor).__name__ == "GroundingDinoProcessor"
    assert case.loaded.profile is all_profiles()[case.kind] is family_of_type(case.kind).profiles[0]
    assert case.loaded.processor.tokenizer.padding_side == "right"
    assert TrainSettings.from_mapping(case.loaded.profile.training_preset) == TrainSettings()


@pytest.mark.parametrize("size_wh", [(90, 70), (60, 140), (64, 64), (40, 120)])
def test_boxes_and_scores_are_those_of_the_stock_processor_and_model(case: Case, size_wh: tuple[int, int]) -> None:
    image = picture(*size_wh)
    expected = stock_answer(case, image, "the red dog.")
    features = engine.encode_images(case.loaded, [image])
    assert features[0].image_size_wh == size_wh
    assert features[0].pooled.shape == (3, *features[0].frame.seen_size_wh[::-1])
    (found,) = case.loaded.family.detect(case.loaded, features, ["The RED dog"])  # type: ignore[attr-defined]
    assert len(found) == 20 < len(expected)
    assert [score for _, score in found] == pytest.approx([score for _, score in expected[:20]], abs=1e-5)
    for (box, _), (stock_box, _) in zip(found, expected, strict=False):
        assert list(box) == pytest.approx(stock_box, abs=1e-2)


def test_pictures_of_mixed_sizes_in_one_call_are_answered_as_alone(case: Case) -> None:
    """Padded to one size they would not be: the last lines show by how much."""
    images = [picture(90, 70, 1), picture(60, 140, 2), picture(90, 70, 3), picture(128, 128, 4)]
    pairs = [(image, phrase) for image in images for phrase in ("dog", "the red mug on the left")]
    predictor = scored(case, 0.0)
    together = predictor.predict_many(pairs)
    alone = [predictor.predict(image, phrase) for image, phrase in pairs]
    assert len({answer.raw_text for answer in together}) > 4
    for one, other in zip(together, alone, strict=True):
        scores = [entry["score"] for entry in json.loads(one.raw_text)]
        assert scores == pytest.approx([entry["score"] for entry in json.loads(other.raw_text)], abs=2e-4)
        assert one.status == other.status
    inputs = case.loaded.processor(images=images[:2], text=["dog."] * 2, return_tensors="pt")
    with torch.no_grad():
        padded = case.loaded.model(**inputs).logits.sigmoid().amax(-1)[0].sort(descending=True).values
    expected = [score for _, score in stock_answer(case, images[0], "dog.")]
    assert padded.tolist() != pytest.approx(expected, abs=1e-2)


def test_more_questions_than_fit_into_a_pass(case: Case) -> None:
    image = picture(90, 70)
    phrases = [" ".join(["the", "red", *["left"] * n, "dog"]) for n in range(11)]
    answers = scored(case, 0.0).predict_many([(image, phrase) for phrase in phrases])
    for phrase, answer in list(zip(phrases, answers, strict=True))[::5]:
        best = stock_answer(case, image, f"{phrase}.")[0]
        assert json.loads(answer.raw_text)[0]["score"] == pytest.approx(best[1], abs=2e-4)


def test_the_least_score_decides_what_counts(case: Case) -> None:
    image = picture(90, 70)
    stock = stock_answer(case, image, "dog.")
    between = (stock[2][1] + stock[3][1]) / 2
    some = scored(case, between).predict(image, "dog")
    assert some.status is Status.OK
    assert len(json.loads(some.raw_text)) == 3
    assert some.confidence == pytest.approx(some.box_confidences[0])
    assert list(some.box_confidences) == sorted(some.box_confidences, reverse=True)
    none = scored(case, 1.01).predict(image, "dog")
    assert (none.status, none.boxes_xyxy_px, none.raw_text, none.confidence) == (Status.NO_BOX, (), "[]", None)


def test_boxes_are_clipped_to_the_picture(case: Case) -> None:
    width, height = 90, 70
    image = picture(width, height)
    stock = [box for box, _ in stock_answer(case, image, "dog.")[:20]]
    assert any(min(box) < 0 or box[2] > width or box[3] > height for box in stock), "some leave the picture"
    answer = scored(case, 0.0).predict(image, "dog")
    expected: list[Box] = []
    for numbers in stock:
        try:
            expected.append(Box.from_numbers(numbers).clip((width, height)))
        except BoxError:  # wholly outside
            continue
    assert len(answer.boxes_xyxy_px) == len(set(answer.boxes_xyxy_px)) == len(expected)
    for box, other in zip(answer.boxes_xyxy_px, expected, strict=True):
        assert tuple(box) == pytest.approx(tuple(other), abs=1e-2)
        assert 0 <= box.x1 < box.x2 <= width and 0 <= box.y1 < box.y2 <= height


@pytest.mark.parametrize("adapters", [["tuned"], [None, "tuned"]], ids=["alone", "beside the base"])
def test_an_adapter_is_refused_in_a_sentence(case: Case, adapters: Sequence[str | None]) -> None:
    folder = case.folder / "adapters" / "tuned"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"")
    AdapterInfo("tuned", folder, str(case.folder), case.kind, created_at="2026-11-22T10:00:00+00:00").save()
    with pytest.raises(ModelError, match=r"is a detector: it takes no adapter\. Ask it without one\.$"):
        case.predictor.compare(picture(90, 70), "dog", adapters)


def test_compare_and_the_way_of_decoding(case: Case) -> None:
    image = picture(90, 70)
    (compared,) = case.predictor.compare(image, "dog")
    drawn = case.predictor.predict(image, "dog", decoding=replace(case.predictor.decoding, samples=3))
    assert compared.raw_text == case.predictor.predict(image, "dog").raw_text
    assert compared.adapter is None
    assert replace(drawn, seconds=0.0) == replace(compared, seconds=0.0), "there is nothing to vote on"
    assert case.predictor.load_notes == case.loaded.notes, "nothing is said of slow decoding"


def test_a_detector_writes_no_text(case: Case) -> None:
    with pytest.raises(ModelError, match="is a detector"):
        engine.text_family(case.loaded)
    with pytest.raises(ModelError, match="is for detectors: they write no boxes as text"):
        _ = case.loaded.profile.text_format


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("dog", "dog."),
        ("  The Dog. ", "the dog."),
        ("no. 5 on the U.S. mug?", "no 5 on the u s mug."),
        ("a dog. a cat", "a dog a cat."),
        ("[SEP] dog [CLS]", "[sep] dog [cls]."),
        ("...", "."),
        ("dog {phrase} <|x|>", "dog {phrase} < |x|>."),
    ],
)
def test_a_phrase_becomes_one_label(case: Case, phrase: str, expected: str) -> None:
    assert caption(case.loaded, phrase) == expected


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=120))
def test_any_phrase_ends_the_label_once_and_fits(phrase: str) -> None:
    tokenizer = _tokenizer()
    loaded: Any = SimpleNamespace(
        profile=all_profiles()["grounding-dino"],
        processor=SimpleNamespace(tokenizer=tokenizer),
        model=SimpleNamespace(config=SimpleNamespace(max_text_len=MOST_TOKENS)),
    )
    ids = tokenizer(caption(loaded, phrase))["input_ids"]
    assert len(ids) <= MOST_TOKENS
    assert [token for token in ids if token in (101, 102, 1012, 1029)] == [101, 1012, 102]
    assert ids[-2:] == [1012, 102]


_TOKENIZERS: list[Any] = []


def _tokenizer() -> Any:
    if not _TOKENIZERS:
        import tempfile

        from transformers import BertTokenizer

        with tempfile.TemporaryDirectory() as folder:
            write_vocabulary(Path(folder) / "vocab.txt")
            _TOKENIZERS.append(BertTokenizer(str(Path(folder) / "vocab.txt")))
    return _TOKENIZERS[0]


def test_a_phrase_longer_than_the_model_takes_is_answered(case: Case) -> None:
    answer = case.predictor.predict(picture(90, 70), "red dog " * 40)
    cut = " ".join(["red dog"] * 11)[: len("red dog " * 10) + 3]
    assert caption(case.loaded, "red dog " * 40) == f"{cut}."
    assert answer.status in (Status.OK, Status.NO_BOX, Status.DEGENERATE)


@pytest.mark.parametrize("size_wh", [(2001, 2), (1, 1001)])
def test_a_mere_strip_is_refused_in_a_sentence(case: Case, size_wh: tuple[int, int]) -> None:
    with pytest.raises(PictureError, match=r"more than 1000 times the shorter one\. Crop it\.$"):
        case.predictor.predict(Image.new("RGB", size_wh), "dog")


def test_a_detector_is_computed_in_float32_where_others_are_not(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = ("cpu", torch.bfloat16, ["cpu: it was asked for.", "bfloat16: the GPU computes in it at full speed."])
    monkeypatch.setattr(models, "choose_device", lambda *given: (*chosen[:2], list(chosen[2])))
    again = load_model(str(case.folder))
    assert {weight.dtype for weight in again.model.parameters()} == {torch.float32}
    assert again.notes[0] == chosen[2][0]
    assert again.notes[1].startswith("float32: ")


@pytest.mark.parametrize("quantize", ["4bit", "8bit"])
def test_a_detector_is_not_quantised(case: Case, quantize: str) -> None:
    again = load_model(str(case.folder), quantize=quantize)
    assert again.quantize == "none"
    assert again.notes[-1].startswith(f"Full precision instead of {quantize}: a detector is small")
    assert {weight.dtype for weight in again.model.parameters()} == {torch.float32}


def test_a_detector_is_not_trained(case: Case, tmp_path: Path) -> None:
    sample = Sample("s", tmp_path / "p.png", "dog", (Box(1, 1, 9, 9),), "train")
    plan = run.TrainPlan(
        "x", Snapshot("tiny", tmp_path, "0" * 64, (sample,)), str(case.folder), "none", TrainSettings(), tmp_path / "x"
    )
    with pytest.raises(JobError, match=r"can't be trained here: its profile '.*' names no layers\.$"):
        run.train(plan, lambda event: None, lambda: False)


@pytest.mark.parametrize("kind", KINDS)
def test_it_shows_its_words_and_says_why_it_has_no_heat(kind: str, tmp_path: Path) -> None:
    predictor = Predictor(load_model(str(write_detector(kind, tmp_path / kind))), tmp_path / "adapters")
    picture = Image.new("RGB", (64, 48), "grey")
    prompt = predictor.prompt(picture, "The RED dog?")
    assert prompt.text == "the red dog."
    assert [token.text for token in prompt.tokens] == ["[CLS]", "the", "red", "dog", ".", "[SEP]"]
    (heat,) = predictor.heat(picture, "the red dog")
    assert heat.boxes == ()
    assert "is a detector" in heat.reason
