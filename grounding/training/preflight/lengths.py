"""How long every row is in tokens, counted from its text and its picture's size: which ones the model can't hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

from grounding.engine import chat_text, text_family
from grounding.errors import BoxError
from grounding.features import PictureRoom
from grounding.formats import Frame
from grounding.models import LoadedModel
from grounding.records import Sample
from grounding.training.preflight.headers import Header
from grounding.training.preflight.records import Finding
from grounding.training.settings import TrainSettings

_TOKENISED_AT_ONCE = 2048


@dataclass(frozen=True)
class RowLength:
    """One phrase of a sample: `tokens` of its whole sequence with the picture, `last_position` of its last token
    (less than tokens with M-RoPE), and `answer_tokens` with the end token."""

    sample: str
    tokens: int
    last_position: int
    answer_tokens: int


def row_lengths(
    loaded: LoadedModel, samples: Sequence[Sample], headers: Mapping[Path, Header], settings: TrainSettings
) -> Iterator[RowLength]:
    """The length of every train phrase, the box's other phrases too where they are learned.

    Left out are rows on pictures that can't be read, rows whose boxes the format can't write, and those of families
    that can't tell a picture's tokens from its size.
    """
    end = text_family(loaded).end_token(loaded)
    rows = _rows(loaded, samples, headers, settings)
    while some := list(islice(rows, _TOKENISED_AT_ONCE)):
        prompts = _counts(loaded, [prompt for _, _, prompt, _ in some])
        answers = _counts(loaded, [answer + end for _, _, _, answer in some])
        for (sample, room, _, _), prompt, answer in zip(some, prompts, answers, strict=True):
            words = prompt - 1 + answer  # one token of the prompt stands for the picture
            yield RowLength(sample, room.tokens + words, room.positions + words - 1, answer)


def _rows(
    loaded: LoadedModel, samples: Sequence[Sample], headers: Mapping[Path, Header], settings: TrainSettings
) -> Iterator[tuple[str, PictureRoom, str, str]]:
    """(sample, room of its picture, prompt with one image token, answer without its end) of every phrase."""
    family, text_format = text_family(loaded), loaded.profile.text_format
    room_of = cache(lambda size_wh: family.picture_room(loaded, size_wh))
    for sample in samples:
        header = headers.get(sample.image)
        size_wh = header.size_wh if header is not None else None
        room = room_of(size_wh) if size_wh is not None else None
        if sample.split != "train" or size_wh is None or room is None:
            continue
        frame = Frame(size_wh, room.input_size_wh)
        others = sample.alternatives if settings.use_alternatives else ()
        for phrase in dict.fromkeys((sample.phrase, *others)):
            try:
                answer = text_format.encode(sample.boxes_xyxy_px, frame, phrase)
            except BoxError:  # named by the round trip
                break
            yield sample.id, room, chat_text(loaded, phrase, 1), answer


def _counts(loaded: LoadedModel, texts: Sequence[str]) -> list[int]:
    ids = loaded.processor.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    return [len(one) for one in ids]


def too_long(
    loaded: LoadedModel, samples: Sequence[Sample], headers: Mapping[Path, Header], settings: TrainSettings
) -> list[Finding]:
    """Rows that reach beyond what the model was made for, and answers that it may not finish when asked; of each the
    longest first."""
    most, most_answer = positions_of(loaded), loaded.profile.max_new_tokens
    beyond: dict[str, int] = {}  # sample to tokens
    unfinished: dict[str, int] = {}
    for row in row_lengths(loaded, samples, headers, settings):
        if most is not None and row.last_position >= most:
            beyond[row.sample] = max(row.tokens, beyond.get(row.sample, 0))
        if row.answer_tokens > most_answer:
            unfinished[row.sample] = max(row.answer_tokens, unfinished.get(row.sample, 0))
    found = []
    if beyond:
        found.append(Finding.of("long_row", _beyond(beyond, most or 0), _longest_first(beyond), blocking=False))
    if unfinished:
        sentence = _unfinished(unfinished, most_answer)
        found.append(Finding.of("long_answer", sentence, _longest_first(unfinished), blocking=False))
    return found


def positions_of(loaded: LoadedModel) -> int | None:
    """For how many positions the model was made; None where its configuration doesn't say."""
    config = loaded.model.config
    most = getattr(getattr(config, "text_config", config), "max_position_embeddings", None)
    return int(most) if most else None


def _longest_first(tokens_of: Mapping[str, int]) -> list[str]:
    return sorted(tokens_of, key=lambda sample: -tokens_of[sample])


def _beyond(tokens_of: Mapping[str, int], most: int) -> str:
    longest = max(tokens_of.values())
    if len(tokens_of) == 1:
        who, what = "One train sample reaches", "the phrase, or scale the picture"
    else:
        who, what = f"{len(tokens_of):,} train samples reach", "the phrases, or scale the pictures"
    return (
        f"{who} beyond the {most:,} tokens that the model was made for; the longest has {longest:,} with its picture. "
        f"None is cut: shorten {what} down."
    )


def _unfinished(tokens_of: Mapping[str, int], most: int) -> str:
    longest = max(tokens_of.values())
    who = (
        "The answer of one train sample has"
        if len(tokens_of) == 1
        else f"The answers of {len(tokens_of):,} train samples have"
    )
    return (
        f"{who} more than the {most} tokens after which the model is stopped when it answers; the longest has "
        f"{longest:,}. The model can learn such an answer, but never give it in full."
    )
