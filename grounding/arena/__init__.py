"""The arena: people see two answers without knowing whose they are, and say which one they would take. No model."""

from __future__ import annotations

from grounding.arena.contestants import Pair, pair_of
from grounding.arena.questions import Question, Questions
from grounding.arena.tally import Tally
from grounding.arena.votes import CHOICES, Vote, VoteStore

__all__ = ["CHOICES", "Pair", "Question", "Questions", "Tally", "Vote", "VoteStore", "pair_of"]
