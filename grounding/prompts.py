"""What a model reads: the whole prompt with its tokens, as it goes into the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from grounding.families import DetectorFamily

if TYPE_CHECKING:
    from grounding.features import ImageFeatures
    from grounding.models import LoadedModel


@dataclass(frozen=True)
class PromptToken:
    """`count` tokens of this id in a row: 1, but for those that stand for the picture. `text` is what it spells."""

    id: int
    text: str
    count: int = 1
    is_image: bool = False


@dataclass(frozen=True)
class ReadPrompt:
    """`text` has the picture's token once, where the picture goes; `tokens` in order."""

    text: str
    tokens: tuple[PromptToken, ...]

    @property
    def length(self) -> int:
        """How many tokens the model reads, those of the picture included."""
        return sum(token.count for token in self.tokens)


def read_prompt(loaded: LoadedModel, features: ImageFeatures, phrase: str) -> ReadPrompt:
    """The prompt for a phrase on this picture; a detector's holds the words alone."""
    from grounding import engine

    tokenizer = loaded.processor.tokenizer
    if isinstance(loaded.family, DetectorFamily):
        caption = loaded.family.caption(loaded, phrase)
        return ReadPrompt(caption, _tokens(tokenizer, tokenizer(caption)["input_ids"], None))
    family = engine.text_family(loaded)
    inputs = engine.tokenize(loaded, [engine.chat_text(loaded, phrase, features.visual_tokens)])
    tokens = _tokens(tokenizer, inputs["input_ids"][0].tolist(), family.image_token_id(loaded))
    return ReadPrompt(family.prompt(loaded, phrase), tokens)


def _tokens(tokenizer: Any, ids: Sequence[int], image_token_id: int | None) -> tuple[PromptToken, ...]:
    """The ids in order; a row of the picture's tokens is one entry."""
    tokens: list[PromptToken] = []
    for token_id, some in groupby(ids):
        count, is_image = len(list(some)), token_id == image_token_id
        token = PromptToken(token_id, _spelled(tokenizer, token_id), count if is_image else 1, is_image)
        tokens += [token] if is_image else [token] * count
    return tuple(tokens)


def _spelled(tokenizer: Any, token_id: int) -> str:
    text: str = tokenizer.decode([token_id])
    # Half a character spells nothing by itself: the vocabulary's own name for it then.
    return str(tokenizer.convert_ids_to_tokens(token_id)) if "\ufffd" in text else text
