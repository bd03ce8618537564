"""Phrases that refer to nothing in a picture: those of other pictures, when this one really lacks what they name.

A model that is only ever shown things that are there learns to point at something whatever it is asked.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from grounding.training.data import PhraseTarget, PictureTargets
from grounding.training.wording import head_noun, is_foreign, names_no_kind, singular, take_apart, words_of

_TRIES = 24
# Words that may be said of one and the same thing: with one of them in a picture, no other counts as absent from it.
_MAY_BE_ONE = tuple(
    frozenset(map(singular, names.split()))
    for names in (
        "person people man men woman women guy girl boy lady gentleman kid child children baby human player rider "
        "skier surfer batter catcher umpire pitcher skater snowboarder chef cook officer worker bride "
        "groom crowd couple adult toddler infant teen teenager female male mother mom father dad son daughter brother "
        "sister student teacher farmer cowboy goalie fielder referee passenger driver pedestrian cyclist biker "
        "skateboarder boarder dude fella cop policeman soldier waiter waitress doctor nurse runner dancer singer "
        "musician tourist photographer spectator audience businessman family team customer friend grandma grandpa",
        "car taxi cab truck van vehicle suv bus jeep pickup lorry",
        "couch sofa chair seat bench armchair stool loveseat",
        "ship boat sailboat sail yacht vessel canoe kayak",
        "bag backpack handbag purse suitcase luggage briefcase",
        "cup mug glass bottle can jar vase",
        "bowl plate dish pan pot tray",
        "bike bicycle motorcycle motorbike scooter moped",
        "tv television monitor screen laptop computer display",
        "phone cellphone telephone mobile remote",
        "dog puppy pup animal",
        "cat kitten animal",
        "cow bull calf ox cattle animal",
        "horse pony foal animal",
        "sheep lamb goat animal",
        "bird duck goose gull pigeon chicken animal",
        "elephant animal",
        "zebra animal",
        "giraffe animal",
        "bear animal",
        "fox animal",
        "lion animal",
        "tiger animal",
        "rabbit animal",
        "tree pine bush plant shrub",
        "flower rose bouquet plant",
        "shirt jacket coat sweater top hoodie jersey",
        "pants trousers jeans shorts",
        "hat cap helmet",
        "cake dessert pie food",
        "pizza food",
        "sandwich burger bread food",
        "donut doughnut pastry food",
        "fruit apple orange banana food",
        "vegetable broccoli carrot food",
        "table desk counter",
        "guitar violin cello",
        "plane airplane aeroplane aircraft jet",
        "house building home barn church",
        "clock watch",
        "fridge refrigerator freezer",
        "stove oven cooker microwave",
        "rug carpet mat",
        "lamp light lantern",
        "sink basin",
        "racket racquet",
        "umbrella parasol",
        "pillow cushion",
        "book magazine notebook",
        "train locomotive subway tram streetcar trolley",
        "board skateboard surfboard snowboard longboard",
        "frisbee disc disk",
        "ball baseball basketball football",
        "glove mitt mitten",
        "glasses sunglasses goggles spectacles eyeglasses",
        "tie necktie bowtie",
        "dress gown skirt",
        "suit jacket coat blazer",
        "shirt tshirt tee blouse vest",
        "picture painting poster",
        "bin trash garbage can trashcan dustbin",
        "pasta noodles spaghetti food",
        "meat steak sausage hotdog food",
    )
)


@dataclass(frozen=True)
class Negative:
    """A phrase of another picture and the kind of thing it names."""

    phrase: str
    kind: str


class Negatives:
    """The phrases of a run, to be asked on pictures where what they name is absent."""

    def __init__(self, pictures: Sequence[PictureTargets]) -> None:
        pool = dict.fromkeys(
            Negative(phrase, kind)
            for picture in pictures
            for target in picture.targets
            if target.boxes_xyxy_px
            for phrase in target.phrases
            if (kind := _kind(phrase, target))
        )
        self.all = tuple(pool)
        by_kind: dict[str, list[Negative]] = {}
        for negative in self.all:
            by_kind.setdefault(negative.kind, []).append(negative)
        self.by_kind = tuple(tuple(listed) for listed in by_kind.values())

    def draw(self, picture: PictureTargets, count: int, rng: random.Random) -> tuple[str, ...]:
        """At most `count` different phrases for things that are absent from the picture; fewer where they are rare.

        Half are drawn among all phrases, half among the kinds of things, so that rare kinds are asked for too.
        """
        if not self.all:
            return ()
        there = named_in(picture)
        drawn: list[str] = []
        for _ in range(_TRIES * count):
            if len(drawn) == count:
                break
            pool = self.all if rng.random() < 0.5 else rng.choice(self.by_kind)
            negative = rng.choice(pool)
            if negative.phrase not in drawn and is_absent(negative, there):
                drawn.append(negative.phrase)
        return tuple(drawn)


def is_absent(negative: Negative, there: frozenset[str]) -> bool:
    """Whether nothing named in a picture (`named_in`) may be what the phrase asks for."""
    head = head_noun(negative.phrase)
    wanted = {*map(singular, words_of(negative.kind)), head}
    if negative.kind == head:
        # Where no category says more, the thing may be another word of it: elsewhere than in English the noun comes
        # first ("perro negro").
        before = take_apart(negative.phrase).before
        wanted |= {singular(word) for word in before if not names_no_kind(word)}
    return there.isdisjoint(_alike(wanted))


def named_in(picture: PictureTargets) -> frozenset[str]:
    """The words, in the singular, of all that the snapshot says of a picture: its categories and every wording of
    every phrase."""
    texts = [text for target in picture.targets for text in (*target.phrases, *target.unused, target.category)]
    return frozenset(singular(word) for text in texts for word in words_of(text))


def _kind(phrase: str, target: PhraseTarget) -> str:
    """What a phrase names: its category, else its head noun; "" when neither is known or the language isn't."""
    head = "" if is_foreign(phrase) else head_noun(phrase)
    return (target.category.lower() or head) if head else ""


def _alike(words: Iterable[str]) -> set[str]:
    found = set(words)
    return found.union(*(group for group in _MAY_BE_ONE if not group.isdisjoint(found)))
