"""What the Train tab knows of pre-flight: the cheap part kept per state of the data, the model's part in a process
of its own."""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from grounding.errors import BoxwrightError, JobError
from grounding.models import base_profile
from grounding.records import Sample, write_samples
from grounding.snapshots import SNAPSHOT_FORMAT
from grounding.training.preflight import Finding, Preflight
from grounding.training.preflight.check import check_samples
from grounding.training.preflight.headers import CACHE_NAME
from grounding.training.preflight.records import queue_address
from grounding.training.settings import TrainSettings
from grounding.ui.model_service import ModelService
from grounding.workspace import Workspace

_REPOSITORY = Path(__file__).resolve().parent.parent.parent
_MOST_SECONDS = 900.0
_SMALL = 20_000
"""Sets of up to so many samples are checked by themselves whenever they change; larger ones when the tab opens."""
_EVERY_SECONDS = 5.0
_LEFT_OUT = {
    "placeholder": ("a placeholder stands where a phrase should", "placeholders"),
    "flagged": ("a person flagged them", "flagged"),
    "rejected": ("they were rejected", "rejected"),
    "leak": ("their picture stands in val or test too", ""),
}

log = logging.getLogger(__name__)


class Frozen(Protocol):
    """What a snapshot made now would hold."""

    def version(self) -> str:
        """Another text whenever a sample has changed."""

    def would_be_frozen(self) -> tuple[list[Sample], dict[str, int]]:
        """(samples, train samples left out for each reason)."""


@dataclass(frozen=True)
class DeskState:
    """What is known now. `rows` is the cheap part (None: not looked yet) under `settings`, `model` the model's part of
    the data at `model_version` under `model_settings`; `settings_changed` that those on a page are others by now;
    `unfolded` that what the model sees is looked at: from the end of a look until a run begins; `busy` and `looking`
    say what is under way, `trouble` what failed."""

    version: str = ""
    rows: Preflight | None = None
    settings: TrainSettings | None = None
    left_out: Mapping[str, int] | None = None
    busy: bool = False
    model: Preflight | None = None
    model_version: str = ""
    model_settings: TrainSettings | None = None
    settings_changed: bool = False
    unfolded: bool = False
    looking: str = ""
    looking_since: float = 0.0
    trouble: str = ""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the panel would look different."""
        rows, model = id(self.rows), id(self.model)
        parts = (self.version, self.rows is None, self.busy, rows, model, self.looking, self.trouble, self.unfolded)
        return " ".join(map(str, parts))


class PreflightDesk:
    """Runs the checks behind the page. Any thread may ask; at most one look of each kind is under way."""

    def __init__(self, workspace: Workspace, models: ModelService, curation: Frozen) -> None:
        self.workspace = workspace
        self.models = models
        self.curation = curation
        self._lock = threading.Lock()
        self._state = DeskState()
        self._checked_at = -1e9

    @property
    def state(self) -> DeskState:
        with self._lock:
            return self._state

    def refresh(self, settings: TrainSettings, *, opened: bool = False) -> None:
        """Begin the cheap part when the data has changed since. `opened`: a person has just come to look."""
        state, now = self.state, time.monotonic()
        large = state.rows is not None and sum(state.rows.counts.get(key, 0) for key in ("train", "val")) > _SMALL
        if state.busy or not (opened or (now - self._checked_at > _EVERY_SECONDS and not large)):
            return
        version = self.curation.version()
        if state.rows is not None and version == state.version:
            return
        self._set(busy=True)
        threading.Thread(target=self._check_rows, args=(settings,), name="preflight", daemon=True).start()

    def clear(self, settings: TrainSettings, *, force: bool) -> Preflight:
        """The cheap part of the data as it is now. Raises `PreflightError` when something blocks and `force` is not
        given."""
        checked = replace(self.check_now(settings), forced=force)
        checked.check()
        self._set(unfolded=False)  # the run is what is looked at now
        return checked

    def check_now(self, settings: TrainSettings) -> Preflight:
        """The cheap part, done in the caller's thread unless it is known for this very data and these settings."""
        version = self.curation.version()
        samples, left_out = self.curation.would_be_frozen()
        profile = base_profile(self.models.model)
        checked = check_samples(samples, profile, settings, cache=self.workspace.root / CACHE_NAME)
        checked = with_left_out(replace(checked, snapshot="The phrases as they stand"), left_out)
        self._set(rows=checked, settings=settings, left_out=left_out, version=version)
        return checked

    def _check_rows(self, settings: TrainSettings) -> None:
        try:
            self.check_now(settings)
            self._set(trouble="")
        except BoxwrightError as error:
            self._set(trouble=str(error))
        except Exception as error:  # the thread's edge: logged here, said on the page
            log.exception("pre-flight failed")
            self._set(trouble=f"The check failed ({type(error).__name__}); the terminal has the details.")
        finally:
            self._checked_at = time.monotonic()
            self._set(busy=False)

    def look(self, settings: TrainSettings) -> None:
        """Begin the model's part in a process of its own. Raises `JobError` while one is under way."""
        with self._lock:
            if self._state.looking:
                raise JobError("The model is being asked already. Wait until it has answered.")
            self._state = replace(
                self._state, looking="Writing the samples down", looking_since=time.monotonic(), trouble=""
            )
        threading.Thread(target=self._look, args=(settings,), name="preflight-look", daemon=True).start()

    def _look(self, settings: TrainSettings) -> None:
        folder = self.workspace.runs / f".preflight-{secrets.token_hex(4)}"
        try:
            version = self.curation.version()
            samples, left_out = self.curation.would_be_frozen()
            _write_snapshot(folder, samples)
            # Compare's model leaves the GPU, as it will when the run begins.
            with self.models.lent("the check before training"):
                checked = self._ask(folder, settings, lambda text: self._set(looking=text))
            found = with_left_out(checked, left_out)
            self._set(model=found, model_version=version, model_settings=settings, unfolded=True)
        except BoxwrightError as error:
            self._set(trouble=str(error))
        except Exception as error:  # as above
            log.exception("the model's part of pre-flight failed")
            self._set(trouble=f"The look failed ({type(error).__name__}: {error}); the terminal has the details.")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            self._set(looking="")

    def _ask(self, folder: Path, settings: TrainSettings, tell: Callable[[str], None]) -> Preflight:
        """`python -m grounding train FOLDER --check --json`: a process of its own, so that running out of memory
        costs nothing. Raises `JobError` with its last word when it fails."""
        command = [sys.executable, "-m", "grounding", "train", str(folder), "--check", "--json"]
        command += ["--workspace", str(self.workspace.root), "--model", self.models.model]
        command += ["--quantize", self.models.quantize]
        command += [word for key, value in settings.to_json().items() for word in ("--set", f"{key}={_typed(value)}")]
        status, answer, said = _listen_to(command, tell)
        try:
            return Preflight.from_json(json.loads(answer))
        except (ValueError, KeyError, TypeError) as error:
            raise JobError(_ended(status, said)) from error

    def _set(self, **changes: Any) -> None:
        with self._lock:
            self._state = replace(self._state, **changes)


def _listen_to(command: Sequence[str], tell: Callable[[str], None]) -> tuple[int, str, list[str]]:
    """Run a command of ours: (exit status, standard output, lines of standard error), each line told as it comes."""
    said: list[str] = []
    with subprocess.Popen(
        command,
        cwd=_REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:

        def listen() -> None:
            for line in process.stderr or ():
                if line.strip():
                    said.append(line.strip())
                    tell(line.strip()[:200])

        watch = threading.Timer(_MOST_SECONDS, process.kill)
        listener = threading.Thread(target=listen, daemon=True)
        watch.start()
        listener.start()
        answer = process.stdout.read() if process.stdout else ""
        listener.join()
        watch.cancel()
    return process.returncode, answer, said


def with_left_out(checked: Preflight, left_out: Mapping[str, int]) -> Preflight:
    """With what a snapshot leaves out: a note, or the reason why nothing is left to learn from."""
    count = left_out.get("placeholder", 0)
    findings = list(checked.findings)
    if count and not checked.counts.get("train"):
        reason = (
            f"All {count:,} train samples have a placeholder where a phrase should stand: it names no object, so "
            "nothing about phrases can be learned. Repair them from their source's own phrases, or write them."
        )
        only = Finding("placeholder", True, reason, count=count, queue=queue_address("placeholders"))
        findings = [only, *(f for f in findings if f.kind not in ("nothing_to_learn", "placeholder"))]
    elif sum(left_out.values()):
        told = [f"{number:,} because {_LEFT_OUT[why][0]}" for why, number in left_out.items() if why in _LEFT_OUT]
        if told:
            queue = next((_LEFT_OUT[why][1] for why in left_out if why in _LEFT_OUT), "")
            address = queue_address(queue) if queue else ""
            sentence = f"Train samples left out: {'; '.join(told)}."
            findings.append(Finding("left_out", False, sentence, count=sum(left_out.values()), queue=address))
    return replace(checked, findings=tuple(findings))


def _write_snapshot(folder: Path, samples: Sequence[Sample]) -> None:
    """A snapshot for one look, in a folder that no list shows."""
    write_samples(folder / "samples.jsonl", samples)
    sha256 = hashlib.sha256((folder / "samples.jsonl").read_bytes()).hexdigest()
    manifest = {"format": SNAPSHOT_FORMAT, "name": "The phrases as they stand", "samples_sha256": sha256}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def _typed(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _ended(status: int, said: Sequence[str]) -> str:
    last = said[-1] if said else "it said nothing"
    if status < 0:
        return (
            f"The look at the model was ended by the system (signal {-status}), most likely for its memory; the last "
            f"it said: {last}. Lower the pictures per step, or choose 4-bit weights."
        )
    return f"The look at the model failed: {last}"
