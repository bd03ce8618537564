"""How fast a model of Qwen3-VL-2B's shape answers on a GPU: forced skeleton against plain `generate`.

Random weights in the stock classes, so this says nothing about quality. Pictures of 640x480 (300 visual tokens); plain
`generate` writes 36 tokens, what one box takes in Qwen3-VL's own form; ours writes one whole box.

    python benchmarks/gpu_speed.py          # a GPU with 24 GiB; about five minutes
    python benchmarks/gpu_speed.py --tiny   # the same steps on a small model, on any machine: no figures are kept
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import torch  # noqa: E402
from PIL import Image  # noqa: E402

from grounding import engine  # noqa: E402
from grounding.answering import Answerer, Ask  # noqa: E402
from grounding.decoding.settings import Decoding  # noqa: E402
from grounding.devices import choose_device  # noqa: E402
from grounding.formats import AnswerShape, Frame, QwenJson1000  # noqa: E402
from grounding.models import LoadedModel, load_model  # noqa: E402
from grounding.profiles import profile_for  # noqa: E402
from measuring import write_result  # noqa: E402

PICTURE_WH = (640, 480)
PLAIN_TOKENS = 36
PHRASES = [f"the {size} {noun}" for size in ("big", "small", "left", "right") for noun in ("dog", "cup")]


class OneBox(QwenJson1000):
    """Random weights would say "nothing there" or go on for ever: here an answer is one box."""

    def shape(self, frame: Frame, phrase: str = "") -> AnswerShape:
        """The shape of Qwen3-VL's answer, with exactly one box in it."""
        return replace(super().shape(frame, phrase), nothing=None, between=None)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a small model: to see that the steps work")
    options = parser.parse_args(arguments)
    if not options.tiny and not torch.cuda.is_available():
        print("gpu_speed: no GPU was found. Run it where there is one, or with --tiny.", file=sys.stderr)
        return 1
    loaded = random_model(tiny=options.tiny)
    result = {"parameters": sum(p.numel() for p in loaded.model.parameters()), "notes": loaded.notes}
    result["cases"] = measure(loaded, batches=(4,) if options.tiny else (32, 128), rounds=1 if options.tiny else 5)
    for case in result["cases"]:
        print(case)
    if not options.tiny:
        write_result("gpu_speed", result, ("torch", "transformers"))
    return 0


def random_model(*, tiny: bool, device: str | None = None, dtype: torch.dtype | None = None) -> LoadedModel:
    """Stock classes, random weights, the embedded model's processor with Qwen3-VL's pixel budget."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    demo = load_model("demo", device="cpu")
    config = Qwen3VLConfig.from_dict(demo.model.config.to_dict())
    if not tiny:
        text = {"hidden_size": 2048, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8}
        text |= {"head_dim": 128, "intermediate_size": 6144, "vocab_size": 151_936, "max_position_embeddings": 32_768}
        text |= {"rope_parameters": {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20]}}
        vision = {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16, "out_hidden_size": 2048}
        vision |= {"deepstack_visual_indexes": [5, 11, 17], "num_position_embeddings": 2304}
        for part, values in ((config.text_config, text), (config.vision_config, vision)):
            for name, value in values.items():
                setattr(part, name, value)
    demo.family.prepare_processor(demo.processor, profile_for("qwen3_vl"))
    chosen_device, chosen_dtype, notes = choose_device(torch, "cpu" if tiny else device)
    torch.manual_seed(0)
    with torch.device(chosen_device):
        made = Qwen3VLForConditionalGeneration._from_config(config, dtype=dtype or chosen_dtype)
    model = made.eval().requires_grad_(False)
    model.generation_config = demo.model.generation_config
    profile = replace(demo.profile, box_format=OneBox(fenced=True))
    return replace(demo, model_id="random", model=model, device=chosen_device, notes=tuple(notes), profile=profile)


def measure(loaded: LoadedModel, *, batches: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """One box, batches of one phrase a picture, batches of eight phrases a picture."""
    begin = time.perf_counter()
    answerer = Answerer(loaded)
    pictures = [Image.effect_noise(PICTURE_WH, 90).convert("RGB") for _ in range(8)]
    ours(loaded, answerer, pictures[:1], 1)
    warm_up_seconds = time.perf_counter() - begin
    cases = [compared(loaded, answerer, pictures, 1, 1, rounds) | {"warm_up_seconds": round(warm_up_seconds, 2)}]
    for batch in batches:
        cases.append(compared(loaded, answerer, pictures, batch, 1, rounds))
        cases.append(compared(loaded, answerer, pictures, batch, 8, rounds))
    return cases


def compared(
    loaded: LoadedModel, answerer: Answerer, pictures: Sequence[Any], boxes: int, phrases: int, rounds: int
) -> dict[str, Any]:
    """One case, both ways in turn: median seconds, boxes a second, peak memory."""
    shown = [pictures[i % len(pictures)] for i in range(max(1, boxes // phrases))]
    ways = {
        "ours": lambda: ours(loaded, answerer, shown, phrases),
        "plain": lambda: plain(loaded, [picture for picture in shown for _ in range(phrases)]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    memory: dict[str, float] = {}
    for number in range(rounds + 1):
        for name, run in ways.items():
            took, gib = clocked(run)
            memory[name] = max(memory.get(name, 0.0), gib)
            if number:  # the first is a warm-up
                seconds[name].append(took)
    count = len(shown) * phrases
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "boxes": count,
        "phrases_per_picture": phrases,
        "median_seconds": {name: round(value, 4) for name, value in medians.items()},
        "boxes_per_second": {name: round(count / value, 1) for name, value in medians.items()},
        "times_as_fast": round(statistics.median(b / a for a, b in zip(*seconds.values(), strict=True)), 2),
        "peak_memory_gib": {name: round(value, 2) for name, value in memory.items()},
    }


def clocked(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds and peak GPU memory in GiB (0.0 without a GPU) of one run."""
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    begin = time.perf_counter()
    run()
    if cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - begin
    return seconds, torch.cuda.max_memory_allocated() / 2**30 if cuda else 0.0


def ours(loaded: LoadedModel, answerer: Answerer, pictures: Sequence[Any], phrases: int) -> None:
    """Every picture once through the vision tower, then forced answers."""
    features = engine.encode_images(loaded, pictures)
    asks = [Ask(feature, phrase) for feature in features for phrase in PHRASES[:phrases]]
    for answer in answerer.answer(asks, Decoding()):
        if '"bbox_2d"' not in answer.text:
            raise RuntimeError(f"{answer.text!r} holds no box: the comparison would be unfair.")


@torch.inference_mode()
def plain(loaded: LoadedModel, pictures: Sequence[Any]) -> None:
    """The stock processor and `generate`, every row with its own picture."""
    texts = [engine.chat_text(loaded, PHRASES[i % len(PHRASES)], 1) for i in range(len(pictures))]
    inputs = loaded.processor(text=texts, images=list(pictures), padding=True, return_tensors="pt").to(loaded.device)
    loaded.model.generate(**inputs, max_new_tokens=PLAIN_TOKENS, min_new_tokens=PLAIN_TOKENS, do_sample=False)


if __name__ == "__main__":
    sys.exit(main())
