"""What counts as a placeholder, and above all what does not."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grounding.placeholders import is_placeholder

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
MAIN = "Please carefully observe the area circled in the image and come up with a caption for the area."

PLACEHOLDERS = {
    "the known wording": MAIN,
    "in capitals": MAIN.upper(),
    "other spaces and punctuation": "  please carefully observe the area   circled in the image, and come up with a "
    "caption for the area!!\n",
    "with a further sentence": MAIN + "\nAnswer the question using a single word or phrase.",
    "region template": "Provide a short description for this region.",
    "coordinates template": "Provide the bounding box coordinate of the region this sentence describes: left dog",
    "format explained": "Bounding box coordinates are specified in the format (top-left x, top-left y).",
    "open slot": "Locate {phrase} in this image and output the bbox coordinates in JSON format.",
    "filled prompt": "Locate the left dog in this image and output the bbox coordinates in JSON format.",
    "all objects prompt": "Locate every object that matches the description {refs} in the image.",
    "describe": "Describe the object inside the red box.",
    "polite": "Could you describe what is highlighted here?",
    "caption": "Write a caption for the marked region",
    "generate": "generate a brief referring expression",
    "question": "What is in this region?",
    "circled": "Which object is circled in the picture",
    "noun phrase": "a short description of this region",
    "empty": "",
    "white space": " \t\n\u00a0",
    "punctuation": "-- ... ?",
    "invisible": "\u200b\u200b",
    "bare slot": "<phrase>",
    "bracketed": "[insert caption]",
    "stand-in": "N/A",
    "lorem": "Lorem ipsum dolor sit amet",
    "todo": "TODO",
}
PHRASES = {
    "plain": "the left mug",
    "one word": "dog",
    "number": "12",
    "area": "the grassy area behind the fence",
    "box": "the red box on the shelf",
    "pizza box": "open pizza box",
    "circled": "man circled by dogs",
    "label": "bottle with the white label",
    "picture": "man on the left in the picture",
    "caption": "the book with a long caption",
    "give way": "give way sign near the box",
    "which": "the chair which is next to the object",
    "observing": "woman observing the parade",
    "describing": "a teacher describing the map to her class",
    "emoji": "🐶",
    "cyrillic": "левая собака",
    "chinese": "左边的狗",
    "html-like": "sign saying a < b",
    "empty chair": "empty",
    "name tag": "the name tag on her shirt",
    "placeholder inside": "a woman placing a cup holder",
    "polite but human": "the man saying please",
}


@pytest.mark.parametrize("phrase", PLACEHOLDERS.values(), ids=PLACEHOLDERS)
def test_placeholder_is_recognised(phrase: str) -> None:
    assert is_placeholder(phrase)


@pytest.mark.parametrize("phrase", PHRASES.values(), ids=PHRASES)
def test_phrase_is_left_alone(phrase: str) -> None:
    assert not is_placeholder(phrase)


@pytest.mark.parametrize("unit", ["caption ", "_", "{", "< ", "please ", "bbox ", "what "])
def test_a_huge_text_is_decided_at_once(unit: str) -> None:
    started = time.thread_time()
    is_placeholder(unit * 50_000)
    assert time.thread_time() - started < 1


@given(st.text())
def test_any_text_is_decided_and_spaces_around_it_do_not_matter(text: str) -> None:
    assert is_placeholder(f"  {text}\n") == is_placeholder(text)


def test_every_known_generic_wording_is_recognised() -> None:
    file = SHARED_DATA / "placeholder_wordings" / "wordings.json"
    if not file.is_file():
        pytest.skip("the generic wordings are not on this machine")
    missed = [entry["text"] for entry in json.loads(file.read_text()) if not is_placeholder(entry["text"])]
    assert missed == []


def test_phrases_written_by_people_are_left_alone() -> None:
    file = SHARED_DATA / "google_refexp_phrases" / "refexp_val_5000_human_phrases.json"
    if not file.is_file():
        pytest.skip("the phrases written by people are not on this machine")
    phrases = [entry["phrase"] for entry in json.loads(file.read_text())]
    assert len(phrases) == 5000
    assert [phrase for phrase in phrases if is_placeholder(phrase)] == []
