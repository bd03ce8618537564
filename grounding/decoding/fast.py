"""Forced answers over the lean text model: prompts as tokens, prefixes shared, adapters side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from grounding.decoding.forced import ForcedAnswer, Prefix, Prompt, Sampling, decode
from grounding.decoding.lora import LoraWeights
from grounding.decoding.skeleton import Skeleton, compile_skeleton
from grounding.decoding.text_model import TextModel
from grounding.errors import ModelError
from grounding.formats import Frame

if TYPE_CHECKING:
    from grounding.families import TextFamily
    from grounding.features import ImageFeatures
    from grounding.formats import AnswerShape
    from grounding.models import LoadedModel


_TOKENS_AT_ONCE = 20_000  # of all rows together; a 2B model keeps about 0.1 MB for each
_TOKENS_AT_ONCE_OF_A_GPU = 80_000


def tokens_at_once(device: str) -> int:
    """How many tokens of all rows together a device has memory for, with a 2B model on it."""
    return _TOKENS_AT_ONCE_OF_A_GPU if device.startswith("cuda") else _TOKENS_AT_ONCE


def _within_budget(prompts: Sequence[Prompt], device: str) -> Iterator[list[Prompt]]:
    """The prompts in order, in batches whose keys and values fit into memory: large pictures make small batches."""
    budget = tokens_at_once(device)
    batch: list[Prompt] = []
    longest = 0
    for prompt in prompts:
        length = len(prompt.prefix.ids) + len(prompt.suffix)
        if batch and max(longest, length) * (len(batch) + 1) > budget:
            yield batch
            batch, longest = [], 0
        batch.append(prompt)
        longest = max(longest, length)
    if batch:
        yield batch


class Skeletons:
    """The skeletons of a model's answers, compiled once a shape."""

    def __init__(self, loaded: LoadedModel, family: TextFamily) -> None:
        self.loaded = loaded
        self._end = family.end_token(loaded)
        self._compile = lru_cache(maxsize=512)(self._compiled)

    def of(self, features: ImageFeatures, phrase: str) -> Skeleton:
        """Raises `ModelError` when the tokenizer can't spell this family's answers piece by piece."""
        return self._compile(self.loaded.profile.text_format.shape(features.frame, phrase))

    def probe(self) -> None:
        """Compile the skeleton of a plain phrase. Raises `ModelError` as `of` does."""
        self._compile(self.loaded.profile.text_format.shape(Frame((1000, 1000)), "x"))

    def _compiled(self, shape: AnswerShape) -> Skeleton:
        return compile_skeleton(self.loaded.processor.tokenizer, shape, self._end)


class FastDecoder:
    """Forced decoding for one loaded model. Raises `ModelError` with the reason when the model isn't known well
    enough: its language model is built otherwise, or doesn't agree with the lean pass."""

    def __init__(self, loaded: LoadedModel, family: TextFamily, skeletons: Skeletons) -> None:
        parts = family.text_parts(loaded)
        if parts is None:
            raise ModelError(f"{family.name} models decode otherwise.")
        try:
            self.text = TextModel(*parts)
        except (ValueError, AttributeError) as error:
            raise ModelError(f"Its language model has {error}.") from error
        if not self.text.agrees():
            raise ModelError("Its language model computes something else than the lean pass.")
        self.loaded = loaded
        self.family = family
        self.skeletons = skeletons
        self._image_token = family.image_token_id(loaded)

    def answer(
        self,
        features: Sequence[ImageFeatures],
        phrases: Sequence[str],
        adapters: Sequence[LoraWeights | None],
        how: Sampling,
        should_stop: Callable[[], None] | None = None,
    ) -> list[ForcedAnswer]:
        """One answer for each (picture, phrase, adapter; None: the base), in order."""
        used = list({id(adapter): adapter for adapter in adapters if adapter is not None}.values())
        index = {id(adapter): place for place, adapter in enumerate(used)}
        prefixes: dict[tuple[int, tuple[int, ...]], Prefix] = {}
        suffixes: dict[tuple[int, str], tuple[Prefix, tuple[int, ...]]] = {}
        prompts = []
        drawn: Counter[tuple[int, str, int]] = Counter()
        for feature, phrase, adapter in zip(features, phrases, adapters, strict=True):
            key = (id(feature), phrase)
            if key not in suffixes:
                suffixes[key] = self._tokenized(feature, phrase, prefixes)
            prefix, suffix = suffixes[key]
            skeleton = self.skeletons.of(feature, phrase)
            draw = drawn[id(feature), phrase, id(adapter)]
            drawn[id(feature), phrase, id(adapter)] += 1
            prompts.append(Prompt(prefix, suffix, skeleton, -1 if adapter is None else index[id(adapter)], draw))
        answers: list[ForcedAnswer] = []
        for some in _within_budget(prompts, self.loaded.device):
            answers += decode(self.text, some, used, how, should_stop)
        return answers

    def _tokenized(
        self, features: ImageFeatures, phrase: str, prefixes: dict[tuple[int, tuple[int, ...]], Prefix]
    ) -> tuple[Prefix, tuple[int, ...]]:
        text = self.family.prompt(self.loaded, phrase)
        ids = list(self.loaded.processor.tokenizer(text, add_special_tokens=False)["input_ids"])
        place = ids.index(self._image_token)
        key = (id(features), tuple(ids[:place]))
        if key not in prefixes:
            whole = [*ids[:place], *[self._image_token] * features.visual_tokens]
            prefixes[key] = Prefix(
                ids=tuple(whole),
                positions=self.family.prefix_positions(self.loaded, whole, features),
                visual_places=tuple(range(place, len(whole))),
                visual=features.pooled,
                deepstack=features.deepstack,
            )
        return prefixes[key], tuple(ids[place + 1 :])
