"""The family that docs/add-a-family.md writes down works as it stands: registered, and dropped into the folder."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

import grounding
from grounding import families
from grounding.boxes import Box
from grounding.decoding.settings import Decoding
from grounding.errors import ModelError
from grounding.formats import Frame
from grounding.models import load_model
from grounding.profiles import profile_for
from grounding.records import Status
from grounding.training.batches import BranchBuilder

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "add-a-family.md").read_text(encoding="utf-8")
PHRASES = ("the dog", "left mug", "the red car ; 2nd", "<image> a cup </s>")
TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'user' %}USER: {% for part in message.content %}"
    "{% if part.type == 'image' %}<image>\n{% else %}{{ part.text }}{% endif %}{% endfor %} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def code_of_the_page() -> str:
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(block)


@pytest.fixture(scope="module")
def family_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    path = tmp_path_factory.mktemp("own") / "family_of_the_page.py"
    path.write_text(code_of_the_page(), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[path.stem]


@pytest.fixture
def registered(family_module: ModuleType) -> Iterator[Any]:
    family = families.register(family_module.Llava())
    yield family
    del families._REGISTERED[family.name]


def tokenizer_of_the_family() -> Any:
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    digits, letters = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, letters])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(["USER: ASSISTANT: the bounding box [0.25, 0.5, 0.75, 1], [0]"] * 2, trainer)
    marks = ("<s>", "</s>", "<pad>", "<image>")
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    # As Llama's own tokenizer: whoever asks for special tokens gets a mark of the beginning.
    begin = ("<s>", tokenizer.token_to_id("<s>"))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[begin])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        clean_up_tokenization_spaces=False,
        padding_side="left",
        extra_special_tokens={"image_token": "<image>"},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small LLaVA with random weights, as save_pretrained leaves it."""
    import transformers as tf
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(1)
    tokenizer = tokenizer_of_the_family()
    text = {
        "model_type": "llama",
        "vocab_size": len(tokenizer),
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {"model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    vision |= {"num_attention_heads": 2, "image_size": 56, "patch_size": 14}
    config = tf.LlavaConfig(
        text_config=text, vision_config=vision, image_token_id=tokenizer.convert_tokens_to_ids("<image>")
    )
    size = {"height": 56, "width": 56}
    # The class that pads by itself: what it makes of a picture is held against what the page's family makes of it.
    image_processor = tf.LlavaImageProcessor(do_pad=True, size={"shortest_edge": 56}, crop_size=size)
    processor = tf.LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    model = tf.LlavaForConditionalGeneration(config)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for weight in model.parameters():
            scale = 1.3 / weight[0].numel() ** 0.5 if weight.ndim >= 2 else 0.1
            noise = torch.randn(weight.shape, generator=generator) * scale
            weight.copy_(noise if weight.ndim >= 2 else weight + noise)
    model.generation_config = tf.GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    place = tmp_path_factory.mktemp("model")
    model.save_pretrained(place)
    processor.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def pictures() -> Sequence[Image.Image]:
    noise = np.random.default_rng(1)
    sizes_wh = ((64, 48), (51, 90), (56, 56))
    return [
        Image.fromarray(noise.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize(size_wh, Image.Resampling.NEAREST)
        for size_wh in sizes_wh
    ]


@pytest.fixture
def predictor(registered: Any, folder: Path, tmp_path: Path) -> Any:
    return grounding.load(str(folder), workspace=grounding.Workspace(tmp_path / "nowhere"))


def stock_inputs(predictor: Any, picture: Image.Image, phrase: str) -> Any:
    """Text written out by hand and the raw picture, through the stock processor."""
    asked = f"Please provide the bounding box coordinate of the region this sentence describes: {phrase}"
    text = f"USER: <image>\n{asked} ASSISTANT:"
    return predictor.loaded.processor(text=[text], images=[[picture]], return_tensors="pt")


def test_the_prompt_is_the_stock_processors(predictor: Any, pictures: Sequence[Image.Image]) -> None:
    from grounding import engine

    for picture in pictures:
        (features,) = engine.encode_images(predictor.loaded, [picture])
        for phrase in PHRASES[:3]:
            text = engine.chat_text(predictor.loaded, phrase, features.visual_tokens)
            ours = engine.tokenize(predictor.loaded, [text])["input_ids"].tolist()
            assert ours == stock_inputs(predictor, picture, phrase)["input_ids"].tolist()


def test_a_phrase_brings_no_mark(predictor: Any) -> None:
    tokenizer = predictor.loaded.processor.tokenizer
    marks = set(tokenizer.all_special_tokens)
    for phrase in PHRASES:
        prompt = predictor.loaded.family.prompt(predictor.loaded, phrase)
        assert [token for token in tokenizer.tokenize(prompt) if token in marks] == ["<s>", "<image>"]


@torch.inference_mode()
def test_free_answers_are_those_of_generate(predictor: Any, pictures: Sequence[Image.Image]) -> None:
    free = Decoding(mode="free")
    tokenizer = predictor.loaded.processor.tokenizer
    stock = []
    for picture in pictures:
        inputs = stock_inputs(predictor, picture, "the dog")
        written = predictor.loaded.model.generate(
            **inputs, max_new_tokens=predictor.loaded.profile.max_new_tokens, do_sample=False
        )
        stock.append(tokenizer.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip())
    ours = predictor.predict_many([(picture, "the dog") for picture in pictures], decoding=free)
    assert [prediction.raw_text for prediction in ours] == stock
    assert len(set(stock)) == len(stock)  # or the pictures would not matter


def test_forced_answers_parse_and_take_the_fast_pass(predictor: Any, pictures: Sequence[Image.Image]) -> None:
    assert not predictor._answerer.notes
    pairs = [(picture, phrase) for picture in pictures for phrase in PHRASES]
    box_format = predictor.loaded.profile.text_format
    for how in (Decoding(max_boxes=2), Decoding(max_boxes=2, coordinates="expected")):
        for (picture, _), prediction in zip(pairs, predictor.predict_many(pairs, decoding=how), strict=True):
            assert prediction.status in (Status.OK, Status.NO_BOX, Status.DEGENERATE)
            decoded = box_format.decode(prediction.raw_text, Frame(picture.size))
            assert decoded.status is prediction.status
            if how.coordinates == "likeliest":
                assert decoded.boxes_xyxy_px == prediction.boxes_xyxy_px


@given(
    st.tuples(st.integers(8, 900), st.integers(8, 900)),
    st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=0, max_size=3),
)
@settings(max_examples=80, deadline=None)
def test_boxes_come_back_within_a_step(
    family_module: ModuleType, size_wh: tuple[int, int], shares: list[tuple[float, float, float, float]]
) -> None:
    """Boxes of at least two steps a side: smaller ones are widened to one."""
    box_format, frame, least = family_module.SquareFractions(), Frame(size_wh), 2 * max(size_wh) / 100
    boxes = []
    for left, top, right, bottom in shares:
        (x1, x2), (y1, y2) = (
            sorted((left * size_wh[0], right * size_wh[0])),
            sorted((top * size_wh[1], bottom * size_wh[1])),
        )
        if x2 - x1 >= least and y2 - y1 >= least:
            boxes.append(Box(x1, y1, x2, y2))
    decoded = box_format.decode(box_format.encode(boxes, frame), frame)
    assert decoded.status is (Status.OK if boxes else Status.NO_BOX)
    step_x, step_y = box_format.step_px(frame)
    assert (step_x, step_y) == (max(size_wh) / 100,) * 2
    for box in boxes:
        assert any(
            abs(box.x1 - back.x1) <= step_x
            and abs(box.x2 - back.x2) <= step_x
            and abs(box.y1 - back.y1) <= step_y
            and abs(box.y2 - back.y2) <= step_y
            for back in decoded.boxes_xyxy_px
        )


def test_boxes_are_fractions_of_the_padded_square(family_module: ModuleType) -> None:
    box_format, frame = family_module.SquareFractions(), Frame((200, 100))
    assert box_format.encode([Box(0, 0, 200, 100)], frame) == "[0, 0.25, 1, 0.75]"
    assert box_format.decode("[0.5, 0.25, 1.0, 0.50]", frame).boxes_xyxy_px == (Box(100, 0, 200, 50),)
    assert box_format.decode("[0.5, 0, 1, 0.2]", frame).status is Status.DEGENERATE  # all of it in the margin
    sides = [box_format.px_of(place, number, frame) for place, number in enumerate((0.5, 0.3, 0.75, 0.9))]
    assert sides == [(0, 100), (1, pytest.approx(10)), (0, 150), (1, 100)]  # where the heat draws them


def test_the_table_of_formats_is_whole() -> None:
    from grounding import formats

    listed = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert listed == {name for name in formats.__all__ if hasattr(getattr(formats, name), "decode")} - {"BoxFormat"}


def test_it_can_be_trained(predictor: Any) -> None:
    builder = BranchBuilder(predictor.loaded)
    branch = builder.branch("the dog", [Box(10, 10, 30, 40)], Frame((64, 48)))
    tail = predictor.loaded.processor.tokenizer.decode(branch.token_ids[-branch.supervised :])
    assert tail == predictor.loaded.profile.text_format.encode([Box(10, 10, 30, 40)], Frame((64, 48))) + "</s>"


def test_an_unknown_type_is_told_the_types_with_the_new_one(registered: Any) -> None:
    with pytest.raises(ModelError, match=r"'blip-9'\. Known types: .*\bllava\b.*qwen3_vl"):
        profile_for("blip-9")


def test_without_it_the_model_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"does not know models of type 'llava'\. Known types: (?!.*\bllava\b)"):
        load_model(str(folder))


def test_names_that_are_taken_are_refused(registered: Any, family_module: ModuleType) -> None:
    for changed, told in (
        ({"name": "qwen3_vl"}, "There is a family 'qwen3_vl' already"),
        ({"name": "mine"}, "type 'llava' belong to the family 'llava' already"),
        ({"name": "mine", "model_types": ("mine",)}, "There is a profile 'llava-1.5' already"),
    ):
        other = type("Other", (family_module.Llava,), changed)()
        with pytest.raises(ModelError, match=told):
            families.register(other)
    assert "mine" not in families._REGISTERED


def test_a_file_dropped_into_the_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (tmp_path / "llava.py").write_text(code_of_the_page(), encoding="utf-8")
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
    families._discovered.cache_clear()
    importlib.invalidate_caches()
    try:
        assert families.family_of_type("llava").name == "llava"
        assert families.all_profiles()["llava-1.5"].family == "llava"
        assert load_model(str(folder)).profile.name == "llava-1.5"
    finally:
        sys.modules.pop("grounding.families.llava", None)
        vars(families).pop("llava", None)
        families._discovered.cache_clear()
