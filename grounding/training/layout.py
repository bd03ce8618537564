"""Who sees whom in packed sequences: the prefix of a picture sees itself, each branch its prefix and itself.

A mask over the whole square of a sequence would compute, and throw away, what every branch makes of all the others.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from grounding.training.lean_functions import Gather, Spread

_MOST_SCORES = 2**24  # more attention scores a layer than this are not kept at once on a CPU


@dataclass(frozen=True)
class Layout:
    """Where the real tokens of a packed batch stand, and who sees whom.

    `real` [tokens] flat places in [batch, length], rising; tokens are counted among these. `slots` are the tokens of
    [pictures, longest prefix] and then of [branches, longest branch] = `shape`, padded with token 0; `back` [tokens] is
    each token's slot; `picture_of` [branches] whose prefix a branch sees.
    `prefix_mask` [pictures, 1, prefix, prefix] and `branch_mask` [branches, 1, branch, prefix + branch] are added to
    the scores: 0 where a token may look, -inf elsewhere.
    """

    real: torch.Tensor
    slots: torch.Tensor
    shape: tuple[int, int]
    picture_of: torch.Tensor
    back: torch.Tensor
    prefix_mask: torch.Tensor
    branch_mask: torch.Tensor

    @classmethod
    def of(
        cls,
        prefix_lengths: Sequence[int],
        branch_lengths: Sequence[Sequence[int]],
        length: int,
        device: torch.device | str,
    ) -> Layout:
        """Of rows padded to `length`: each a prefix and its branches, of so many tokens."""
        longest_prefix = max(prefix_lengths)
        longest_branch = max(size for sizes in branch_lengths for size in sizes)
        real: list[int] = []
        prefixes: list[int] = []
        branches: list[int] = []
        picture_of: list[int] = []
        back: list[int] = []
        visible: list[int] = []
        branch_begin = len(prefix_lengths) * longest_prefix
        for i, (prefix, sizes) in enumerate(zip(prefix_lengths, branch_lengths, strict=True)):
            begin = len(real)
            real += range(i * length, i * length + prefix + sum(sizes))
            prefixes += _padded(begin, prefix, longest_prefix)
            back += range(i * longest_prefix, i * longest_prefix + prefix)
            for start, size in zip(itertools.accumulate(sizes, initial=begin + prefix), sizes, strict=False):
                place = branch_begin + len(branches)
                back += range(place, place + size)
                branches += _padded(start, size, longest_branch)
                picture_of.append(i)
                visible.append(prefix)
        causal = torch.ones(longest_branch, longest_branch, dtype=torch.bool, device=device).tril()
        sees_prefix = torch.arange(longest_prefix, device=device) < torch.tensor(visible, device=device)[:, None]
        shape = (len(picture_of), longest_branch)
        seen = torch.cat((sees_prefix[:, None].expand(*shape, -1), causal.expand(*shape, -1)), dim=-1)
        own = torch.ones(longest_prefix, longest_prefix, dtype=torch.bool, device=device).tril()
        return cls(
            real=torch.tensor(real, device=device),
            slots=torch.tensor(prefixes + branches, device=device),
            shape=shape,
            picture_of=torch.tensor(picture_of, device=device),
            back=torch.tensor(back, device=device),
            prefix_mask=_added(own)[None, None],
            branch_mask=_added(seen)[:, None],
        )

    def attend(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, wanted: torch.Tensor | None = None
    ) -> torch.Tensor:
        """[tokens, heads * head_size] from queries [tokens, heads, head_size], keys and values likewise; of the tokens
        `wanted` alone where they are given. These stand in branches, as the prompt's end predicts the first answer
        token: the prefixes are then left out, but for a broken mask, whose loss must still be seen.
        """
        repeats = queries.shape[1] // keys.shape[1]
        # Slots [slots, heads, size] -> [pictures, prefix, heads, size] and [branches, branch, heads, size].
        (query, own_query), (key, own_key), (value, own_value) = (
            self._parts(Spread.apply(states, self.slots, self.back)) for states in (queries, keys, values)
        )
        seen_key = torch.cat((Gather.apply(key, self.picture_of), own_key), dim=1)
        seen_value = torch.cat((Gather.apply(value, self.picture_of), own_value), dim=1)
        attended = attend(own_query, seen_key, seen_value, self.branch_mask, repeats).flatten(0, 1)
        back, before = self.back if wanted is None else self.back[wanted], len(self.slots) - len(attended)
        if wanted is not None and bool((back >= before).all()):
            back = back - before
        else:
            prefixes = attend(query, key, value, self.prefix_mask, repeats).flatten(0, 1)
            attended = torch.cat((prefixes, attended))
        gathered: torch.Tensor = Gather.apply(attended, back)
        return gathered

    def _parts(self, slots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        in_branches = self.shape[0] * self.shape[1]
        prefixes, branches = slots.split((len(slots) - in_branches, in_branches))
        return prefixes.unflatten(0, (-1, self.prefix_mask.shape[-1])), branches.unflatten(0, self.shape)


def _padded(begin: int, size: int, length: int) -> list[int]:
    return [*range(begin, begin + size), *([0] * (length - size))]


def _added(mask: torch.Tensor) -> torch.Tensor:
    return torch.zeros(mask.shape, device=mask.device).masked_fill_(~mask, -math.inf)


def attend(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, repeats: int
) -> torch.Tensor:
    """[rows, queries, heads * head_size]; `mask` [rows or 1, 1, queries, keys] is added to the scores."""
    query = queries.transpose(1, 2)  # [rows, heads, queries, size]
    key, value = (
        (part if repeats == 1 else part.repeat_interleave(repeats, dim=2)).transpose(1, 2) for part in (keys, values)
    )
    scores = query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2]
    if query.device.type == "cpu" and scores <= _MOST_SCORES:
        # In bfloat16 PyTorch's fused attention takes four times as long on a CPU, forward and backward.
        added = torch.matmul(query, key.transpose(-1, -2)).mul_(query.shape[-1] ** -0.5).add_(mask)
        attended = torch.matmul(added.softmax(-1), value)
    elif mask.shape[0] == 1 and query.shape[2] == key.shape[2]:
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    else:
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask.to(query.dtype))
    return attended.transpose(1, 2).flatten(2)
