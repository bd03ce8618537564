"""Everything from code: named endpoints for programs, described on gradio's own API page (`/?view=api`).

from gradio_client import Client, handle_file

client = Client("http://127.0.0.1:7860")
client.predict(handle_file("picture.png"), "the mug", api_name="/predict")

Whatever comes in is checked here; an error becomes a sentence that the client raises as `AppError`.
"""

# No postponed annotations here: gradio reads the types of the endpoints from their signatures.

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components.base import Component
from gradio.context import get_blocks_context
from gradio.utils import get_function_description, get_function_params, get_upload_folder

from grounding.adapters import AdapterInfo, AdapterRegistry
from grounding.arena import VoteStore, pair_of
from grounding.compared import Filter, Report
from grounding.compared.filters import order_rows
from grounding.errors import AdapterError, PictureError, SettingsError, StoreError
from grounding.pictures import file_sha256
from grounding.probes import probe
from grounding.records import Sample, check_phrase
from grounding.ui import api_records as records
from grounding.ui.api_records import (
    AdapterEntry,
    Answer,
    ArenaTally,
    ComparedSample,
    EvaluationEntry,
    Probed,
    ReportDocument,
    SampleEntry,
    SuspectEntry,
)
from grounding.ui.chosen import MOST_MODELS
from grounding.ui.compare import FREE_QUEUE, MODEL_QUEUE
from grounding.ui.events import tell_programs
from grounding.ui.foreign import foreign_phrase
from grounding.ui.kept import Kept
from grounding.ui.pictures import find_picture
from grounding.ui.sources import Parts, picture_id

MOST_LISTED = 1000
_MOST_OFFSET = 2**62  # no list is as long, and `islice` counts no further than twice as far


def build_api(parts: Parts) -> None:
    """Publish the endpoints of `Api` inside the current `gr.Blocks`, each under its method's name."""
    api = Api(parts)
    for handler in (api.predict, api.compare, api.probe):
        _publish(handler, MODEL_QUEUE)
    for listing in (api.adapters, api.samples, api.evaluations, api.report, api.worst, api.suspects, api.arena):
        _publish(listing, FREE_QUEUE)


def _publish(handler: Callable[..., Any], queue: dict[str, Any]) -> None:
    """The endpoint, with the docstring's own words about each parameter and about the result on the API page."""
    about, parameters, results = get_function_description(handler)
    told = tell_programs(handler)
    event = gr.api(told, api_name=handler.__name__, api_description=about, **queue)
    page = get_blocks_context()
    assert page is not None, "inside gr.Blocks"
    block = page.fns[event["id"]]
    names = [name for name, *_ in get_function_params(told)]
    for component, name in zip(block.inputs, names, strict=True):
        _describe(component, name, "additional_description", parameters[name])
    for component, words in zip(block.outputs, results, strict=True):
        _describe(component, "result", "description", words)


def _describe(component: object, label: str, key: str, words: str) -> None:
    assert isinstance(component, Component)
    component.label = label
    component.api_info()[key] = words


class Api:
    """The endpoints. Every method can be called by a test; its docstring is what the API page says."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.kept = Kept(parts.workspace)

    def predict(self, image: str | dict, phrase: str, adapter: str | None = None) -> Answer:
        """Where one model puts the box for a phrase.

        Parameters:
            image: A picture file (gradio_client.handle_file), or the id of a sample or of a picture in the workspace.
            phrase: What to look for, at most 500 characters.
            adapter: The name of an adapter; None for the base model.
        Returns:
            The answer. Boxes are x1, y1, x2, y2 in pixels of the original image.
        """
        return self.compare(image, phrase, [adapter])[0]

    def compare(self, image: str | dict, phrase: str, adapters: list[str | None]) -> list[Answer]:
        """Where several models put the box for the same phrase, from one pass over the picture.

        Parameters:
            image: A picture file (gradio_client.handle_file), or the id of a sample or of a picture in the workspace.
            phrase: What to look for, at most 500 characters.
            adapters: One to four names of adapters, None for the base model.
        Returns:
            One answer per model, in their order.
        """
        path, _ = self._picture(image)
        phrase, names = check_phrase(phrase), self._adapters(adapters)
        with self.parts.models.use() as predictor:
            return [records.answer(one) for one in predictor.compare(path, phrase, names)]

    def probe(self, image: str | dict, phrase: str, adapter: str | None = None, other: str | None = None) -> Probed:
        """Whether the box follows the words, asked again as "the object", shuffled, swapped, and as a foreign phrase.

        Parameters:
            image: A picture file (gradio_client.handle_file), or the id of a sample or of a picture in the workspace.
            phrase: What to look for, at most 500 characters.
            adapter: The name of an adapter; None for the base model.
            other: The foreign phrase to be asked too; None: another sample's, as the page chooses it; "": none.
        Returns:
            A verdict, a sentence with its figures, and the answer to each wording, held against its truth if known.
        """
        path, sample = self._picture(image)
        phrase, names = check_phrase(phrase), self._adapters([adapter])
        other = None if other is None else _text("other", other)
        other, truths = foreign_phrase(self.parts, file_sha256(path), sample, phrase, other)
        with self.parts.models.use() as predictor:
            (result,) = probe(predictor, path, phrase, names, other=other, truths=truths)
        return records.probed(result)

    def adapters(self) -> list[AdapterEntry]:
        """The adapters in the workspace that fit the app's model, newest first.

        Returns:
            Name, time, base, profile, the snapshot that it learned from, steps.
        """
        return [records.adapter_entry(info) for info in self._fitting()]

    def samples(
        self, split: str | None = "test", words: str = "", limit: int = 20, offset: int = 0
    ) -> list[SampleEntry]:
        """Samples of the workspace, with their phrases, true boxes and the ids of their pictures.

        Parameters:
            split: "train", "val" or "test"; None for all.
            words: Only samples whose phrase holds each of these words, in any case; "" for all.
            limit: At most so many, 1 to 1000.
            offset: How many to pass over.
        Returns:
            The samples. No box: the phrase refers to nothing.
        """
        if split is not None and (not isinstance(split, str) or split not in self.parts.source.splits()):
            known = ", ".join(self.parts.source.splits())
            raise StoreError(f"There is no split {split!r:.60} in this workspace: expected one of {known}, or None.")
        wanted = _text("words", words).casefold().split()
        found = (
            sample
            for sample in self.parts.source.iterate(split)
            if all(word in sample.phrase.casefold() for word in wanted)
        )
        first = min(_whole("offset", offset, 0, None), _MOST_OFFSET)
        return [
            records.sample_entry(one) for one in islice(found, first, first + _whole("limit", limit, 1, MOST_LISTED))
        ]

    def evaluations(self) -> list[EvaluationEntry]:
        """The kept evaluations, newest first. Their ids are what report, worst, suspects and arena take.

        Returns:
            Id, time, model, adapter, split, counts, Acc@0.5 and mean IoU of each, without what its adapter had seen.
        """
        return [records.evaluation_entry(kept) for kept in self.kept.list()]

    def report(
        self, a: str, b: str | None = None, filter: dict[str, str] | None = None, with_seen: bool = False
    ) -> ReportDocument:
        """The figures of one evaluation, or of two of the same samples, b against a, with 95% intervals.

        Parameters:
            a: The id of the evaluation to compare with.
            b: The id of the one that is compared; None: the figures of a alone.
            filter: Only some samples, such as {"outcome": "loss", "spatial": "spatial"}; docs/compare.md lists them.
            with_seen: Count what an adapter saw in training too.
        Returns:
            Sides, notes, the headline as in the export "json"; records of breakdowns, curves, calibrations, chances.
        """
        return records.report_document(self._report(a, b, filter, with_seen))

    def worst(
        self, a: str, b: str | None = None, limit: int = 10, order: str = "worst", filter: dict[str, str] | None = None
    ) -> list[ComparedSample]:
        """The samples that were answered worst, those seen in training too (marked), with all boxes.

        Parameters:
            a: The id of the evaluation to compare with.
            b: The id of the one that is compared; None: a alone.
            limit: At most so many, 1 to 1000.
            order: "worst" (lowest IoU), "loss" or "gain" (of b against a), "unsure", "sample".
            filter: Only some samples, such as {"words": "left"}; docs/compare.md lists them.
        Returns:
            Samples with truth, boxes, IoU, confidence and raw answer of each side.
        """
        report = self._report(a, b, filter, with_seen=True)
        limit = _whole("limit", limit, 1, MOST_LISTED)
        rows = order_rows(report.comparison, report.listed, _text("order", order))[:limit]
        return [records.compared_sample(report.comparison.record(int(row))) for row in rows]

    def suspects(self, a: str, b: str, limit: int = 20) -> list[SuspectEntry]:
        """Labels that may be wrong: samples on which both models agree with each other and not with the truth.

        Parameters:
            a: The id of one evaluation.
            b: The id of another one of the same samples.
            limit: At most so many, 1 to 1000.
        Returns:
            The likeliest first, each with a sentence, the suggested boxes and the sample.
        """
        report = self._report(a, b, None, with_seen=True)
        return [records.suspect_entry(one) for one in report.suspects(_whole("limit", limit, 1, MOST_LISTED))]

    def arena(self, a: str, b: str) -> ArenaTally:
        """How people chose between two models when they did not know whose answers they saw.

        Parameters:
            a: The id of an evaluation of one model.
            b: The id of an evaluation of the other, on the same samples.
        Returns:
            Both models, the votes for each, ties apart, and the share for b of the others with its interval.
        """
        pair = pair_of(self.kept.open(a, b))
        return records.arena_tally(pair, VoteStore(self.parts.workspace.arena_db).tally(pair))

    def _report(self, a: object, b: object, asked: object, with_seen: object) -> Report:
        if not isinstance(with_seen, bool):
            raise SettingsError(f"with_seen={with_seen!r:.60} is neither True nor False.")
        if asked is not None and not isinstance(asked, dict):
            raise SettingsError(
                f'filter={asked!r:.60} is no filter: expected names and values, as {{"words": "left"}}.'
            )
        comparison = self.kept.open(a) if b is None else self.kept.open(a, b)
        return Report(comparison, Filter(), with_seen=with_seen).only(**(asked or {}))

    def _picture(self, image: object) -> tuple[Path, Sample | None]:
        """The file of a picture, and the sample where one was named. Raises `PictureError`."""
        if isinstance(image, str):
            sample = self._sample(image)
            return find_picture(self.parts.workspace, picture_id(sample) if sample else image), sample
        path = image.get("path") if isinstance(image, dict) else None
        if not isinstance(path, str) or not _is_uploaded(path):
            raise PictureError(
                "The image is neither a file that was sent nor an id: give gradio_client.handle_file(PATH), "
                "or the id of a sample or of a picture in the workspace."
            )
        return Path(path), None

    def _sample(self, name: str) -> Sample | None:
        try:
            return self.parts.source.get_sample(name)
        except StoreError:
            return None

    def _adapters(self, names: object) -> list[str | None]:
        """Raises `SettingsError` for none or too many, `AdapterError` for one that isn't here."""
        if not isinstance(names, list) or not 1 <= len(names) <= MOST_MODELS:
            raise SettingsError(
                f"adapters={names!r:.80} is no list of models: expected 1 to {MOST_MODELS} names, None for the base."
            )
        known = [info.name for info in self._fitting()]
        for name in names:
            if name is not None and name not in known:
                listed = ", ".join(known) or "none yet"
                raise AdapterError(f"There is no adapter {name!r:.80} for this model. Adapters here: {listed}.")
        return names

    def _fitting(self) -> list[AdapterInfo]:
        return AdapterRegistry(self.parts.workspace.adapters).fitting(self.parts.models.model)


def _is_uploaded(path: str) -> bool:
    """Whether gradio has put this file where uploads go: a client may name any path of this machine."""
    try:
        return Path(path).resolve().is_relative_to(Path(get_upload_folder()).resolve())
    except (OSError, RuntimeError, ValueError):  # too long, links in circles, a NUL
        return False


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise SettingsError(f"{name}={value!r:.60} is no text.")
    return value


def _whole(name: str, value: object, least: int, most: int | None) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least or (most is not None and value > most):
        room = f"from {least} on" if most is None else f"{least} to {most}"
        raise SettingsError(f"{name}={value!r:.60} is out of range: expected a whole number, {room}.")
    return value
