"""Adapters on every family in words: the fast pass, peft's own path, and a base that stays what it was."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from small_models import KINDS, LEAN_KINDS, Small

from grounding import engine
from grounding.adapters import AdapterInfo
from grounding.answering import Answerer, Ask
from grounding.attached import AttachedAdapters
from grounding.decoding.forced import Sampling
from grounding.decoding.generation import Written, generate
from grounding.decoding.settings import Decoding
from grounding.models import LoadedModel, load_model
from grounding.profiles import LANGUAGE_MODEL_LINEARS

Loader = Callable[[str], tuple[Small, Any]]
PHRASES = ("the dog", "left mug", "a red cup, 2nd", "犬")
MAX_BOXES = 2


def write_adapter(folder: Path, case: Small, seed: int) -> AdapterInfo:
    """A saved adapter with random weights, read back as the page reads it."""
    from peft import LoraConfig, get_peft_model

    loaded = load_model(str(case.folder))
    targets = LANGUAGE_MODEL_LINEARS if case.kind in LEAN_KINDS else r".*language_model.*\.(q_proj|v_proj)"
    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5.23 for a property under its old name.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        tuned: Any = get_peft_model(loaded.model, LoraConfig(r=2 + seed, lora_alpha=8, target_modules=targets))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.15)
    tuned.save_pretrained(str(folder), save_embedding_layers=False)
    AdapterInfo(folder.name, folder, loaded.model_id, case.profile, created_at="2026-11-22T10:00:00+00:00").save()
    return AdapterInfo.load(folder)


@pytest.fixture(scope="module")
def fresh(small: Loader) -> Callable[[str], tuple[Small, LoadedModel]]:
    """The small model of a kind, loaded anew: peft changes its modules for good."""

    def load(kind: str) -> tuple[Small, LoadedModel]:
        case, _ = small(kind)
        return case, load_model(str(case.folder))

    return load


@torch.inference_mode()
def by_peft(loaded: LoadedModel, answerer: Answerer, asks: Sequence[Ask], info: AdapterInfo | None) -> list[Written]:
    """Forced answers out of the stock forward, the adapter active through peft."""
    family, features = engine.text_family(loaded), [ask.features for ask in asks]
    assert answerer._skeletons is not None
    skeletons = [answerer._skeletons.of(ask.features, ask.phrase) for ask in asks]
    inputs = engine.tokenize(loaded, [engine.chat_text(loaded, ask.phrase, ask.features.visual_tokens) for ask in asks])
    with AttachedAdapters(loaded).using(info):
        return generate(loaded, family, features, inputs, skeletons=skeletons, how=Sampling(max_boxes=MAX_BOXES))


@pytest.mark.parametrize("kind", LEAN_KINDS)
def test_the_fast_pass_answers_as_peft_does(
    fresh: Callable[[str], tuple[Small, LoadedModel]],
    noise_pictures: Sequence[Image.Image],
    kind: str,
    tmp_path: Path,
) -> None:
    case, loaded = fresh(kind)
    infos = [None, *(write_adapter(tmp_path / f"adapter.{seed}", case, seed) for seed in (1, 2))]
    answerer = Answerer(loaded)
    assert answerer.notes == ()
    features = engine.encode_images(loaded, noise_pictures[:4])
    asks = [Ask(f, phrase, info) for f, phrase in zip(features, PHRASES, strict=True) for info in infos]
    fast = answerer.answer(asks, Decoding(max_boxes=MAX_BOXES))  # base and both adapters in one batch
    for index, info in enumerate(infos):
        mine = [Ask(f, phrase) for f, phrase in zip(features, PHRASES, strict=True)]
        expected = [written.text for written in by_peft(loaded, answerer, mine, info)]
        assert [answer.text for answer in fast[index :: len(infos)]] == expected
    answers = [tuple(answer.text for answer in fast[index :: len(infos)]) for index in range(len(infos))]
    assert len(set(answers)) > 1  # or adapters would not matter
    again = answerer.answer(asks, Decoding(max_boxes=MAX_BOXES))
    assert [answer.text for answer in again] == [answer.text for answer in fast]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in LEAN_KINDS])
def test_without_a_fast_pass_adapters_go_through_peft(
    fresh: Callable[[str], tuple[Small, LoadedModel]],
    noise_pictures: Sequence[Image.Image],
    kind: str,
    tmp_path: Path,
) -> None:
    case, loaded = fresh(kind)
    info = write_adapter(tmp_path / "adapter", case, seed=1)
    answerer = Answerer(loaded)
    features = engine.encode_images(loaded, noise_pictures[:4])
    asks = [Ask(f, phrase) for f, phrase in zip(features, PHRASES, strict=True)]
    base = answerer.answer(asks, Decoding(max_boxes=MAX_BOXES))
    both = [Ask(ask.features, ask.phrase, one) for ask in asks for one in (None, info)]
    mixed = answerer.answer(both, Decoding(max_boxes=MAX_BOXES))
    assert [answer.text for answer in mixed[::2]] == [answer.text for answer in base]
    expected = [written.text for written in by_peft(loaded, answerer, asks, info)]
    assert [answer.text for answer in mixed[1::2]] == expected
    assert expected != [answer.text for answer in base]
