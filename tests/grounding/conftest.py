"""The embedded model, loaded once; small demo data; adapters with random weights; no network."""

from __future__ import annotations

import json
import socket
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from grounding.records import Sample, read_samples, write_samples

MakeAdapter = Callable[..., Path]
MakeSnapshot = Callable[..., Path]
ADAPTER_RANK = 4


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only this machine can be reached."""
    connect = socket.socket.connect

    def connect_locally(self: socket.socket, address: Any) -> None:
        if self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1", "localhost"):
            return connect(self, address)
        raise AssertionError(f"a test reached for the network: {address}")

    monkeypatch.setattr(socket.socket, "connect", connect_locally)


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo data set with 8, 2 and 4 pictures, two samples on each."""
    from grounding.demo.dataset import DemoSize, write_demo

    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder, size=DemoSize(8, 2, 4))
    return folder


@pytest.fixture(scope="session")
def demo_samples(demo_folder: Path) -> dict[str, list[Sample]]:
    """The demo's samples by split."""
    return {split: list(read_samples(demo_folder / f"{split}.jsonl")) for split in ("train", "val", "test")}


@pytest.fixture(scope="session")
def questions(demo_samples: dict[str, list[Sample]]) -> list[tuple[Path, str]]:
    """Eight pictures with a phrase each: seven that the embedded model answers with a box, one with `[]`."""
    from grounding.demo.sprites import known_nouns

    named = [sample for split in demo_samples.values() for sample in split if sample.boxes_xyxy_px]
    known = [sample for sample in named if sample.category in known_nouns()]
    unknown = [sample for sample in named if sample.category not in known_nouns()]
    return [(sample.image, f"the {sample.category}") for sample in [*known[:7], unknown[0]]]


@pytest.fixture(scope="session")
def one_thread() -> None:
    """PyTorch on one thread, so that tests beside other work on a small machine don't crawl."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def loaded(one_thread: None) -> Any:
    """The embedded model. Shared by all tests: what a test changes on it, it puts back."""
    from grounding.models import load_model

    return load_model("demo")


@pytest.fixture(scope="session")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the session's predictor looks for adapters by name."""
    return tmp_path_factory.mktemp("adapters")


@pytest.fixture(scope="session")
def predictor(loaded: Any, adapters: Path) -> Any:
    """The one Predictor on the shared model. Answers end after one box: random adapters would never end theirs."""
    from grounding.predict import Predictor

    return Predictor(replace(loaded, profile=replace(loaded.profile, max_new_tokens=28)), adapters)


@pytest.fixture(scope="session")
def lora_model(one_thread: None) -> Any:
    """A second copy of the embedded model with LoRA on it: where `make_adapter` takes its files from."""
    from peft import LoraConfig, get_peft_model

    from grounding.models import load_model

    source = load_model("demo")
    config = LoraConfig(r=ADAPTER_RANK, lora_alpha=8, target_modules=source.profile.lora_targets, task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5.23 for a property under its old name.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return get_peft_model(source.model, config)


@pytest.fixture
def make_adapter(lora_model: Any, adapters: Path) -> MakeAdapter:
    """`make_adapter(name, seed=1, base="demo")` writes an adapter of random weights; each seed answers differently."""
    import torch

    from grounding.adapters import AdapterInfo

    def make(name: str, *, seed: int = 1, base: str = "demo", profile: str = "qwen3-vl-demo") -> Path:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight_name, weight in lora_model.named_parameters():
                if "lora_" in weight_name:
                    weight.copy_(torch.randn(weight.shape, generator=generator) * 0.08)
        folder = adapters / name
        lora_model.save_pretrained(str(folder), save_embedding_layers=False)
        AdapterInfo(name, folder, base, profile, created_at="2026-11-22T10:00:00+00:00").save()
        return folder

    return make


@pytest.fixture
def make_snapshot(tmp_path: Path) -> MakeSnapshot:
    """`make_snapshot(samples, name="tiny")` freezes samples in the test's workspace; returns the snapshot's folder."""

    def make(samples: Sequence[Sample], name: str = "tiny") -> Path:
        folder = tmp_path / "workspace" / "snapshots" / name
        write_samples(folder / "samples.jsonl", samples)
        digest = sha256((folder / "samples.jsonl").read_bytes()).hexdigest()
        manifest = {"format": "boxwright-snapshot/1", "name": name, "samples_sha256": digest}
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_samples(demo_samples: dict[str, list[Sample]]) -> list[Sample]:
    """Two train pictures with a readable phrase for each box, and one val picture."""
    named = [
        replace(sample, phrase=f"the {sample.category}", alternatives=())
        for sample in demo_samples["train"]
        if sample.boxes_xyxy_px
    ]
    pictures = list(dict.fromkeys(sample.image for sample in named))[:2]
    return [sample for sample in named if sample.image in pictures] + demo_samples["val"][:2]


@pytest.fixture(scope="session")
def oblong_picture(demo_samples: dict[str, list[Sample]]) -> Image.Image:
    """A picture of 192 x 256 pixels: 6 x 8 visual tokens where the demo's own pictures have 8 x 8."""
    with Image.open(demo_samples["train"][0].image) as picture:
        return picture.convert("RGB").crop((40, 0, 232, 256))
