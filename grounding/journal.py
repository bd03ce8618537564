"""The answers of an evaluation, written as they come: one that was interrupted goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from grounding.boxes import Box
from grounding.errors import AdapterError, WorkspaceError
from grounding.hashing import sha256_once
from grounding.records import Prediction, Sample, Status
from grounding.workspace import make_folder

if TYPE_CHECKING:
    from grounding.predict import Predictor

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

JOURNAL = "answers.jsonl"
_LOCK = ".evaluating"
_FORMAT = "boxwright-answers/1"
_ADAPTER_FILES = ("adapter.json", "adapter_config.json", "adapter_model.safetensors")
_IN_WORDS = {
    "model_id": "the model",
    "profile": "the profile",
    "adapter": "the adapter",
    "adapter_sha256": "the content of the adapter",
    "samples_sha256": "the list of samples",
    "pictures_sha256": "the content of the pictures",
}
_PARTS_IN_WORDS = {
    "mode": "the mode of decoding",
    "coordinates": "the kind of coordinates",
    "samples": "the number of votes",
    "choose": "the way to choose",
    "quantize": "--quantize",
    "profile": "--profile",
    "rerank": "--rerank",
    "weights": "the quantisation of the weights",
    "device": "the device",
    "numbers": "the number type",
    "model_files": "the content of the model",
    "calibration": "the calibration of the confidence",
}
_DIGESTS = ("model_files", "calibration")  # of no meaning to people


@dataclass(frozen=True)
class EvaluationSettings:
    """What the answers of an evaluation depend on: only answers under equal settings belong together.

    `adapter` is the name or folder as it was given, None for the base; `adapter_sha256` is over its files, so that
    an adapter trained anew under the same name is another one ("" for the base). `samples_sha256` is
    `samples_digest`; `pictures_sha256` is over the content of their pictures in order. `decoding` is how the predictor
    makes its answers, in its JSON form. `conditions` holds what else the caller changes, such as {"quantize": "4bit"}.
    """

    model_id: str
    profile: str
    adapter: str | None
    adapter_sha256: str
    samples_sha256: str
    pictures_sha256: str
    decoding: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    conditions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "decoding": dict(self.decoding), "conditions": dict(self.conditions)}

    def differences(self, others: Mapping[str, Any]) -> list[str]:
        """What other settings (in their JSON form) have otherwise, in words: "the model is 'a' there, 'b' here"."""
        mine = self.to_json()
        found = [_in_words(key, words, others.get(key), mine[key]) for key, words in _IN_WORDS.items()]
        for kind in ("decoding", "conditions"):
            there, here = dict(others.get(kind) or {}), mine[kind]
            for key in sorted(there.keys() | here.keys()):
                found.append(_in_words(key, _PARTS_IN_WORDS.get(key, key), there.get(key), here.get(key)))
        return [sentence for sentence in found if sentence]


def _in_words(key: str, words: str, there: object, here: object) -> str:
    """How one thing differs; "" where it does not."""
    if there == here:
        return ""
    if key.endswith("_sha256") or key in _DIGESTS:
        return f"{words} differs"
    shown = ["none" if value is None else repr(value) for value in (there, here)]
    return f"{words} is {shown[0]} there, {shown[1]} here"


def settings_of(
    samples: Sequence[Sample],
    predictor: Predictor,
    adapter: str | None,
    conditions: Mapping[str, str] | None = None,
) -> EvaluationSettings:
    """The settings of an evaluation about to begin. Raises `AdapterError` when there is no such adapter."""
    way = getattr(predictor, "decoding", None)  # not every predictor can be told how
    decoding = way.to_json() if way else {}
    known = {**(conditions or {}), **_model_conditions(predictor), **_scorer_conditions(predictor, decoding)}
    return EvaluationSettings(
        model_id=predictor.model_id,
        profile=predictor.profile.name,
        adapter=adapter,
        adapter_sha256=_adapter_sha256(predictor, adapter),
        samples_sha256=samples_digest(samples),
        pictures_sha256=_pictures_sha256(samples),
        decoding=MappingProxyType(decoding),
        conditions=MappingProxyType(dict(sorted(known.items()))),
    )


def _model_conditions(predictor: Predictor) -> dict[str, str]:
    """How the model was loaded, where the predictor says so: its answers and confidences depend on it."""
    loaded = getattr(predictor, "loaded", None)
    if loaded is None:
        return {}
    conditions = {"weights": str(loaded.quantize), "device": str(loaded.device), "numbers": str(loaded.model.dtype)}
    if loaded.fingerprint:  # other files under the same name are another model
        conditions["model_files"] = loaded.fingerprint[:16]
    if loaded.calibration is not None:
        conditions["calibration"] = hashlib.sha256(json.dumps(loaded.calibration.to_json()).encode()).hexdigest()[:16]
    return conditions


def _scorer_conditions(predictor: Predictor, decoding: Mapping[str, Any]) -> dict[str, str]:
    """Who chooses among the answers that are drawn, where it has a name."""
    named = getattr(getattr(predictor, "scorer", None), "model_id", None)
    is_asked = decoding.get("choose") == "rerank" and decoding.get("samples", 1) > 1
    return {"rerank": str(named)} if is_asked and named else {}


def answer_count(path: Path) -> int:
    """How many answers the log in `path` holds, under whatever settings; 0 where it can't be read."""
    try:
        return max(0, path.read_bytes().count(b"\n") - 1)
    except OSError:
        return 0


def samples_digest(samples: Iterable[Sample]) -> str:
    """SHA-256 over id, picture, phrase, boxes, category and split of every sample in order: equal when the same
    questions were asked, and fall into the same buckets."""
    digest = hashlib.sha256()
    for sample in samples:
        boxes = [list(box.rounded()) for box in sample.boxes_xyxy_px]
        asked = [sample.id, sample.image.name, sample.phrase, boxes, sample.category, sample.split]
        digest.update(json.dumps(asked).encode())
    return digest.hexdigest()


def picture_sha256(path: Path) -> str | None:
    """SHA-256 of a picture's content, read once for as long as size and time of the file stay; None without a file."""
    try:
        return sha256_once(path)
    except OSError:
        return None  # asking the model about this picture is what explains why


def _pictures_sha256(samples: Iterable[Sample]) -> str:
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(f"{picture_sha256(sample.image)}\n".encode())
    return digest.hexdigest()


def check_adapter(predictor: Predictor, settings: EvaluationSettings) -> None:
    """Raises `AdapterError` when the adapter of these settings is gone, or another stands under its name by now."""
    if settings.adapter is not None and _adapter_sha256(predictor, settings.adapter) != settings.adapter_sha256:
        raise AdapterError(
            f"Another adapter stands under the name {settings.adapter!r} by now than when the evaluation began, and "
            "answers of both don't belong in one report. Evaluate anew."
        )


def _adapter_sha256(predictor: Predictor, adapter: str | None) -> str:
    """Over the adapter's files; "" for the base, and where the predictor keeps no registry to look in."""
    registry = getattr(predictor, "registry", None)
    if adapter is None or registry is None:
        return ""
    return adapter_digest(registry.find(adapter).path)


def adapter_digest(folder: Path) -> str:
    """SHA-256 over the files of an adapter that its answers depend on; each is read once for as long as its size and
    time stay."""
    digest = hashlib.sha256()
    for name in _ADAPTER_FILES:
        digest.update(f"{name} {picture_sha256(folder / name)}\n".encode())
    return digest.hexdigest()


class Journal:
    """A JSONL file: the settings, then one line an answer. Each batch of answers is on the disk before the next."""

    def __init__(self, path: Path, settings: EvaluationSettings) -> None:
        self.path = path
        self.settings = settings
        self._has_header = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep others from writing here for as long as the block runs. Raises `WorkspaceError` when somebody does.

        The lock goes with the process, however it ends; systems without such locks go without.
        """
        if fcntl is None:
            yield
            return
        make_folder(self.path.parent, "The folder", "Choose another one (--out).")
        with (self.path.parent / _LOCK).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise WorkspaceError(
                    f"Another program is evaluating into {self.path.parent} right now. Wait for it, or choose another "
                    "folder (--out)."
                ) from error
            try:
                yield
            finally:
                (self.path.parent / _LOCK).unlink(missing_ok=True)

    def read(self) -> dict[int, Prediction]:
        """The answers so far, by the number of their sample from 0; none where there is no file yet.

        A last line without its end, as a crash leaves it, does not count. Raises `WorkspaceError` when the answers
        were given under other settings, or the file can't be read.
        """
        lines = self._content().splitlines()
        if not lines:
            return {}
        try:
            header, *records = [json.loads(line) for line in lines]
            format_, settings = header["format"], dict(header["settings"])
            answers: dict[int, Prediction] = {}
            for record in records:
                answers.setdefault(int(record["sample"]), _from_json(record))
        except (ValueError, KeyError, TypeError) as error:
            raise WorkspaceError(
                f"{self.path} is damaged ({error}). Delete it to ask everything anew, or choose another folder (--out)."
            ) from error
        if format_ != _FORMAT:
            raise WorkspaceError(
                f"{self.path} has the format {format_!r}, expected {_FORMAT!r}. Choose another folder (--out)."
            )
        if differences := self.settings.differences(settings):
            raise WorkspaceError(
                f"{self.path} holds answers under other settings: {'; '.join(differences)}. "
                "Choose another folder (--out), or delete that file to begin anew."
            )
        return answers

    def append(self, answers: Mapping[int, Prediction]) -> None:
        """Write answers by the number of their sample; on the disk when this returns. Raises `WorkspaceError`."""
        lines = [json.dumps({"sample": number, **_to_json(answer)}) for number, answer in answers.items()]
        whole = None if self._has_header else len(self._content())
        if whole == 0:
            lines.insert(0, json.dumps({"format": _FORMAT, "settings": self.settings.to_json()}))
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                if whole is not None:
                    file.truncate(whole)  # without the half line of a crash, if there is one
                file.write(("\n".join(lines) + "\n").encode())
                file.flush()
                os.fsync(file.fileno())
            self._has_header = True
        except OSError as error:
            raise WorkspaceError(
                f"Answers can't be kept in {self.path}: {error}. Free space or rights there, or choose another "
                "folder (--out); the same command then goes on where it stopped."
            ) from error

    def _content(self) -> bytes:
        """The file up to the end of its last whole line."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise WorkspaceError(f"{self.path} can't be read: {error}. Choose another folder (--out).") from error
        return content[: content.rfind(b"\n") + 1]


def _to_json(answer: Prediction) -> dict[str, Any]:
    return {
        "status": str(answer.status),
        "raw_text": answer.raw_text,
        "boxes_xyxy_px": [list(box) for box in answer.boxes_xyxy_px],
        "confidence": answer.confidence,
        "box_confidences": list(answer.box_confidences),
        "seconds": answer.seconds,
        "adapter": answer.adapter,
    }


def _from_json(record: Mapping[str, Any]) -> Prediction:
    return Prediction(
        boxes_xyxy_px=tuple(Box.from_numbers(numbers) for numbers in record["boxes_xyxy_px"]),
        status=Status(record["status"]),
        raw_text=record["raw_text"],
        confidence=record["confidence"],
        seconds=record["seconds"],
        adapter=record["adapter"],
        box_confidences=tuple(record["box_confidences"]),
    )
