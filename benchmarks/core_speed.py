"""How fast the core answers, against plain `generate` of transformers on the same model, data and machine.

The embedded model and an adapter trained for a moment. Plain means what a careful user writes by hand: the stock
processor on picture and prompt, `generate` with greedy decoding, rows padded on the left, the adapter merged into its
own copy of the model. Pictures are read from disk in every run.

    python benchmarks/core_speed.py             # about five minutes on two cores
    python benchmarks/core_speed.py --rounds 3  # quicker, noisier
"""

from __future__ import annotations

import argparse
import copy
import random
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import torch  # noqa: E402
from PIL import Image  # noqa: E402

from grounding.boxes import set_iou  # noqa: E402
from grounding.demo.dataset import DemoSize, write_demo  # noqa: E402
from grounding.demo.phrases import true_phrases  # noqa: E402
from grounding.demo.scenes import draw_scene  # noqa: E402
from grounding.demo.sprites import known_nouns  # noqa: E402
from grounding.families import all_profiles  # noqa: E402
from grounding.feature_store import FeatureStore  # noqa: E402
from grounding.formats import Frame  # noqa: E402
from grounding.models import load_model  # noqa: E402
from grounding.predict import Predictor  # noqa: E402
from grounding.records import Sample, read_samples  # noqa: E402
from measuring import interleaved, medians, times_as_fast, write_figures, write_result  # noqa: E402

PLAIN_BATCH = 20
ADAPTER = "benchmark"


@dataclass(frozen=True)
class Plain:
    """Plain transformers: a model, its processor, and how it is asked."""

    model: Any
    loaded: Any

    @torch.inference_mode()
    def ask(self, samples: Sequence[Sample]) -> list[str]:
        """One batch, every row with its own picture."""
        processor, profile = self.loaded.processor, self.loaded.profile
        texts = [
            processor.apply_chat_template(
                [
                    {
                        "role": "user",
                        "content": [{"type": "image"}, {"type": "text", "text": profile.prompt_for(s.phrase)}],
                    }
                ],
                add_generation_prompt=True,
                tokenize=False,
            )
            for s in samples
        ]
        pictures = [Image.open(s.image).convert("RGB") for s in samples]
        inputs = processor(text=texts, images=pictures, padding=True, return_tensors="pt")
        written = self.model.generate(**inputs, max_new_tokens=profile.max_new_tokens, do_sample=False)
        answers = written[:, inputs["input_ids"].shape[1] :]
        return [text.strip() for text in processor.batch_decode(answers, skip_special_tokens=True)]

    def ask_all(self, samples: Sequence[Sample]) -> list[str]:
        """All of them, batch by batch."""
        return [text for i in range(0, len(samples), PLAIN_BATCH) for text in self.ask(samples[i : i + PLAIN_BATCH])]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), options.rounds)
    write_result("core_speed", result, ("torch", "transformers", "peft"))
    write_figures("core_speed", figures_markdown(result))
    for case in result["cases"]:
        print(f"{case['what']}; answers alike {case['answers_alike']} of {case['answers']}, {case['accuracy_50']}")
        for peer in case["comparisons"]:
            print(f"  {peer['times_as_fast']:5.2f} times as fast as {peer['against']} (wanted {peer['wanted']})")
    return 0


def figures_markdown(result: dict[str, Any]) -> str:
    """The README's table, from the result alone."""
    lines = ["| the embedded model on two cores | times as fast as `generate` of transformers |\n|---|---|\n"]
    for case in result["cases"]:
        for peer in case["comparisons"]:
            against = peer["against"].replace("generate", "`generate`")
            lines.append(f"| {case['what']} | {peer['times_as_fast']:.1f} times {against} |\n")
    asked = sum(case["answers"] * len(case["answers_alike"]) for case in result["cases"])
    alike = sum(sum(case["answers_alike"].values()) for case in result["cases"])
    return "".join(lines) + f"\nThe same answers: {alike} of {asked}.\n"


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    """Every case in turn."""
    write_demo(folder / "demo", size=DemoSize(60, 0, 100))
    samples = list(read_samples(folder / "demo" / "test.jsonl"))
    pictures = draw_pictures(folder, 10)
    loaded = load_model("demo")
    adapter = train_adapter(folder, list(read_samples(folder / "demo" / "train.jsonl")))
    base, tuned = Plain(copy.deepcopy(loaded.model), loaded), Plain(merged(loaded.model, adapter), loaded)
    ours = Predictor(loaded, folder / "adapters")
    cases = [
        one_phrase(ours, base, tuned, pictures, rounds),
        eight_phrases(ours, base, pictures, rounds),
        whole_split(ours, base, tuned, samples, folder, max(3, rounds // 2)),
    ]
    return {"cases": [{key: value for key, value in case.items() if key != "seconds"} for case in cases]}


def draw_pictures(folder: Path, count: int) -> list[list[Sample]]:
    """Unseen scenes with eight phrases each, true of objects whose nouns the embedded model knows."""
    rng = random.Random(11)
    pictures: list[list[Sample]] = []
    while len(pictures) < count:
        scene = draw_scene(rng)
        path = folder / f"scene-{len(pictures)}.png"
        found = [
            Sample(f"{len(pictures)}-{phrase.text}", path, phrase.text, (scene.objects[index].box_xyxy_px,))
            for index in range(len(scene.objects))
            if scene.objects[index].noun in known_nouns()
            for phrase in true_phrases(scene.objects, index)
        ]
        if len(found) >= 8:
            scene.image.save(path)
            pictures.append(rng.sample(found, 8))
    return pictures


def train_adapter(folder: Path, samples: Sequence[Sample]) -> Path:
    """A short training run: the adapter must answer as adapters do, not well."""
    from grounding.snapshots import Snapshot
    from grounding.training.run import TrainPlan, train
    from grounding.training.settings import TrainSettings

    named = [s for s in samples if len(s.phrase) < 60]
    snapshot = Snapshot("benchmark", folder, "", tuple(named))
    plan = TrainPlan(ADAPTER, snapshot, "demo", "none", TrainSettings(steps=40), folder / "adapters" / ADAPTER)
    (folder / "adapters").mkdir()
    return train(plan, lambda event: None, lambda: False).path


def merged(model: Any, adapter: Path) -> Any:
    """A copy of the model with the adapter in its weights: the fastest plain way to use one."""
    from peft import PeftModel

    return PeftModel.from_pretrained(copy.deepcopy(model), str(adapter)).merge_and_unload()


def one_phrase(
    ours: Predictor, base: Plain, tuned: Plain, pictures: Sequence[Sequence[Sample]], rounds: int
) -> dict[str, Any]:
    """Base and adapter for one phrase, ten pictures after one another."""
    asked = [same[0] for same in pictures]

    def plain() -> list[list[str]]:
        return [[model.ask([sample])[0] for sample in asked] for model in (base, tuned)]

    def forced() -> list[list[str]]:
        pairs = [ours.compare(sample.image, sample.phrase, [None, ADAPTER]) for sample in asked]
        return [[pair[model].raw_text for pair in pairs] for model in (0, 1)]

    ways = {"ours": forced, "plain": plain}
    what = "base and adapter for one phrase"
    return timed(what, {"two generate calls": ("plain", 2.5)}, ways, rounds, accuracy(asked, ways))


def eight_phrases(ours: Predictor, base: Plain, pictures: Sequence[Sequence[Sample]], rounds: int) -> dict[str, Any]:
    """Eight phrases on each of five pictures."""
    pictures = pictures[:5]
    asked = [sample for same in pictures for sample in same]
    ways = {
        "ours": lambda: [[a.raw_text for s in pictures for a in ours.predict_many([(x.image, x.phrase) for x in s])]],
        "batch": lambda: [[text for same in pictures for text in base.ask(same)]],
        "one by one": lambda: [[base.ask([sample])[0] for sample in asked]],
    }
    against = {"generate in one batch of 8": ("batch", 2.5), "generate one by one": ("one by one", 7.0)}
    return timed("8 phrases on one picture", against, ways, rounds, accuracy(asked, ways))


def whole_split(
    ours: Predictor, base: Plain, tuned: Plain, samples: Sequence[Sample], folder: Path, rounds: int
) -> dict[str, Any]:
    """Base and adapter over the demo's test split: nothing kept, then with the image features on disk."""
    pairs = [(sample.image, sample.phrase) for sample in samples]
    keeping = Predictor(ours.loaded, folder / "adapters", features=FeatureStore(folder / "features"))

    def compare(predictor: Predictor) -> list[list[str]]:
        answers = predictor.compare_many(pairs, [None, ADAPTER])
        return [[both[model].raw_text for both in answers] for model in (0, 1)]

    ways = {
        "ours": lambda: compare(ours),
        "ours, features kept": lambda: compare(keeping),
        "plain": lambda: [base.ask_all(samples), tuned.ask_all(samples)],
    }
    against = {"two passes of generate in batches of 20": ("plain", 1.6)}
    kept = {"two passes of generate in batches of 20, our image features kept on disk": ("plain", 2.5)}
    result = timed("base and adapter over a split", against, ways, rounds, accuracy(samples, ways))
    result["comparisons"] += compared(result.pop("seconds"), kept, "ours, features kept")
    return result


def timed(
    what: str,
    against: Mapping[str, tuple[str, float]],
    ways: Mapping[str, Callable[[], list[list[str]]]],
    rounds: int,
    checked: Mapping[str, Any],
) -> dict[str, Any]:
    """Time the ways in turn; `against` names each peer's way and how many times as fast ours should be."""
    print(what, file=sys.stderr)
    seconds = interleaved(ways, rounds=rounds)
    return {
        "what": what,
        "comparisons": compared(seconds, against, "ours"),
        "median_seconds": medians(seconds),
        "rounds": rounds,
        **checked,
        "seconds": seconds,
    }


def compared(seconds: Any, against: Mapping[str, tuple[str, float]], ours: str) -> list[dict[str, Any]]:
    """How many times as fast, for each peer."""
    return [
        {"against": name, "times_as_fast": round(times_as_fast(seconds, ours, way), 2), "wanted": wanted}
        for name, (way, wanted) in against.items()
    ]


def accuracy(samples: Sequence[Sample], ways: Mapping[str, Callable[[], list[list[str]]]]) -> dict[str, Any]:
    """Whether the ways answer alike, and how well: Acc@0.5 of each asked model over the samples with a target."""
    answers = {name: run() for name, run in ways.items()}
    ours = answers["ours"]
    alike = {
        name: sum(a == b for mine, his in zip(ours, theirs, strict=True) for a, b in zip(mine, his, strict=True))
        for name, theirs in answers.items()
        if name != "ours"
    }
    shares = {name: [acc_50(samples, texts) for texts in by_model] for name, by_model in answers.items()}
    return {"answers": sum(map(len, ours)), "answers_alike": alike, "accuracy_50": shares}


def acc_50(samples: Sequence[Sample], texts: Sequence[str]) -> float | None:
    """Share of the samples with a target whose answer has IoU >= 0.5; None without any."""
    box_format = all_profiles()["qwen3-vl-demo"].text_format
    hits = []
    for sample, text in zip(samples, texts, strict=True):
        if sample.boxes_xyxy_px:
            with Image.open(sample.image) as picture:
                boxes = box_format.decode(text, Frame(picture.size)).boxes_xyxy_px
            hits.append(set_iou(boxes, sample.boxes_xyxy_px) >= 0.5)
    return round(sum(hits) / len(hits), 4) if hits else None


if __name__ == "__main__":
    sys.exit(main())
