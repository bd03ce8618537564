"""Words that the base has never been taught, found by its embeddings alone.

What a tokenizer knows and training never showed keeps the embedding that it began with, moved only by what moves all
unused tokens alike: the embeddings of such tokens are nearly the same vector, so the model can't tell one of these
words from another, and LoRA, which sees only that vector, can't either. Source: Land and Bartolo, Fishing for Magikarp:
Automatically detecting under-trained tokens in large language models (EMNLP 2024, arXiv 2405.05417), which compares
with tokens known to be unused; here a token counts whose embedding many others share, so that none need be known.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from grounding.engine import text_family
from grounding.models import LoadedModel
from grounding.snapshots import Snapshot

_ALIKE = 0.94  # cosine of two embeddings that say the same
_CROWD = 20  # so many tokens that are alike have no meaning of their own
_WORD = re.compile(r"\w+")
_AT_ONCE = 8192  # tokens of the vocabulary that all are compared with in one product


def phrases_of(snapshot: Snapshot) -> tuple[str, ...]:
    """Every phrase that a run on this snapshot may learn from, each once."""
    samples = snapshot.split("train")
    return tuple(dict.fromkeys(phrase for sample in samples for phrase in (sample.phrase, *sample.alternatives)))


@torch.no_grad()
def new_token_ids(loaded: LoadedModel, phrases: Sequence[str]) -> tuple[int, ...]:
    """The tokens of these phrases that the model was never taught, rising. Empty for nearly every pretrained model."""
    family, tokenizer = text_family(loaded), loaded.processor.tokenizer
    prompts = [family.prompt(loaded, phrase) for phrase in phrases]
    if not prompts:
        return ()
    listed = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    used = torch.tensor(sorted({token for ids in listed for token in ids} - set(tokenizer.all_special_ids)))
    weight = loaded.model.get_input_embeddings().weight.detach()
    own = F.normalize(weight[used.to(weight.device)].float(), dim=-1)
    alike = torch.zeros(len(used), dtype=torch.long, device=weight.device)
    for some in weight.split(_AT_ONCE):
        alike += (own @ F.normalize(some.float(), dim=-1).T > _ALIKE).sum(dim=-1)
    return tuple(used[(alike > _CROWD).cpu()].tolist())


def in_words(loaded: LoadedModel, token_ids: Sequence[int], phrases: Sequence[str], most: int = 8) -> str:
    """A sentence on what is learned beside LoRA, for the log and the page: the words of the phrases that are written
    with these tokens."""
    found = sorted(_words_with(loaded, set(token_ids), phrases))
    shown = ", ".join(found[:most])
    more = f" and {len(found) - most:,} more" if len(found) > most else ""
    if len(found) == 1:
        return f"1 word in the phrases means nothing to the base yet and is learned beside LoRA: {shown}."
    what = "words in the phrases mean nothing to the base yet and are learned beside LoRA"
    return f"{len(found):,} {what}: {shown}{more}."


def _words_with(loaded: LoadedModel, tokens: set[int], phrases: Sequence[str]) -> set[str]:
    family, tokenizer = text_family(loaded), loaded.processor.tokenizer
    if not tokenizer.is_fast:  # only the fast ones say where a token stands in its text
        return {text.strip() for text in tokenizer.batch_decode([[token] for token in tokens])}
    prompts = [family.prompt(loaded, phrase) for phrase in phrases]
    encoded = tokenizer(prompts, add_special_tokens=False, return_offsets_mapping=True)
    words = set()
    for prompt, ids, spans in zip(prompts, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        places = [match.span() for match in _WORD.finditer(prompt)]
        for token, (start, end) in zip(ids, spans, strict=True):
            if token in tokens:
                words |= {prompt[a:b] for a, b in places if a < end and start < b}
    return words
