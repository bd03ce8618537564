"""Small models with random weights, of every family that answers in words: stock classes, saved as real ones are."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from grounding.boxes import Box
from grounding.decoding.skeleton import Cursor, Skeleton

_CORPUS = (
    "Locate every object that matches the description in the image. Report bbox coordinates in JSON format.",
    "Please provide the bounding box coordinates of the region this sentence describes:",
    "Locate the phrases in the caption: detect the left dog ; the red car ; a cup on the table",
    '```json\n[\n\t{"bbox_2d": [12, 345, 678, 1000], "label": "the dog"},\n]\n``` [[1, 2, 3, 4]] (1,2),(3,4)',
    "You are a helpful assistant. user assistant system Find the left mug near a white bottle",
)
# How Qwen's tokenizers cut text before merging: every digit stands alone.
_QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN_SPECIALS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
_INTERN_SPECIALS = [
    *_QWEN_SPECIALS,
    *["<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>", "<video>"],
]
JOINED_DIGITS = "internvl_joined"  # a tokenizer that has tokens of several digits
_SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
_TEMPLATE = (
    "%(system)s{%% for message in messages %%}<|im_start|>{{ message.role }}\n"
    "{%% for part in message.content %%}{%% if part.type == 'image' %%}%(image)s"
    "{%% else %%}{{ part.text }}{%% endif %%}{%% endfor %%}<|im_end|>\n{%% endfor %%}"
    "{%% if add_generation_prompt %%}<|im_start|>assistant\n{%% endif %%}"
)


@dataclass(frozen=True)
class Small:
    """A small model in a folder. `stock_text(phrase)` is what a person would hand to the stock processor for it,
    `image_options` what the processor must be told about pictures besides its own settings."""

    kind: str
    folder: Path
    profile: str
    stock_text: Callable[[str], str]
    lean: bool
    image_options: dict[str, Any]


def build(kind: str, folder: Path) -> Small:
    """Write the model of this kind into the folder; always the same weights."""
    return _BUILDERS[kind](kind, folder)


def _fast(tokenizer: Tokenizer, specials: Iterable[str], **options: Any) -> Any:
    from transformers import PreTrainedTokenizerFast

    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **options)


def _byte_level(pattern: str | None, corpus: Iterable[str] = _CORPUS) -> Tokenizer:
    """A byte-level BPE as of Qwen (`pattern`) or of BART (None)."""
    tokenizer = Tokenizer(models.BPE())
    if pattern is None:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
        bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_only])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


def _gemma_like() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps)
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    letters = [chr(code) for code in range(32, 127)]
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<pad>", "<eos>", "<bos>", "<unk>", *bytes_, "\n"],
        initial_alphabet=letters,
        show_progress=False,
    )
    # Without a pre-tokenizer a sentence is one word: give it words.
    tokenizer.train_from_iterator([" " + word for line in _CORPUS for word in line.split()], trainer)
    return tokenizer


def _qwen_tokenizer() -> Any:
    return _fast(
        _byte_level(_QWEN_PATTERN),
        _QWEN_SPECIALS,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


def _randomise(model: Any, seed: int, spread: float = 1.3) -> None:
    """Weights large enough that pictures and phrases change the answers; no bias is 0, no norm 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim >= 2:
                # Where input and output share their embeddings, large ones only repeat the last token.
                scale = spread * (0.3 if "embed_tokens" in name else 1.0) / weight[0].numel() ** 0.5
                weight.copy_(torch.randn(weight.shape, generator=generator) * scale)
            else:
                weight.add_(torch.randn(weight.shape, generator=generator) * 0.1)


def _save(folder: Path, model: Any, processor: Any, seed: int, **generation: Any) -> None:
    from transformers import GenerationConfig

    _randomise(model, seed)
    model.generation_config = GenerationConfig(**generation)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


_TEXT = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_key_value_heads": 1,
    "max_position_embeddings": 4096,
    "bos_token_id": None,
}


def _qwen_ids(tokenizer: Any) -> dict[str, int]:
    marks = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    return {name: tokenizer.convert_tokens_to_ids(token) for name, token in marks.items()}


def _qwen(kind: str, folder: Path) -> Small:
    import transformers as tf
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    tokenizer = _qwen_tokenizer()
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    text = {**_TEXT, "vocab_size": len(tokenizer), "eos_token_id": eos, "pad_token_id": pad}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    vision: dict[str, Any] = {"depth": 2, "num_heads": 2, "patch_size": 14, "spatial_merge_size": 2}
    if kind == "qwen2_vl":
        vision |= {"embed_dim": 32, "hidden_size": 48, "mlp_ratio": 2}
        config: Any = tf.Qwen2VLConfig(text_config=text, vision_config=vision, **_qwen_ids(tokenizer))
        model: Any = tf.Qwen2VLForConditionalGeneration(config)
        processor_class: Any = tf.Qwen2VLProcessor
    elif kind == "qwen2_5_vl":
        vision |= {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 48, "fullatt_block_indexes": [1]}
        config = tf.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **_qwen_ids(tokenizer))
        model = tf.Qwen2_5_VLForConditionalGeneration(config)
        processor_class = tf.Qwen2_5_VLProcessor
    else:
        text |= {"head_dim": 16}
        text["rope_parameters"] |= {"mrope_interleaved": True}
        vision |= {"patch_size": 16, "hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 48}
        vision |= {"num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
        config = tf.Qwen3VLConfig(text_config=text, vision_config=vision, **_qwen_ids(tokenizer))
        model = tf.Qwen3VLForConditionalGeneration(config)
        processor_class = tf.Qwen3VLProcessor
    system = "" if kind == "qwen3_vl" else _SYSTEM
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    side = vision["patch_size"]
    processor = processor_class(
        image_processor=tf.Qwen2VLImageProcessor(patch_size=side),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(patch_size=side),
        chat_template=_TEMPLATE % {"system": system, "image": image},
    )
    # As in the checkpoints: sampling settings and a penalty that greedy and forced answers have to live with.
    _save(folder, model, processor, seed=5, eos_token_id=[eos, pad], pad_token_id=pad, repetition_penalty=1.05)
    profile = {"qwen2_vl": "qwen2-vl", "qwen2_5_vl": "qwen2.5-vl", "qwen3_vl": "qwen3-vl"}[kind]

    def stock_text(phrase: str) -> str:
        asked = (
            f"Find <|object_ref_start|>{phrase}<|object_ref_end|>"
            if kind == "qwen2_vl"
            else f'Locate every object that matches the description "{phrase}" in the image. '
            "Report bbox coordinates in JSON format."
        )
        return f"{system}<|im_start|>user\n{image}{asked}<|im_end|>\n<|im_start|>assistant\n"

    return Small(kind, folder, profile, stock_text, lean=True, image_options={})


def _internvl(kind: str, folder: Path) -> Small:
    import transformers as tf
    from transformers.models.internvl.video_processing_internvl import InternVLVideoProcessor

    joined = _byte_level(None, [str(number) for number in range(1000)] * 3)
    tokenizer = _fast(
        joined if kind == JOINED_DIGITS else _byte_level(_QWEN_PATTERN),
        _INTERN_SPECIALS,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
        padding_side="left",
        extra_special_tokens={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    )
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    model_type = {"internvl_qwen3": "qwen3", "internvl_llama": "llama"}.get(kind, "qwen2")
    text = {**_TEXT, "model_type": model_type, "vocab_size": len(tokenizer), "eos_token_id": eos, "pad_token_id": pad}
    if model_type == "qwen3":
        text["head_dim"] = 16
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": [56, 56], "patch_size": [14, 14]}
    config = tf.InternVLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    tiles = kind == "internvl_tiles"
    size = {"height": 56, "width": 56}
    processor = tf.InternVLProcessor(
        image_processor=tf.GotOcr2ImageProcessor(size=size, crop_to_patches=tiles, max_patches=6),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(size=size),
        image_seq_length=4,
        chat_template=_TEMPLATE % {"system": "", "image": "<IMG_CONTEXT>\n"},
    )
    model = tf.InternVLForConditionalGeneration(config)
    _save(folder, model, processor, seed=9, eos_token_id=eos, pad_token_id=pad)
    asked = "Please provide the bounding box coordinates of the region this sentence describes: <ref>%s</ref>"

    def stock_text(phrase: str) -> str:
        return f"<|im_start|>user\n<IMG_CONTEXT>\n{asked % phrase}<|im_end|>\n<|im_start|>assistant\n"

    return Small(kind, folder, "internvl", stock_text, lean=True, image_options={"crop_to_patches": tiles})


def _florence(kind: str, folder: Path) -> Small:
    import transformers as tf

    tasks = "<od> </od> <ocr> </ocr> <cap> </cap> <ncap> </ncap> <dcap> </dcap> <grounding> </grounding> <poly> <sep>"
    locations = [f"<loc_{index}>" for index in range(1000)]
    tokenizer = _fast(
        _byte_level(None),
        ["<s>", "<pad>", "</s>", "<unk>", *locations, *tasks.split(), "<image>"],
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
        extra_special_tokens={"image_token": "<image>"},
    )
    ids = {name: tokenizer.convert_tokens_to_ids(mark) for name, mark in (("bos", "<s>"), ("pad", "<pad>"))}
    eos = tokenizer.eos_token_id
    text = {
        "model_type": "bart",
        "vocab_size": len(tokenizer),
        "d_model": 48,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 3,
        "decoder_attention_heads": 3,
        "encoder_ffn_dim": 96,
        "decoder_ffn_dim": 96,
        "max_position_embeddings": 512,
        "bos_token_id": ids["bos"],
        "pad_token_id": ids["pad"],
        "eos_token_id": eos,
        "decoder_start_token_id": eos,
    }
    vision = {"depths": [1, 1, 1, 1], "embed_dim": [16, 16, 32, 32], "num_heads": [2, 2, 2, 2]}
    vision |= {"num_groups": [2, 2, 2, 2], "window_size": 4, "projection_dim": 48, "drop_path_rate": 0.0}
    config = tf.Florence2Config(
        text_config=text, vision_config=vision, image_token_id=tokenizer.convert_tokens_to_ids("<image>")
    )
    image_processor = tf.CLIPImageProcessor(
        size={"height": 64, "width": 64}, resample=3, do_center_crop=False, image_seq_length=5
    )
    image_processor.image_seq_length = 5
    processor = tf.Florence2Processor(image_processor=image_processor, tokenizer=tokenizer)
    model = tf.Florence2ForConditionalGeneration(config)
    _save(
        folder,
        model,
        processor,
        seed=3,
        bos_token_id=ids["bos"],
        pad_token_id=ids["pad"],
        eos_token_id=eos,
        decoder_start_token_id=eos,
        forced_bos_token_id=ids["bos"],
        forced_eos_token_id=eos,
        no_repeat_ngram_size=3,
        num_beams=3,
        early_stopping=True,
    )

    def stock_text(phrase: str) -> str:
        return f"<CAPTION_TO_PHRASE_GROUNDING>{phrase}"

    return Small(kind, folder, "florence-2", stock_text, lean=False, image_options={})


def _paligemma(kind: str, folder: Path) -> Small:
    import transformers as tf
    from transformers.models.paligemma.processing_paligemma import EXTRA_TOKENS

    tokenizer = _fast(
        _gemma_like(),
        ["<image>"],
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
        padding_side="left",
        extra_special_tokens={"image_token": "<image>"},
    )
    tokenizer.add_tokens(EXTRA_TOKENS)
    second = kind == "paligemma2"
    text = {
        **_TEXT,
        "model_type": "gemma2" if second else "gemma",
        "head_dim": 16,
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if second:
        text |= {"sliding_window": 4096, "query_pre_attn_scalar": 16}
    vision = {"model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 64, "image_size": 56}
    vision |= {"num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 14, "vision_use_head": False}
    config = tf.PaliGemmaConfig(
        text_config=text,
        vision_config=vision | {"projection_dim": 48},
        projection_dim=48,
        hidden_size=48,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    image_processor = tf.SiglipImageProcessor(size={"height": 56, "width": 56})
    image_processor.image_seq_length = 16
    processor = tf.PaliGemmaProcessor(image_processor=image_processor, tokenizer=tokenizer)
    model = tf.PaliGemmaForConditionalGeneration(config)
    _save(
        folder,
        model,
        processor,
        seed=4,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )

    def stock_text(phrase: str) -> str:
        return f"<image>detect {phrase}"

    return Small(kind, folder, "paligemma", stock_text, lean=False, image_options={})


_BUILDERS: dict[str, Callable[[str, Path], Small]] = {
    "qwen2_vl": _qwen,
    "qwen2_5_vl": _qwen,
    "qwen3_vl": _qwen,
    "internvl_qwen2": _internvl,
    "internvl_qwen3": _internvl,
    "internvl_llama": _internvl,
    "internvl_tiles": _internvl,
    JOINED_DIGITS: _internvl,
    "florence2": _florence,
    "paligemma": _paligemma,
    "paligemma2": _paligemma,
}
KINDS = tuple(kind for kind in _BUILDERS if kind != JOINED_DIGITS)
LEAN_KINDS = tuple(kind for kind in KINDS if kind.startswith(("qwen", "internvl")))


def model_type(folder: Path) -> str:
    return str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"])


def spelled(skeleton: Skeleton, wanted: list[int]) -> list[int]:
    """What the skeleton's cursor writes when every decision goes for the tokens wanted."""
    cursor = Cursor(skeleton, max_boxes=16)
    while not cursor.done and len(cursor.tokens) < len(wanted):
        token = wanted[len(cursor.tokens)]
        assert token in cursor.choice().options, f"token {len(cursor.tokens)} of {wanted}"
        cursor.take(token)
    assert cursor.done
    return cursor.tokens


def random_boxes(count: int, size_wh: tuple[int, int], seed: int) -> list[Box]:
    """Boxes of all sizes inside a picture."""
    generator = random.Random(seed)
    boxes = []
    for _ in range(count):
        x1, y1 = generator.uniform(0, size_wh[0] - 2), generator.uniform(0, size_wh[1] - 2)
        boxes.append(Box(x1, y1, generator.uniform(x1 + 1, size_wh[0]), generator.uniform(y1 + 1, size_wh[1])))
    return boxes
