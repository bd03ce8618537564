"""A tokenizer for tests: every character a token, and every mark in angle brackets."""

from __future__ import annotations

import re
from typing import Any


class Letters:
    """Answers what the skeleton and the number reader ask of a fast tokenizer. Ids are given out as they are met."""

    unk_token_id = -1

    def __init__(self, joined: str = r"(?!)") -> None:
        self.cut = re.compile(rf"{joined}|<loc_?\d+>|<\|\w+\|>|[\s\S]")
        self.ids: dict[str, int] = {}

    def convert_tokens_to_ids(self, tokens: list[str]) -> list[int]:
        return [self.ids.setdefault(token, len(self.ids)) for token in tokens]

    def __call__(self, text: Any, **_: object) -> dict[str, Any]:
        if isinstance(text, list):
            return {"input_ids": [self(one)["input_ids"] for one in text]}
        found = list(self.cut.finditer(text))
        return {
            "input_ids": self.convert_tokens_to_ids([match[0] for match in found]),
            "offset_mapping": [match.span() for match in found],
        }
