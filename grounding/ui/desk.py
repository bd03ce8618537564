"""What one visitor of Compare has on the table, and what happens to it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from grounding.errors import AdapterError, BoxwrightError, PictureError, StoreError
from grounding.pictures import open_picture, picture_size_wh
from grounding.records import Sample
from grounding.ui.cards import Scene, answers_html, empty_html, pending_html, problem_html
from grounding.ui.model_service import Phase
from grounding.ui.pictures import figure_url, find_picture
from grounding.ui.scoreboard import SUMMARY_SPLIT, Scoreboard
from grounding.ui.sources import Parts, picture_id
from grounding.ui.truth import truth_for

NOTHING_YET = "No samples in this workspace yet. Upload a picture, write a phrase, and press Enter."
WRITE_A_PHRASE = "Write what to look for and press Enter"
_POLL_SECONDS = 0.4


@dataclass
class Desk:
    """The picture that one visitor looks at. Lives in the session and changes in place.

    `picture_number` counts the pictures laid here, so that an answer that comes late for an earlier one is
    recognised; `answered_number` is the last of them that was asked about by itself, and `asked` the last
    question: picture number, phrase, adapter. `offered` are the adapters that the page has shown.
    """

    sample_id: str | None = None
    picture_sha256: str | None = None
    offset: int = 0
    picture_number: int = 0
    answered_number: int = 0
    asked: tuple[int, str, str | None] | None = None
    offered: tuple[str, ...] = ()
    stop_summary: bool = False

    def lay(self, picture_sha256: str, sample_id: str | None) -> None:
        self.picture_sha256, self.sample_id = picture_sha256, sample_id
        self.picture_number += 1


class Compare:
    """What the Compare tab does, without a widget: every method can be called by a test."""

    def __init__(self, parts: Parts, board: Scoreboard) -> None:
        self.parts = parts
        self.board = board

    def first_sample(self, split: str | None) -> Sample | None:
        samples, _ = self.parts.source.page(split, 0, 1)
        return samples[0] if samples else None

    def default_split(self) -> str | None:
        """The test split where it has samples, else all of them."""
        return SUMMARY_SPLIT if self.parts.source.splits().get(SUMMARY_SPLIT) else None

    def check_split(self, split: object) -> str | None:
        """A split out of the client's choice; None for all. Raises `StoreError` for an unknown one."""
        if split in (None, "all"):
            return None
        if not isinstance(split, str) or split not in self.parts.source.splits():
            raise StoreError(f"There is no split {str(split)[:40]!r} in this workspace. Choose one from the list.")
        return split

    def check_adapter(self, adapter: object) -> str | None:
        """An adapter out of the client's choice; None for the base alone. Raises `AdapterError` for an unknown one."""
        if adapter in (None, ""):
            return None
        if not any(info.name == adapter for info in self.board.adapters()):
            raise AdapterError(f"There is no adapter {str(adapter)[:80]!r} for this model. Choose one from the list.")
        return str(adapter)

    def pick(self, desk: Desk, sample_id: object) -> Sample:
        """Lay a sample on the desk. Raises `StoreError` for an unknown id."""
        sample = self.parts.source.get_sample(str(sample_id))
        desk.lay(picture_id(sample), sample.id)
        return sample

    def upload(self, desk: Desk, path: Path) -> None:
        """Keep an uploaded picture and lay it on the desk. Raises `PictureError`, and then nothing has changed."""
        open_picture(path)  # to the last pixel: a picture cut short must not be kept
        sha256, _ = self.parts.workspace.uploads.add(path)
        desk.lay(sha256, None)

    def phrase_of_sample(self, desk: Desk) -> str | None:
        """The phrase of the sample on the desk; None for an uploaded picture."""
        return self.parts.source.get_sample(desk.sample_id).phrase if desk.sample_id else None

    def scene(self, desk: Desk, phrase: str) -> Scene:
        """What the cards show. Raises `PictureError` when nothing lies on the desk."""
        if desk.picture_sha256 is None:
            raise PictureError("There is no picture to ask about. Choose one on the left or upload one.")
        size_wh = picture_size_wh(find_picture(self.parts.workspace, desk.picture_sha256))
        sample = self.parts.source.get_sample(desk.sample_id) if desk.sample_id else None
        truth = truth_for(sample, phrase, self.parts.is_placeholder)
        return Scene(figure_url(desk.picture_sha256), size_wh, phrase, truth)

    def waiting_html(self, desk: Desk, phrase: str, adapter: str | None) -> str:
        """The desk before the model was asked."""
        if desk.picture_sha256 is None:
            return empty_html(NOTHING_YET)
        scene = self.scene(desk, phrase)
        if not phrase.strip():
            return pending_html(scene, adapter, WRITE_A_PHRASE, busy=False)
        return pending_html(scene, adapter, self._model_message())

    def ask(self, desk: Desk, phrase: str, adapter: str | None) -> Iterator[str]:
        """The cards as they come: while the model loads, while it works, and with the answers.

        Stops without a word when another picture was laid on the desk meanwhile.
        """
        number, scene = desk.picture_number, self.scene(desk, phrase)
        desk.asked = (number, phrase, adapter)
        yield from self._until_loaded(desk, scene, adapter)
        try:
            html = self._answers(desk, scene, adapter)
        except BoxwrightError as error:
            html = problem_html(scene, adapter, str(error))
        except Exception:
            yield problem_html(scene, adapter, "This did not work, for a reason that Boxwright did not foresee.")
            raise
        if desk.picture_number == number:
            yield html

    def _until_loaded(self, desk: Desk, scene: Scene, adapter: str | None) -> Iterator[str]:
        number = desk.picture_number
        while self.parts.models.state.phase is Phase.LOADING and desk.picture_number == number:
            yield pending_html(scene, adapter, self._model_message())
            time.sleep(_POLL_SECONDS)
        if desk.picture_number == number:
            yield pending_html(scene, adapter, "Asking the model")

    def _answers(self, desk: Desk, scene: Scene, adapter: str | None) -> str:
        assert desk.picture_sha256 is not None
        path = find_picture(self.parts.workspace, desk.picture_sha256)
        with self.parts.models.use() as predictor:
            predictions = predictor.compare(path, scene.phrase, [None, adapter] if adapter else [None])
        return answers_html(scene, predictions)

    def _model_message(self) -> str:
        state = self.parts.models.state
        return f"{state.sentence}, {state.seconds:.0f} s" if state.phase is Phase.LOADING else "Asking the model"
