"""The model that is trained: a stock Qwen3-VL of a given shape with fresh weights, its tokenizer and its processor."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from functools import cache
from typing import Any

from grounding.demo.pretrain.settings import CELL_PX, MOST_CELLS, Shape
from grounding.demo.questions import Mix, ask
from grounding.demo.scenes import draw_scene
from grounding.demo.sprites import all_nouns
from grounding.families.qwen_vl import Qwen3VL
from grounding.profiles import ModelProfile

LEAST_CELLS = 40
"""Fewest visual tokens of a picture: the processor scales smaller pictures up to it."""
_SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|image_pad|>", "<|video_pad|>"),
)
PAD, EOS, VISION_START, VISION_END, IMAGE, VIDEO = 0, 2, 3, 4, 6, 7
CHAT_TEMPLATE = (
    "{%- for message in messages %}<|im_start|>{{ message.role }}\n{% if message.content is string %}"
    "{{ message.content }}{% else %}{% for part in message.content %}{% if part.type == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As Qwen splits text, but for the digits: each is a token of its own, wherever it stands.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CORPUS_SCENES = 100


def profile() -> ModelProfile:
    """How an embedded model is asked and how it writes boxes."""
    return next(one for one in Qwen3VL.profiles if one.name == "qwen3-vl-demo")


def build_model(shape: Shape, seed: int) -> Any:
    """The model with fresh weights in float32; the same seed gives the same weights."""
    import torch
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    config = Qwen3VLConfig(
        text_config={
            "attention_bias": False,
            "bos_token_id": None,
            "eos_token_id": EOS,
            "head_dim": 32,
            "hidden_size": shape.text_width,
            "intermediate_size": shape.text_inner,
            "max_position_embeddings": 1024,
            "num_attention_heads": shape.text_heads,
            "num_hidden_layers": shape.text_depth,
            "num_key_value_heads": shape.text_heads,
            "pad_token_id": PAD,
            "rope_parameters": {
                "mrope_interleaved": True,
                "mrope_section": [6, 5, 5],
                "rope_theta": 10000.0,
                "rope_type": "default",
            },
            "tie_word_embeddings": True,
            "vocab_size": shape.vocabulary,
        },
        vision_config={
            "deepstack_visual_indexes": list(shape.deepstack_after),
            "depth": shape.vision_depth,
            "hidden_size": shape.vision_width,
            "intermediate_size": 4 * shape.vision_width,
            "num_heads": shape.vision_heads,
            "num_position_embeddings": (8 * shape.merge) ** 2,
            "out_hidden_size": shape.text_width,
            "patch_size": shape.patch_px,
            "spatial_merge_size": shape.merge,
            "temporal_patch_size": 2,
        },
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END,
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    model = Qwen3VLForConditionalGeneration(config)
    model.generation_config.pad_token_id = PAD
    model.generation_config.eos_token_id = EOS
    model.generation_config.do_sample = False
    return model


def build_processor(shape: Shape, seed: int = 0, tokenizer: Any = None) -> Any:
    """The stock processor: pictures to 40 to 64 tokens, and a byte-level tokenizer with one token a digit (None: a new
    one)."""
    from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    images = Qwen2VLImageProcessor(
        patch_size=shape.patch_px,
        merge_size=shape.merge,
        temporal_patch_size=2,
        size={"shortest_edge": LEAST_CELLS * CELL_PX**2, "longest_edge": MOST_CELLS * CELL_PX**2},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    videos = Qwen3VLVideoProcessor(patch_size=shape.patch_px, merge_size=shape.merge)
    return Qwen3VLProcessor(
        image_processor=images,
        tokenizer=build_tokenizer(shape, seed) if tokenizer is None else tokenizer,
        video_processor=videos,
        chat_template=CHAT_TEMPLATE,
    )


def build_tokenizer(shape: Shape, seed: int = 0) -> Any:
    """Byte-level BPE, learned from the prompt, the answers and the phrases of scenes that this seed draws."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated")
    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_of])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=shape.vocabulary,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(seed), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=_SPECIAL[EOS],
        pad_token=_SPECIAL[PAD],
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
        padding_side="left",
        extra_special_tokens={
            "image_token": _SPECIAL[IMAGE],
            "video_token": _SPECIAL[VIDEO],
            "vision_start_token": _SPECIAL[VISION_START],
            "vision_end_token": _SPECIAL[VISION_END],
        },
    )


@cache
def corpus(seed: int) -> tuple[str, ...]:
    """What the tokenizer is learned from."""
    return tuple(_lines(seed))


def _lines(seed: int) -> Iterator[str]:
    """The prompt around each phrase. All nouns stand in it, those that phrases never name too: as words that a person
    will write they need their tokens."""
    rng = random.Random(f"corpus {seed}")
    asked = profile()
    for noun in all_nouns():
        for phrase in (noun, f"the {noun}", f"{noun} on the left", f"big {noun}"):
            yield asked.prompt_for(phrase)
    for _ in range(_CORPUS_SCENES):
        objects = draw_scene(rng).objects
        for question in itertools.islice(filter(None, (ask(rng, objects, (256, 256), Mix()) for _ in range(40))), 20):
            yield asked.prompt_for(question.text)
    yield from ("user\n", "assistant\n", '[{"bbox_2d": [', ", ", "]}]", "]}, {", "[]") * 50
