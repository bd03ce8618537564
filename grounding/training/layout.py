"""Who sees whom in packed sequences: the prefix of a picture sees itself, each branch its prefix and itself.

A mask over the whole square of a sequence would compute, and throw away, what every branch makes of all the others.
"""

from __future__ import annotations

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
        device: torch.device,
        multiple: int | None = None,
    ) -> Layout:
        """Of rows padded to `length`: each a prefix and its branches, of so many tokens.

        The slots are padded to a multiple of `multiple`; without it of 16 on a GPU, where each new shape costs the
        choice of a kernel, and of 1 on a CPU.
        """
        multiple = multiple or (16 if device.type == "cuda" else 1)
        prefix = torch.tensor(prefix_lengths)
        branch = torch.tensor([size for sizes in branch_lengths for size in sizes])
        picture_of = torch.arange(len(prefix)).repeat_interleave(torch.tensor([len(sizes) for sizes in branch_lengths]))
        in_row = prefix.index_add(0, picture_of, branch)
        prefix_slots, has_prefix = _slots(in_row.cumsum(0) - in_row, prefix, multiple)
        branch_slots, has_branch = _slots(prefix.cumsum(0)[picture_of] + branch.cumsum(0) - branch, branch, multiple)
        slots = torch.cat((prefix_slots.flatten(), branch_slots.flatten()))
        filled = torch.cat((has_prefix.flatten(), has_branch.flatten())).nonzero()[:, 0]
        back = torch.empty_like(filled)
        back[slots[filled]] = filled
        causal = torch.ones(branch_slots.shape[1], branch_slots.shape[1], dtype=torch.bool).tril()
        seen = torch.cat(
            (has_prefix[picture_of, None].expand(-1, len(causal), -1), causal.expand(len(branch), -1, -1)), -1
        )
        own = torch.ones(prefix_slots.shape[1], prefix_slots.shape[1], dtype=torch.bool).tril()
        return cls(
            real=(torch.arange(length) < in_row[:, None]).flatten().nonzero()[:, 0].to(device),
            slots=slots.to(device),
            shape=(len(branch), len(causal)),
            picture_of=picture_of.to(device),
            back=back.to(device),
            prefix_mask=_added(own.to(device))[None, None],
            branch_mask=_added(seen.to(device))[:, None],
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


def _slots(begins: torch.Tensor, sizes: torch.Tensor, multiple: int) -> tuple[torch.Tensor, torch.Tensor]:
    """([runs, longest] the tokens of runs that begin so, 0 in the padding; bool, where there is one)."""
    longest = -(-int(sizes.max()) // multiple) * multiple
    places = torch.arange(longest)
    filled = places < sizes[:, None]
    return (begins[:, None] + places) * filled, filled


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
