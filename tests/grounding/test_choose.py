"""One answer from several: votes worked out by hand, properties of the vote, and crops scored by small models."""

from __future__ import annotations

import json
import random
import string
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from grounding import choose
from grounding.boxes import Box, iou
from grounding.choose import Candidate, Choice, ClipScorer, crop_px, rerank, vote
from grounding.errors import ModelError
from grounding.records import Status

ROOT = Path(__file__).resolve().parent.parent.parent
LEFT, RIGHT = Box(0, 0, 10, 10), Box(50, 0, 60, 10)
NEAR_LEFT = Box(1, 0, 11, 10)  # IoU with LEFT: 9 / 11
UNREADABLE = Candidate((), Status.UNREADABLE, 0.9)
DEGENERATE = Candidate((), Status.DEGENERATE, 0.9)
NOTHING = Candidate((), Status.NO_BOX, None)


def answer(*boxes: Box, confidence: float | None = None) -> Candidate:
    return Candidate(boxes, Status.OK, confidence)


def test_one_candidate_is_chosen_as_it_is() -> None:
    assert vote([answer(RIGHT, LEFT)]) == Choice(0, (LEFT, RIGHT), Status.OK, 1.0)
    assert vote([NOTHING]) == Choice(0, (), Status.NO_BOX, 1.0)


def test_boxes_of_one_object_are_averaged_by_weight() -> None:
    choice = vote([answer(LEFT, confidence=0.9), answer(NEAR_LEFT, confidence=0.3), answer(RIGHT, confidence=0.8)])
    (box,) = choice.boxes_xyxy_px
    assert tuple(box) == pytest.approx((0.25, 0.0, 10.25, 10.0))
    assert (choice.index, choice.status, choice.agreement) == (0, Status.OK, pytest.approx(2 / 3))


def test_without_confidence_all_weigh_the_same() -> None:
    (box,) = vote([answer(LEFT), answer(NEAR_LEFT), answer(RIGHT)]).boxes_xyxy_px
    assert tuple(box) == pytest.approx((0.5, 0.0, 10.5, 10.0))


def test_objects_that_more_than_half_share_are_kept_heaviest_first() -> None:
    choice = vote([answer(LEFT, RIGHT), answer(RIGHT), answer(LEFT, RIGHT), answer(LEFT, Box(80, 80, 90, 90), RIGHT)])
    assert choice.boxes_xyxy_px == (RIGHT, LEFT)
    assert choice.index == 0
    assert choice.agreement == 1.0
    half = [answer(LEFT, RIGHT), answer(RIGHT), answer(LEFT, RIGHT), answer(RIGHT)]
    assert vote(half).boxes_xyxy_px == (RIGHT,)
    strict = vote([*half, answer(LEFT, RIGHT)], min_iou=0.9)
    assert strict.agreement == 0.6, "an answer with one box of two has a set IoU of 0.5"


def test_where_no_object_is_shared_by_half_the_heaviest_is_kept() -> None:
    boxes = [Box(x, 0, x + 10, 10) for x in (0, 20, 40)]
    choice = vote([answer(box, confidence=c) for box, c in zip(boxes, (0.3, 0.8, 0.5), strict=True)])
    assert choice == Choice(1, (boxes[1],), Status.OK, pytest.approx(1 / 3))


def test_of_two_that_differ_the_surer_one_is_kept() -> None:
    assert vote([answer(LEFT, confidence=0.4), answer(RIGHT, confidence=0.6)]).boxes_xyxy_px == (RIGHT,)


def test_boxes_of_the_same_candidate_are_not_merged() -> None:
    assert vote([answer(LEFT, NEAR_LEFT)]).boxes_xyxy_px == (LEFT, NEAR_LEFT)
    assert len(vote([answer(LEFT, NEAR_LEFT), answer(LEFT, NEAR_LEFT)]).boxes_xyxy_px) == 2


@pytest.mark.parametrize(
    ("candidates", "status"),
    [
        ([NOTHING, NOTHING, answer(LEFT)], Status.NO_BOX),
        ([NOTHING, answer(LEFT), answer(LEFT)], Status.OK),
        ([NOTHING, answer(LEFT)], Status.OK),
        ([NOTHING, answer(LEFT, confidence=0.7)], Status.NO_BOX),
        ([Candidate((), Status.NO_BOX, 0.6), answer(LEFT, confidence=0.7)], Status.OK),
        ([UNREADABLE, DEGENERATE, UNREADABLE, NOTHING], Status.NO_BOX),
        ([UNREADABLE, DEGENERATE, UNREADABLE, answer(LEFT)], Status.OK),
        ([UNREADABLE, DEGENERATE, UNREADABLE], Status.UNREADABLE),
        ([DEGENERATE, DEGENERATE, UNREADABLE], Status.DEGENERATE),
    ],
)
def test_first_a_vote_on_whether_anything_is_there(candidates: list[Candidate], status: Status) -> None:
    choice = vote(candidates)
    assert choice.status is status
    assert candidates[choice.index].status is status
    assert choice.agreement == sum(c.status is status for c in candidates) / len(candidates)
    assert bool(choice.boxes_xyxy_px) == (status is Status.OK)


def test_an_index_tie_goes_to_the_first() -> None:
    assert vote([UNREADABLE, answer(LEFT), answer(LEFT)]).index == 1


def test_the_most_confident_of_those_that_see_nothing_stands_for_it() -> None:
    assert vote([Candidate((), Status.NO_BOX, c) for c in (0.2, 0.9, 0.9)]).index == 1


def test_a_vote_needs_candidates_and_a_threshold() -> None:
    with pytest.raises(ValueError, match="No candidates"):
        vote([])
    for min_iou in (0.0, -0.1, 1.1):
        with pytest.raises(ValueError, match=r"min_iou=.*: expected more than 0 and at most 1"):
            vote([answer(LEFT)], min_iou=min_iou)


# Few different places and sizes, so that boxes overlap, repeat and tie often.
places = st.sampled_from([0.0, 1.0, 3.0, 7.5, 40.0])
sizes = st.sampled_from([10.0, 11.3, 14.0])
boxes = st.builds(lambda x, y, w, h: Box(x, y, x + w, y + h), places, places, sizes, sizes)
confidences = st.one_of(st.none(), st.sampled_from([0.0, 0.1, 0.3, 0.7, 1.0]), st.floats(0.0, 1.0))
candidate_lists = st.lists(
    st.one_of(
        st.builds(Candidate, st.lists(boxes, min_size=1, max_size=3).map(tuple), st.just(Status.OK), confidences),
        st.builds(Candidate, st.just(()), st.sampled_from(list(Status)), confidences),
    ),
    min_size=1,
    max_size=7,
)
thresholds = st.sampled_from([0.3, 0.5, 0.9, 1.0])


@settings(deadline=None, max_examples=300)
@given(candidate_lists, thresholds, st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_does_not_matter(
    candidates: list[Candidate], min_iou: float, shuffler: random.Random
) -> None:
    shuffled = shuffler.sample(candidates, len(candidates))
    first, second = vote(candidates, min_iou=min_iou), vote(shuffled, min_iou=min_iou)
    assert first.boxes_xyxy_px == second.boxes_xyxy_px
    assert first.status == second.status
    assert first.agreement == pytest.approx(second.agreement)


@settings(deadline=None, max_examples=200)
@given(candidate_lists, thresholds)
def test_a_choice_is_always_made_of_what_was_given(candidates: list[Candidate], min_iou: float) -> None:
    choice = vote(candidates, min_iou=min_iou)
    assert choice == vote(candidates, min_iou=min_iou)
    assert 0.0 <= choice.agreement <= 1.0
    assert candidates[choice.index].status is choice.status
    given_boxes = [box for candidate in candidates for box in candidate.boxes_xyxy_px]
    if given_boxes:
        hull = [f(sides) for f, sides in zip((min, min, max, max), zip(*given_boxes, strict=True), strict=True)]
        for x1, y1, x2, y2 in choice.boxes_xyxy_px:
            assert hull[0] - 1e-9 <= x1 < x2 <= hull[2] + 1e-9
            assert hull[1] - 1e-9 <= y1 < y2 <= hull[3] + 1e-9


@settings(deadline=None, max_examples=100)
@given(st.lists(boxes, min_size=1, max_size=3, unique=True), st.lists(confidences, min_size=1, max_size=6), thresholds)
def test_what_all_say_is_chosen_to_the_last_digit(said: list[Box], weights: list[float | None], min_iou: float) -> None:
    apart = [box for n, box in enumerate(said) if all(iou(box, other) == 0 for other in said[:n])]
    choice = vote([answer(*apart, confidence=weight) for weight in weights], min_iou=min_iou)
    assert sorted(choice.boxes_xyxy_px) == sorted(apart)
    assert (choice.index, choice.agreement) == (0, 1.0)


WHITE = Image.new("RGB", (64, 48), "white")


class Scores:
    """A scorer that knows the score of each box by its left side."""

    def __init__(self, by_left: dict[float, float]) -> None:
        self.by_left = by_left
        self.asked: list[tuple[Box, ...]] = []

    def __call__(self, picture: Image.Image, boxes_xyxy_px: Sequence[Box], phrase: str) -> list[float]:
        assert (picture, phrase) == (WHITE, "mug")
        self.asked.append(tuple(boxes_xyxy_px))
        return [self.by_left[box.x1] for box in boxes_xyxy_px]


def test_rerank_takes_the_highest_mean_score() -> None:
    scorer = Scores({LEFT.x1: 0.2, NEAR_LEFT.x1: 0.25, RIGHT.x1: 0.5})
    candidates = [NOTHING, answer(LEFT), UNREADABLE, answer(RIGHT, LEFT), answer(NEAR_LEFT)]
    assert rerank(WHITE, "mug", candidates, scorer) == Choice(3, (RIGHT, LEFT), Status.OK, 2 / 5), (
        "LEFT alone agrees too: half of two boxes, at the threshold"
    )
    assert scorer.asked == [(LEFT, RIGHT, LEFT, NEAR_LEFT)], "all boxes in one call"
    assert rerank(WHITE, "mug", [candidates[1], candidates[4]], scorer) == Choice(1, (NEAR_LEFT,), Status.OK, 1.0)


def test_scores_may_be_negative_and_ties_go_to_the_first() -> None:
    assert rerank(WHITE, "mug", [NOTHING, answer(LEFT)], Scores({0.0: -0.9})).index == 1
    assert rerank(WHITE, "mug", [answer(LEFT), answer(RIGHT)], Scores({0.0: 0.1, 50.0: 0.1})).index == 0


def test_nothing_there_wins_only_when_no_candidate_has_boxes() -> None:
    scorer = Scores({})
    assert rerank(WHITE, "mug", [UNREADABLE, NOTHING, UNREADABLE], scorer) == Choice(1, (), Status.NO_BOX, 1 / 3)
    assert rerank(WHITE, "mug", [UNREADABLE], scorer).status is Status.UNREADABLE
    assert scorer.asked == []
    with pytest.raises(ValueError, match="No candidates"):
        rerank(WHITE, "mug", [], scorer)


@pytest.mark.parametrize("scores", [[], [0.1], [0.1, float("nan")], [0.1, 0.2, 0.3]])
def test_a_scorer_that_gives_something_else_is_a_model_error(scores: list[float]) -> None:
    with pytest.raises(ModelError, match="for 2 boxes: expected one finite number per box"):
        rerank(WHITE, "mug", [answer(LEFT, RIGHT)], lambda picture, boxes_xyxy_px, phrase: scores)


def test_crops_by_hand() -> None:
    assert crop_px(Box(20, 10, 40, 20), (100, 100)) == (18, 9, 42, 21)
    assert crop_px(Box(20.6, 10.6, 21.0, 10.7), (100, 100)) == (20, 10, 22, 11)
    assert crop_px(Box(0, 0, 100, 100), (100, 100)) == (0, 0, 100, 100)


@settings(deadline=None, max_examples=200)
@given(
    st.tuples(st.floats(-300, 300), st.floats(-300, 300)),
    st.tuples(st.floats(0.001, 500), st.floats(0.001, 500)),
    st.tuples(st.integers(1, 200), st.integers(1, 200)),
)
def test_a_crop_lies_in_the_picture_and_is_never_empty(
    corner: tuple[float, float], sides: tuple[float, float], size: tuple[int, int]
) -> None:
    box = Box(*corner, corner[0] + sides[0], corner[1] + sides[1])
    left, upper, right, lower = crop_px(box, size)
    assert 0 <= left < right <= size[0]
    assert 0 <= upper < lower <= size[1]


def test_only_very_thin_crops_are_squeezed() -> None:
    sizes = {(1, 20_000): (1, 8), (20_000, 10): (80, 10), (8, 1): (8, 1), (30, 200): (30, 200)}
    assert {size: choose._squeezed(Image.new("L", size)).size for size in sizes} == sizes


KINDS = ("clip", "siglip", "siglip2")


def _tokenizer(kind: str) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, Siglip2Tokenizer

    special = ["<pad>", "<bos>", "<unk>"]
    if kind == "siglip2":
        characters = {piece: n for n, piece in enumerate([*special, "<mask>", *string.ascii_lowercase, ".", "▁"])}
        return Siglip2Tokenizer(vocab={**characters, "<eos>": 39}, model_input_names=["input_ids"])
    words = [*special, "This", "is", "a", "photo", "of", "red", "blue", "mug", "dog", "."]
    tokenizer = Tokenizer(models.WordLevel({**{w: n for n, w in enumerate(words)}, "<eos>": 39}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 39)]
    )
    names = ["input_ids", "attention_mask"] if kind == "clip" else ["input_ids"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="<eos>", model_input_names=names
    )


def _save(kind: str, folder: Path) -> None:
    """A model of this kind with random weights, far too small to know anything."""
    import torch
    import transformers as hf

    torch.manual_seed(7)
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    tokens = {"vocab_size": 40, "max_position_embeddings": 48, "bos_token_id": 1, "eos_token_id": 39, "pad_token_id": 0}
    text, vision = {**tower, **tokens, "projection_size": 16}, {**tower, "patch_size": 8}
    square = {"height": 32, "width": 32}
    if kind == "clip":
        config = hf.CLIPConfig(text_config=text, vision_config={**vision, "image_size": 32}, projection_dim=16)
        model: Any = hf.CLIPModel(config)
        images: Any = hf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=square)
        processor: Any = hf.CLIPProcessor(images, _tokenizer(kind))
    elif kind == "siglip":
        model = hf.SiglipModel(hf.SiglipConfig(text_config=text, vision_config={**vision, "image_size": 32}))
        processor = hf.SiglipProcessor(hf.SiglipImageProcessor(size=square), _tokenizer(kind))
    else:
        model = hf.Siglip2Model(hf.Siglip2Config(text_config=text, vision_config={**vision, "num_patches": 16}))
        images = hf.Siglip2ImageProcessor(patch_size=8, max_num_patches=16)
        processor = hf.Siglip2Processor(images, _tokenizer(kind))
    with torch.no_grad():
        for weight in model.parameters():  # stock weights start so small that all pictures look alike
            weight.add_(torch.randn_like(weight) * 0.3)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


@pytest.fixture(scope="module")
def scorer_folders(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    folder = tmp_path_factory.mktemp("scorers")
    for kind in KINDS:
        _save(kind, folder / kind)
    return folder


@pytest.fixture(scope="module")
def halves() -> Image.Image:
    """Noise on the left, blue on the right."""
    picture = Image.new("RGB", (96, 64), "blue")
    picture.paste(Image.linear_gradient("L").resize((48, 64)), (0, 0))
    return picture


NOISY, BLUE, ALL = Box(4, 4, 40, 60), Box(54, 4, 90, 60), Box(0, 0, 96, 64)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_depend_on_crop_and_phrase(kind: str, scorer_folders: Path, halves: Image.Image) -> None:
    scorer = ClipScorer(str(scorer_folders / kind))
    scores = scorer(halves, [NOISY, BLUE, ALL, NOISY], "red mug")
    assert len(scores) == 4
    assert all(-1.0 <= score <= 1.0 for score in scores)
    assert scores[0] == pytest.approx(scores[3], abs=1e-6)
    assert min(abs(scores[0] - scores[1]), abs(scores[1] - scores[2]), abs(scores[0] - scores[2])) > 1e-4
    assert scorer(halves, [NOISY, BLUE, ALL, NOISY], "red mug") == scores
    assert ClipScorer(str(scorer_folders / kind))(halves, [NOISY, BLUE, ALL, NOISY], "red mug") == scores
    assert abs(scorer(halves, [NOISY], "blue dog")[0] - scores[0]) > 1e-4
    assert scorer(halves, [], "red mug") == []


@pytest.mark.parametrize("kind", KINDS)
def test_scores_do_not_depend_on_what_else_is_in_the_batch(
    kind: str, scorer_folders: Path, halves: Image.Image
) -> None:
    scorer = ClipScorer(str(scorer_folders / kind))
    many = [Box(x, 1, x + 20 + x % 3, 30 + x % 7) for x in range(70)]
    together = scorer(halves, many, "red mug")
    assert len(together) == 70
    assert [scorer(halves, [many[n]], "red mug")[0] for n in (0, 31, 32, 69)] == pytest.approx(
        [together[n] for n in (0, 31, 32, 69)], abs=1e-5
    )


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_score_is_the_cosine_that_the_model_itself_gives(
    kind: str, scorer_folders: Path, halves: Image.Image
) -> None:
    import torch
    from transformers import AutoModel, AutoProcessor

    folder = str(scorer_folders / kind)
    model, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    crop = halves.crop(crop_px(BLUE, halves.size))
    inputs = processor(
        text=["This is a photo of red mug."], images=[crop], padding="max_length", max_length=48, return_tensors="pt"
    )
    with torch.no_grad():
        output = model(**inputs)
    expected = float(torch.nn.functional.cosine_similarity(output.image_embeds, output.text_embeds)[0])
    assert ClipScorer(folder)(halves, [BLUE], "red mug") == pytest.approx([expected], abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_odd_crops_phrases_and_pictures_are_scored(kind: str, scorer_folders: Path, halves: Image.Image) -> None:
    scorer = ClipScorer(str(scorer_folders / kind))
    odd = [Box(3.2, 3.2, 3.3, 3.3), Box(0, 0, 0.5, 64), Box(5, 0, 6, 2.5), Box(-50, -50, -40, -40), Box(0, 9, 9e5, 10)]
    assert len(scorer(halves, odd, "a very long phrase " * 100)) == 5
    assert len(scorer(halves.convert("L"), [NOISY], "unknown words")) == 1
    assert len(scorer(Image.new("RGBA", (1, 20_000)), [Box(0, 0, 1, 20_000)], "")) == 1


def test_a_scorer_reranks(scorer_folders: Path, halves: Image.Image) -> None:
    scorer = ClipScorer(str(scorer_folders / "siglip"))
    scores = scorer(halves, [NOISY, BLUE], "blue dog")
    choice = rerank(halves, "blue dog", [answer(NOISY), answer(BLUE)], scorer)
    assert choice.index == scores.index(max(scores))


def test_a_model_that_is_missing_or_of_another_kind_is_a_sentence(tmp_path: Path, scorer_folders: Path) -> None:
    with pytest.raises(ModelError, match=r"There is no folder .*none with a model"):
        ClipScorer(str(tmp_path / "none"))
    with pytest.raises(ModelError, match="'owner/none' that scores crops can't be loaded: "):
        ClipScorer("owner/none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"empty' that scores crops can't be loaded: "):
        ClipScorer(str(tmp_path / "empty"))
    with pytest.raises(ModelError, match=r"type 'qwen3_vl' and can't score crops. Expected one of clip, siglip,"):
        ClipScorer(str(ROOT / "data" / "demo" / "base-model"))


def test_a_damaged_model_is_a_sentence(tmp_path: Path, one_thread: None) -> None:
    from safetensors.torch import load_file, save_file

    _save("clip", tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("visual_projection.weight")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"is incomplete: 1 weights are missing, visual_projection\.weight among"):
        ClipScorer(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(ModelError, match="that scores crops can't be loaded: "):
        ClipScorer(str(tmp_path))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "unheard_of"}))
    with pytest.raises(ModelError, match="that scores crops can't be loaded: "):
        ClipScorer(str(tmp_path))


def test_the_module_imports_without_torch() -> None:
    code = "import grounding.choose, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
