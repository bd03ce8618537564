"""From samples to packed token sequences: several phrases of one picture share its image tokens.

A packed sequence is one prefix (chat markup and image tokens) followed by branches, one per phrase: the rest of
the prompt, the answer and its end token. A branch sees the prefix and itself, never another branch, and its
positions go on from the prefix, so each branch is computed exactly as if it stood alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from grounding.boxes import Box
from grounding.engine import ImageFeatures, chat_text, end_token_ids, text_family
from grounding.errors import ModelError
from grounding.formats import Frame, Integers
from grounding.models import LoadedModel
from grounding.training.geometry import NumberTable, number_table
from grounding.training.losses import digit_weights, numbers_in
from grounding.training.numbers import Number, NumberReader, Written, written_numbers


@dataclass(frozen=True)
class Branch:
    """One phrase with its answer, as tokens after the shared prefix. `supervised` counts the last tokens, which
    are the answer and its end token; `weights` are their loss weights. `numbers` are the coordinates among them, where
    geometric terms or soft labels are asked for; `coordinates` are the places among them of what spells these, always.
    """

    token_ids: tuple[int, ...]
    supervised: int
    weights: tuple[float, ...]
    numbers: tuple[Number, ...] = ()
    coordinates: tuple[int, ...] = ()


@dataclass(frozen=True)
class PackedBatch:
    """Tensors of one step; all on the model's device.

    `input_ids` [batch, tokens]; `position_ids` [axes, batch, tokens], three axes for M-RoPE, else one;
    `visual_mask` [batch, tokens]; row i is a prefix of `prefix_lengths[i]` tokens, branches of `branch_lengths[i]`
    tokens one after the other, and padding;
    `predicting` [n] flat indices of the positions whose next token is supervised; `target_ids` [n];
    `token_weights` [n]; `owner` [n] the branch each belongs to, counted through the batch. `numbers` holds the
    coordinates where geometric terms or soft labels are asked for.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    visual_mask: torch.Tensor
    predicting: torch.Tensor
    target_ids: torch.Tensor
    token_weights: torch.Tensor
    owner: torch.Tensor
    prefix_lengths: tuple[int, ...]
    branch_lengths: tuple[tuple[int, ...], ...]
    numbers: NumberTable | None = None
    soft_labels: bool = False

    @cached_property
    def attention_mask(self) -> torch.Tensor:
        """[batch, 1, tokens, tokens] bool, True where a row may look. Padding looks at itself: no row is empty."""
        batch, length = self.input_ids.shape
        mask = torch.eye(length, dtype=torch.bool).repeat(batch, 1, 1)
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        for row, prefix, branches in zip(mask, self.prefix_lengths, self.branch_lengths, strict=True):
            row[:prefix, :prefix] = causal[:prefix, :prefix]
            start = prefix
            for size in branches:
                stop = start + size
                row[start:stop, :prefix] = True
                row[start:stop, start:stop] = causal[start:stop, start:stop]
                start = stop
        return mask[:, None].to(self.input_ids.device)


class BranchBuilder:
    """Turns phrases into branches, checking what is supervised."""

    def __init__(
        self,
        loaded: LoadedModel,
        place_weights: Sequence[float] = (1.0, 1.0, 1.0),
        corner_weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        nothing_weight: float = 1.0,
        *,
        geometric: bool = False,
        soft_labels: float = 0.0,
    ) -> None:
        """`geometric`: batches carry what the geometric terms need. `soft_labels`: how far, in thousandths of the
        picture's side, numbers near the right one count as right too (0.0: not at all). Raises `ModelError` when the
        model's end token or, for these two, its tokenizer does not fit."""
        self.loaded = loaded
        self.tokenizer = loaded.processor.tokenizer
        self.place_weights = place_weights
        self.corner_weights = corner_weights
        self.nothing_weight = nothing_weight
        # Of several end tokens, the one that closes a turn in the chat template is what the base itself writes.
        self.end = text_family(loaded).end_token(loaded)
        if self.tokenizer.convert_tokens_to_ids(self.end) not in end_token_ids(loaded):
            raise ModelError(
                f"{loaded.model_id}: {self.end!r} closes an answer of this family, but the model's "
                "generation_config.json does not stop there. Add its id to eos_token_id."
            )
        self.image_token_id = text_family(loaded).image_token_id(loaded)
        self.soft_labels = soft_labels > 0
        self.numbers: NumberReader | None = None
        if geometric or self.soft_labels:
            self.numbers = NumberReader(self.tokenizer, loaded.profile.text_format, soft_labels / 1000)
        self._prefixes: dict[int, list[int]] = {}

    def prefix_ids(self, visual_tokens: int) -> list[int]:
        """The tokens before the phrase: everything up to the end of the image."""
        if visual_tokens not in self._prefixes:
            self._prefixes[visual_tokens] = self._make_prefix(visual_tokens)
        return self._prefixes[visual_tokens]

    def _make_prefix(self, visual_tokens: int) -> list[int]:
        ids, others = (self._ids(chat_text(self.loaded, phrase, visual_tokens)) for phrase in ("x", "0"))
        end = 1 + max(i for i, token in enumerate(ids) if token == self.image_token_id)
        # One more token, the mark that closes the image, stands before the phrase in every Qwen template.
        return ids[: end + 1] if ids[end : end + 1] == others[end : end + 1] else ids[:end]

    def branch(self, phrase: str, boxes_xyxy_px: Sequence[Box], frame: Frame) -> Branch:
        """The branch of one phrase.

        The prompt's length is taken from real tokens with the image in place, and what is supervised is decoded
        again: it must be exactly the answer and an end token. Raises `ModelError` when it isn't.
        """
        answer = self.loaded.profile.text_format.encode(boxes_xyxy_px, frame, phrase)
        prompt_text = chat_text(self.loaded, phrase, 1)
        end = self.end
        prompt_ids = self._ids(prompt_text)
        full_ids, spans = self._ids_and_spans(prompt_text + answer + end)
        supervised = full_ids[len(prompt_ids) :]
        if full_ids[: len(prompt_ids)] != prompt_ids or self.tokenizer.decode(supervised) != answer + end:
            raise ModelError(
                f"The supervised tokens of {phrase!r} read {self.tokenizer.decode(supervised)!r}, "
                f"expected {answer + end!r}: this tokenizer joins prompt and answer, so it can't be trained safely."
            )
        tokens = [self.tokenizer.decode([token]) for token in supervised]
        shape = self.loaded.profile.text_format.shape(frame, phrase)
        # Fractions have no hundreds, tens and ones.
        places = self.place_weights if isinstance(shape.numbers[0], Integers) else (1.0, 1.0, 1.0)
        coordinates = numbers_in(tokens)
        if spans is not None:
            in_answer = [(a - len(prompt_text), b - len(prompt_text)) for a, b in spans[len(prompt_ids) :]]
            coordinates = self._coordinates(written_numbers(answer, shape, len(boxes_xyxy_px)), in_answer, frame)
        weights = digit_weights(tokens, places, self.corner_weights, coordinates)
        branch_ids = full_ids[len(self.prefix_ids(1)) :]
        if not boxes_xyxy_px:
            # The few tokens of "nothing there" would be drowned by the many of the boxes around them.
            weights = [weight * self.nothing_weight for weight in weights]
        numbers: tuple[Number, ...] = ()
        if self.numbers is not None:
            numbers = self.numbers.read(answer, len(boxes_xyxy_px), frame, phrase, end)
        spelling = tuple(itertools.chain.from_iterable(coordinates))
        return Branch(tuple(branch_ids), len(supervised), tuple(weights), numbers, spelling)

    def _coordinates(
        self, numbers: Sequence[Written], spans: Sequence[tuple[int, int]], frame: Frame
    ) -> list[list[int]]:
        """Which tokens spell each coordinate, x1, y1, x2, y2 of every box, by the characters (begin, end) of each."""
        found: list[list[int]] = [[] for _ in numbers]
        for i, number in enumerate(numbers):
            axis, _ = self.loaded.profile.text_format.px_of(i % 4, 0, frame)
            end = number.start + len("".join(number.symbols))
            found[i - i % 2 + axis] = [at for at, (a, b) in enumerate(spans) if a < end and number.start < b]
        return found

    def _ids_and_spans(self, text: str) -> tuple[list[int], list[tuple[int, int]] | None]:
        """The tokens of a text and the characters (begin, end) of each; None where only a fast tokenizer could say."""
        fast = self.tokenizer.is_fast
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=fast)
        return list(encoded["input_ids"]), list(encoded["offset_mapping"]) if fast else None

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def pack(
    loaded: LoadedModel,
    builder: BranchBuilder,
    features: Sequence[ImageFeatures],
    branches: Sequence[Sequence[Branch]],
) -> PackedBatch:
    """One padded batch: for each picture its prefix and all of its branches."""
    rows = [_Row(loaded, builder.prefix_ids(f.visual_tokens), f, b) for f, b in zip(features, branches, strict=True)]
    length = max(len(row.ids) for row in rows)
    batch = len(rows)
    input_ids = torch.zeros(batch, length, dtype=torch.long)
    position_ids = torch.zeros(len(rows[0].positions), batch, length, dtype=torch.long)
    predicting: list[int] = []
    for i, row in enumerate(rows):
        size = len(row.ids)
        input_ids[i, :size] = torch.tensor(row.ids)
        position_ids[:, i, :size] = row.positions
        predicting += [i * length + position for position in row.predicting]
    device = loaded.device
    flat = [branch for of_picture in branches for branch in of_picture]
    return PackedBatch(
        input_ids=input_ids.to(device),
        position_ids=position_ids.to(device),
        visual_mask=_visual_mask(input_ids, rows, builder.image_token_id).to(device),
        predicting=torch.tensor(predicting, device=device),
        target_ids=torch.tensor([token for row in rows for token in row.targets], device=device),
        token_weights=torch.tensor([weight for row in rows for weight in row.weights], device=device),
        owner=torch.tensor([i for i, branch in enumerate(flat) for _ in branch.weights], device=device),
        prefix_lengths=tuple(len(builder.prefix_ids(f.visual_tokens)) for f in features),
        branch_lengths=tuple(tuple(len(branch.token_ids) for branch in of_picture) for of_picture in branches),
        numbers=_numbers(flat, device) if builder.numbers is not None else None,
        soft_labels=builder.soft_labels,
    )


def _numbers(branches: Sequence[Branch], device: str) -> NumberTable | None:
    """The coordinates of all branches, with where each one's answer begins among the supervised tokens."""
    begins = itertools.accumulate((branch.supervised for branch in branches), initial=0)
    numbers = [(n, begin) for branch, begin in zip(branches, begins, strict=False) for n in branch.numbers]
    owner = [i for i, branch in enumerate(branches) for _ in range(len(branch.numbers) // 4)]
    return number_table(numbers, owner, device)


def _visual_mask(input_ids: torch.Tensor, rows: Sequence[_Row], image_token_id: int) -> torch.Tensor:
    mask = input_ids == image_token_id
    for i, row in enumerate(rows):
        mask[i, len(row.ids) :] = False
    return mask


class _Row:
    """One packed sequence before padding."""

    def __init__(
        self, loaded: LoadedModel, prefix: list[int], features: ImageFeatures, branches: Sequence[Branch]
    ) -> None:
        self.ids = prefix + [token for branch in branches for token in branch.token_ids]
        self.targets = [token for branch in branches for token in branch.token_ids[-branch.supervised :]]
        self.weights = [weight for branch in branches for weight in branch.weights]
        self.predicting: list[int] = []
        start = len(prefix)
        prefix_positions = text_family(loaded).prefix_positions(loaded, prefix, features)  # [axes, tokens]
        next_position = int(prefix_positions.max()) + 1
        positions = [prefix_positions]
        for branch in branches:
            stop = start + len(branch.token_ids)
            positions.append((torch.arange(stop - start) + next_position).expand(len(prefix_positions), -1))
            self.predicting += range(stop - branch.supervised - 1, stop - 1)
            start = stop
        self.positions = torch.cat(positions, dim=1)  # [axes, tokens]


def packed_logits(loaded: LoadedModel, batch: PackedBatch, features: Sequence[ImageFeatures]) -> torch.Tensor:
    """[n, vocabulary]: logits only at the positions whose next token is supervised."""
    parts = text_family(loaded).text_parts(loaded)
    if parts is None:
        raise ModelError(f"Models of the family {loaded.profile.family} can't be trained here.")
    language_model, lm_head = parts
    embeddings = language_model.get_input_embeddings()(batch.input_ids)
    pooled = torch.cat([f.pooled for f in features]).to(embeddings.dtype)
    embeddings = embeddings.masked_scatter(batch.visual_mask[..., None], pooled)
    levels = range(len(features[0].deepstack))
    deepstack: dict[str, Any] = {}
    if levels:
        deepstack["visual_pos_masks"] = batch.visual_mask
        deepstack["deepstack_visual_embeds"] = [torch.cat([f.deepstack[level] for f in features]) for level in levels]
    positions = batch.position_ids
    hidden = language_model(
        inputs_embeds=embeddings,
        attention_mask=batch.attention_mask,
        position_ids=positions if len(positions) > 1 else positions[0],
        use_cache=False,
        **deepstack,
    ).last_hidden_state  # [batch, tokens, hidden]
    return lm_head(hidden.flatten(0, 1)[batch.predicting])
