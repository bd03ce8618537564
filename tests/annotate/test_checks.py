"""What the check of a phrase complains about, and above all what it lets pass."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from speed import takes_less

from annotate.checks import CODES, PROFILES, CheckProfile, check, profile_named, same_wording
from annotate.typos import near_words
from annotate.words import words
from grounding.errors import StoreError

HUMAN_PHRASES = Path(__file__).resolve().parents[3] / "shared/data/google_refexp_phrases"
FREE = PROFILES["free"]

BAD = {
    "": "empty",
    " \t\n": "empty",
    "... --": "empty",
    "\u200b\u200b": "empty",
    "Provide a short description for this region.": "placeholder",
    "N/A": "placeholder",
    "describe the object inside the red box": "placeholder",
    "dog " * 61: "too_long",
    "x" * 501: "too_long",
    "<b>left dog</b>": "markup",
    "<script>alert(1)</script> dog": "markup",
    "dog &amp; cat": "markup",
    "dog https://example.org/a.png": "markup",
    "the dog www.example.org": "markup",
    "left dog<|im_end|>": "markup",
    "[INST] left dog [/INST]": "markup",
    "the {colour} dog": "markup",
    "left dog\x07": "markup",
    "left\u202edog": "markup",
    "the **left** dog": "markup",
    "the cafÃ© table": "markup",
    "the dog [12, 30, 55, 80]": "coordinates",
    "dog at (120, 45)": "coordinates",
    "12, 30, 55, 80": "coordinates",
    "dog 12 30 55 80": "coordinates",
    "dog at 0.25, 0.75": "coordinates",
    "dog at x=12 y=40": "coordinates",
    "the mug x_min: 12": "coordinates",
    "120 px from the dog": "coordinates",
    "dog <loc_0123>": "coordinates",
    "the dog in the bounding box": "marker",
    "dog in bbox": "marker",
    "the man inside the red box": "marker",
    "the dog in the red circle": "marker",
    "the circled dog": "marker",
    "man circled in red": "marker",
    "the highlighted area": "marker",
    "the object marked with a box": "marker",
    "dog outlined in the red rectangle": "marker",
    "the person that is highlighted": "marker",
    "the dog surrounded by a red box": "marker",
    "the cat pointed to by the arrow": "marker",
    "the cup under the red marker": "marker",
    "selected object": "marker",
    "the marked region on the table": "marker",
    "the dog circled in the image": "marker",
    "the region of interest": "marker",
    "the annotated dog": "marker",
    "the left": "no_noun",
    "wearing red": "no_noun",
    "on the": "no_noun",
    "the tallest": "no_noun",
    "far right": "no_noun",
    "standing in front": "no_noun",
    "blue and white": "no_noun",
    "the b;ack dog": "typo",
    "b;ack": "typo",
    "dog in wat,er": "typo",
    "the guyin red": "typo",
    "man inthe blue shirt": "typo",
    "the the dog": "typo",
    "a dog with with a ball": "typo",
    "the dgo on the left": "typo",
    "teh left mug": "typo",
    "the girafe": "typo",
    "the wooman with a hat": "typo",
    "man in blck shirt": "typo",
    "man wearring a hat": "typo",
    "a brwon horse": "typo",
    "the umbrela": "typo",
    "zebrra drinking": "typo",
    "a woman holdign a cup": "typo",
    "the infront car": "typo",
    "the whiite plate": "typo",
    "redshirt man": "typo",
    "the motorcylce behind the bus": "typo",
    "a chiar with a pillow": "typo",
    "the bannana": "typo",
    "elefant with tusks": "typo",
    "a person wit a hat": "typo",
}
FINE = [
    "dog",
    "12",
    "the left mug",
    "man on right",
    "second one from the left",
    "a box on the table",
    "the red box on the shelf",
    "cat in a box",
    "open pizza box",
    "man circled by dogs",
    "bottle with the white label",
    "black marker on the desk",
    "stop sign with a red circle",
    "the sign with an arrow",
    "the grassy area behind the fence",
    "woman with highlighted hair",
    "truck number 14 with 2 wheels",
    "bus 4 5",
    "clock showing 12:30",
    "sign saying a < b",
    "the $5 bill & coins",
    "B&B sign",
    "red,white and blue kite",
    "t-shirt with U.S. flag",
    "dog; the brown one",
    "man in tshirt (left)",
    "the one that that man holds",
    "very very tall giraffe",
    "pom pom hat",
    "the man's dogs' leashes",
    "the man ' s hat",
    "it doesn't have a hat",
    "the 2nd zebra",
    "Nike shoe",
    "Sony tv",
    "a guy named Jonh",
    "lady in grey pyjamas with a colourful moustache",
    "kid playing wii",
    "a cart of scones near the inlet",
    "café table",
    "левая собака",
    "左边的狗",
    "犬",
    "الكلب على اليسار",
    "बाईं ओर का कुत्ता",
    "der linke Hund neben dem Mann",
    "la mujer con el perro negro",
    "le chien à gauche",
    "🐶",
]
LOCATIONS = {
    "left": True,
    "man on the left": True,
    "the rightmost zebra": True,
    "top left corner": True,
    "cup in the middle": True,
    "bottom one": True,
    "second from the window": True,
    "dog at the bottom": True,
    "middle-aged man": False,
    "woman in a tank top": False,
    "white top": False,
    "book on top of the table": False,
    "leftover pizza": False,
    "bright shirt": False,
    "cup right behind the dog": False,
    "man behind the fence": False,
    "tallest giraffe": False,
}


def codes(phrase: str, profile: CheckProfile = FREE, siblings: tuple[str, ...] = ()) -> list[str]:
    return [finding.code for finding in check(phrase, profile, siblings)]


@pytest.mark.parametrize(("phrase", "code"), BAD.items(), ids=[f"{phrase[:40]!r}" for phrase in BAD])
def test_a_bad_phrase_is_told(phrase: str, code: str) -> None:
    assert code in codes(phrase)


@pytest.mark.parametrize("phrase", FINE)
def test_a_fine_phrase_passes(phrase: str) -> None:
    assert check(phrase, FREE) == ()


@pytest.mark.parametrize(("phrase", "told"), LOCATIONS.items(), ids=LOCATIONS)
def test_words_of_place_are_told_only_where_the_data_set_forbids_them(phrase: str, told: bool) -> None:
    assert ("location" in codes(phrase, PROFILES["refcoco+"])) is told
    assert "location" not in codes(phrase, PROFILES["refcoco"])


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("the b;ack dog", "black"),
        ("the guyin red", "guy in"),
        ("a brwon horse", "brown"),
        ("the the dog", "the"),
        ("car infront", "in front"),
        ("ablue car", "a blue"),
        ("a tabel with food", "table"),
        ("the b;ack", "black"),
    ],
)
def test_a_typing_error_is_told_with_what_was_meant_and_where(written: str, meant: str) -> None:
    (finding,) = (finding for finding in check(written, FREE) if finding.code == "typo")
    assert f'Is "{meant}" meant?' in finding.sentence
    assert finding.span is not None
    start, end = finding.span
    assert f'"{written[start:end]}"' in finding.sentence


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_each_profile_counts_words_as_it_says(profile: CheckProfile) -> None:
    assert "too_long" not in codes("dog " * profile.max_words, profile)
    assert "too_long" in codes("dog " * (profile.max_words + 1), profile)
    assert ("too_short" in codes("dog", profile)) == (profile.min_words > 1)


def test_words_of_a_script_without_spaces_are_counted_by_letters() -> None:
    assert "too_long" in codes("狗" * 121, FREE)
    assert codes("狗" * 120, FREE) == []
    assert codes("狗", PROFILES["refcocog"]) == []


def test_a_bare_description_will_do_where_people_write_so() -> None:
    assert codes("left", PROFILES["refcoco"]) == []
    assert codes("tallest", PROFILES["grefcoco"]) == []
    assert codes("with a", PROFILES["refcoco"]) == ["no_noun"]


@pytest.mark.parametrize("sibling", ["the left dog", "Left  dog!", "a left dog", "LEFT DOG"])
def test_the_same_phrase_for_another_object_is_told(sibling: str) -> None:
    assert codes("left dog", siblings=("right dog", sibling)) == ["duplicate"]


def test_other_phrases_of_the_picture_are_no_duplicates() -> None:
    assert codes("left dog", siblings=("right dog", "left dogs", "dog left", "")) == []
    assert codes("the", siblings=("a",)) == ["no_noun"]


def test_words_that_differ_by_a_vowel_sign_are_other_words() -> None:
    """Boy and girl in Hindi, knife and bundle in Thai: the signs are no letters, but no punctuation either."""
    for one, other in (
        ("\u0932\u0921\u093c\u0915\u093e", "\u0932\u0921\u093c\u0915\u0940"),
        ("\u0e21\u0e35\u0e14", "\u0e21\u0e31\u0e14"),
    ):
        assert same_wording(one) != same_wording(other)
        assert not {"duplicate"} & {finding.code for finding in check(one, PROFILES["free"], [other])}
    assert same_wording("\u0301") == same_wording("\ufe0f") == ""


def test_findings_come_in_the_order_of_the_codes() -> None:
    found = codes("in bbox (1, 2) <b>teh the the</b>", siblings=("in bbox (1, 2) <b>teh the the</b>",))
    assert found == sorted(found, key=CODES.index)
    assert {"markup", "coordinates", "marker", "duplicate", "typo"} <= set(found)


def test_profiles_go_by_name() -> None:
    assert [profile_named(name).name for name in ("free", "RefCOCO+ ", "refcocog")] == ["free", "refcoco+", "refcocog"]
    with pytest.raises(StoreError, match=r"no check profile 'coco'. There are: free, refcoco, "):
        profile_named("coco")


@given(st.text() | st.text("a the b;,.[]<>{}()12'\n", max_size=80), st.sampled_from(list(PROFILES.values())))
def test_any_text_is_checked_and_every_span_lies_inside(phrase: str, profile: CheckProfile) -> None:
    for finding in check(phrase, profile, (phrase,)):
        assert finding.code in CODES
        assert finding.sentence.isprintable()
        if finding.span is not None:
            assert 0 <= finding.span[0] < finding.span[1] <= len(phrase)


UNITS = [
    "dog ",
    "a",
    "<",
    "<a ",
    "(1,",
    "1 ",
    "0.",
    "b;ack ",
    "the the ",
    "xq",
    "' s",
    "circled ",
    "in the ",
    "\u4e00",
    "{",
    "\u0301",
    " ",
]


@pytest.mark.parametrize("unit", UNITS)
def test_a_phrase_of_ten_megabytes_is_checked_at_once(unit: str) -> None:
    phrase = unit * (10_000_000 // len(unit))
    started = time.thread_time()
    found = [codes(phrase, profile, (phrase,)) for profile in PROFILES.values()]
    assert time.thread_time() - started < 3
    assert all("too_long" in of_profile for of_profile in found)


def test_a_short_phrase_takes_microseconds() -> None:
    phrases = [
        f"the {colour} {noun} on the left" for colour in sorted(words().colours) for noun in ("dog", "mug", "tabel")
    ]
    check("dog", FREE)
    # About 25 on one core; the bound leaves room for a busy machine.
    assert takes_less(200e-6 * len(phrases * 10), lambda: [check(phrase, FREE) for phrase in phrases * 10])


def test_near_words_are_words_that_would_be_taken_for_errors() -> None:
    near = words().known - words().common
    assert len(near) > 5000
    some = sorted(near)[::40]
    assert near_words(some) == some


def test_no_word_both_is_and_is_not_a_noun() -> None:
    assert not words().nouns & words().not_nouns
    assert {"dog", "men", "boxes", "puppies"} <= words().nouns
    assert {"wearing", "biggest", "grabbed", "carries", "left"} <= words().not_nouns


def test_it_complains_about_fewer_than_one_in_twenty_phrases_that_people_wrote() -> None:
    file = HUMAN_PHRASES / "refexp_val_5000_human_phrases.json"
    if not file.is_file():
        pytest.skip("the phrases written by people are not on this machine")
    phrases = [entry["phrase"] for entry in json.loads(file.read_text())]
    for name in ("free", "refcoco", "refcocog", "grefcoco"):
        complained = [phrase for phrase in phrases if check(phrase, PROFILES[name])]
        assert len(complained) < 0.05 * len(phrases), name
    # Typing errors there are; of other things next to none are wrong.
    assert sum(any(f.code != "typo" for f in check(phrase, FREE)) for phrase in phrases) < 0.005 * len(phrases)
