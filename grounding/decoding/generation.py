"""Answers from `generate` of transformers: free, or held to a skeleton. Slower than `forced`, and knows every model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from grounding.decoding.forced import NO_NUMBERS, Decision, ForcedAnswer, Sampling
from grounding.decoding.skeleton import Choice, Cursor, Skeleton
from grounding.errors import ModelError

if TYPE_CHECKING:
    from grounding.families import TextFamily
    from grounding.features import ImageFeatures
    from grounding.models import LoadedModel


# What a model's generation_config.json may ask for besides, some of it at odds with a skeleton: four equal numbers are
# a repetition, and a penalty on what stands in the prompt would weigh digits by their looks.
_NOTHING_ELSE_DECIDES = {
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": None,
    "bad_words_ids": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "sequence_bias": None,
    "exponential_decay_length_penalty": None,
    "forced_eos_token_id": None,
    "min_p": None,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
}


@dataclass(frozen=True)
class Written:
    """What the model wrote, the geometric mean probability of its tokens (0.0 to 1.0), its token ids with the end;
    of an answer held to a skeleton also what the model decided."""

    text: str
    confidence: float
    token_ids: tuple[int, ...] = ()
    forced: ForcedAnswer | None = None


class _Finite(LogitsProcessor):
    """Raises `ModelError` where there is nothing to decide by; changes nothing."""

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        if not scores.amax(-1).isfinite().all():  # of a row with one NaN it is NaN
            raise ModelError(NO_NUMBERS)
        return scores


class _Recorder(LogitsProcessor):
    """Remembers the log probability of each token taken, before sampling; changes nothing."""

    def __init__(self) -> None:
        self.taken: list[torch.Tensor] = []  # each [batch]
        self._last: torch.Tensor | None = None  # [batch, vocabulary] of the step whose tokens are not known yet

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        self.see(input_ids)
        self._last = scores.float().log_softmax(-1)
        return scores

    def see(self, input_ids: torch.Tensor) -> None:
        """Take in the tokens of the step before, the last of `input_ids` [batch, tokens]."""
        if self._last is not None:
            self.taken.append(self._last.gather(1, input_ids[:, -1:])[:, 0])
            self._last = None


class _Skeletons(LogitsProcessor):
    """Lets through only what each row's skeleton allows. An answer begins with the first token that is generated:
    what a decoder of its own begins with, its family hands in (`decoder_input_ids`)."""

    def __init__(self, skeletons: Sequence[Skeleton], max_boxes: int, end: int) -> None:
        self.cursors = [Cursor(skeleton, max_boxes) for skeleton in skeletons]
        self.end = end
        self._prompt: int | None = None
        self._asked: list[list[tuple[int, int, Choice]]] = [[] for _ in skeletons]  # (step, box, choice)
        self._step = 0

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        if self._prompt is None:
            self._prompt = input_ids.shape[1]
        allowed: Any = torch.full_like(scores, -math.inf)
        for row, cursor in enumerate(self.cursors):
            written = input_ids[row, self._prompt :].tolist()
            for token in written[len(cursor.tokens) :]:
                if not cursor.done:
                    cursor.take(token)
            options = [self.end]
            if not cursor.done:
                choice = cursor.choice()
                options = list(choice.options)
                if len(options) > 1:
                    self._asked[row].append((self._step, len(cursor.numbers) // 4, choice))
            allowed[row, options] = scores[row, options]
        self._step += 1
        return allowed

    def answers(self, written: torch.Tensor, log_probabilities: torch.Tensor) -> list[ForcedAnswer]:
        """What was written and decided; both [batch, steps]."""
        for cursor, ids in zip(self.cursors, written.tolist(), strict=True):
            for token in ids[len(cursor.tokens) :]:
                if not cursor.done:
                    cursor.take(token)
        taken = log_probabilities.tolist()
        return [
            ForcedAnswer(
                tuple(cursor.tokens),
                tuple(tuple(numbers) for numbers in cursor.values()),
                (),
                tuple(Decision(box, choice, taken[row][step]) for step, box, choice in self._asked[row]),
            )
            for row, cursor in enumerate(self.cursors)
        ]


class _Stop(StoppingCriteria):
    """Asks before every further step whether the work is still wanted."""

    def __init__(self, should_stop: Callable[[], None]) -> None:
        self.should_stop = should_stop

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **unused: Any) -> torch.Tensor:
        self.should_stop()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


@torch.inference_mode()
def generate(
    loaded: LoadedModel,
    family: TextFamily,
    features: Sequence[ImageFeatures],
    inputs: dict[str, torch.Tensor],
    *,
    skeletons: Sequence[Skeleton] | None = None,
    how: Sampling | None = None,
    should_stop: Callable[[], None] | None = None,
) -> list[Written]:
    """One answer a row of `inputs` (left-padded `input_ids` and `attention_mask`), in order.

    With `skeletons` every answer is held to its own and comes out whole. Raises what `should_stop` raises, and
    `ModelError` where the model computes no finite numbers.
    """
    how = how or Sampling()
    recorder = _Recorder()
    held: _Skeletons | None = None
    processors = LogitsProcessorList([_Finite()])
    settings: dict[str, Any] = {"max_new_tokens": loaded.profile.max_new_tokens}
    if skeletons is not None:
        end = loaded.processor.tokenizer.convert_tokens_to_ids(family.end_token(loaded))
        held = _Skeletons(skeletons, how.max_boxes, end)
        processors.append(held)
        longest = max(skeleton.most_tokens(how.max_boxes) for skeleton in skeletons)
        settings = {"max_new_tokens": longest, **_NOTHING_ELSE_DECIDES}
    processors.append(recorder)
    sampled = how.temperature > 0
    with torch.random.fork_rng(enabled=sampled):  # generate draws from the program's own random numbers
        if sampled:
            torch.manual_seed(how.seed)
        generated = loaded.model.generate(
            **inputs,
            **family.generate_inputs(loaded, features, inputs["input_ids"]),
            **settings,
            num_beams=1,
            do_sample=sampled,
            temperature=how.temperature if sampled else None,
            top_p=None,
            top_k=None,
            logits_processor=processors,
            stopping_criteria=StoppingCriteriaList([_Stop(should_stop)] if should_stop else []),
        )
    recorder.see(generated)
    log_probabilities = torch.stack(recorder.taken, dim=1)  # [batch, steps]
    written = generated[:, generated.shape[1] - len(recorder.taken) :]  # [batch, steps]
    answers = [_read(loaded, family, ids, scores) for ids, scores in zip(written, log_probabilities, strict=True)]
    if held is None:
        return answers
    forced = held.answers(written, log_probabilities)
    return [replace(answer, forced=own) for answer, own in zip(answers, forced, strict=True)]


def _read(loaded: LoadedModel, family: TextFamily, token_ids: torch.Tensor, scores: torch.Tensor) -> Written:
    ids = token_ids.tolist()
    ends = end_token_ids(loaded)
    length = next((i + 1 for i, token in enumerate(ids) if token in ends), len(ids))
    text = family.read_text(loaded, ids[:length])
    return Written(text, math.exp(scores[:length].mean().item()), tuple(ids[:length]))


def end_token_ids(loaded: LoadedModel) -> set[int]:
    """The tokens that end an answer."""
    ends = loaded.model.generation_config.eos_token_id
    return set(ends) if isinstance(ends, list) else {ends}
