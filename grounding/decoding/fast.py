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


_MEMORY_SHARE = 0.2  # of what is free: a batch is held twice while its rows are picked, and layers need room to work
_LEAST_BYTES, _MOST_BYTES = 2**28, 16 * 2**30


def tokens_at_once(loaded: LoadedModel) -> int:
    """For how many tokens of all rows together the device has memory left: their keys and values in all layers."""
    import psutil
    import torch

    if loaded.device.startswith("cuda"):
        free_bytes = torch.cuda.mem_get_info()[0]
        free_bytes += torch.cuda.memory_reserved() - torch.cuda.memory_allocated()  # held by PyTorch itself, unused
    else:
        free_bytes = psutil.virtual_memory().available
    budget_bytes = min(_MOST_BYTES, max(_LEAST_BYTES, int(free_bytes * _MEMORY_SHARE)))
    return max(1, budget_bytes // _bytes_per_token(loaded))


def _bytes_per_token(loaded: LoadedModel) -> int:
    """Of keys and values in all layers of the text model; a generous guess where its config says otherwise."""
    config = loaded.model.config.get_text_config()
    layers = getattr(config, "num_hidden_layers", None) or 32
    heads = getattr(config, "num_attention_heads", None) or 32
    hidden = getattr(config, "hidden_size", None) or 4096
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    head_size = getattr(config, "head_dim", None) or max(1, hidden // heads)
    return int(2 * layers * kv_heads * head_size * loaded.model.dtype.itemsize)


def _within_budget(prompts: Sequence[Prompt], budget: int) -> Iterator[list[Prompt]]:
    """The prompts in order, in batches of at most `budget` tokens, padding included: large pictures make small ones."""
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
        for some in _within_budget(prompts, tokens_at_once(self.loaded)):
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
