"""Every way in which an answer may be written, cut or wrong, format by format; and what each format writes."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grounding.boxes import Box
from grounding.formats import (
    BoxFormat,
    FloatJson,
    Florence2Locations,
    Frame,
    InternVLBoxes,
    PaliGemmaLocations,
    QwenBoxTokens,
    QwenJson1000,
    QwenJsonPixels,
)
from grounding.records import Status

OK, NO_BOX, UNREADABLE, DEGENERATE = Status.OK, Status.NO_BOX, Status.UNREADABLE, Status.DEGENERATE
FRAME = Frame((2000, 500))  # 0.1 of it is 200 px across and 50 px down
BOX, SECOND = Box(200, 100, 600, 200), Box(1000, 250, 2000, 500)
WHOLE = Box(0, 0, 2000, 500)
Row = tuple[str, str, Status, list[Box]]

QWEN_JSON: list[Row] = [
    ("as Qwen3-VL writes", '```json\n[\n\t{"bbox_2d": [100, 200, 300, 400], "label": "mug"}\n]\n```', OK, [BOX]),
    ("the key bbox", '[{"bbox": [100, 200, 300, 400]}]', OK, [BOX]),
    ("the key bbox in prose", 'Here: "bbox": [100, 200, 300, 400]', OK, [BOX]),
    ("both keys", '[{"bbox": [1, 2, 3, 4], "bbox_2d": [100, 200, 300, 400]}]', OK, [BOX]),
    ("another key's end", '[{"no_bbox": [100, 200, 300, 400]}] x', UNREADABLE, []),
    ("a key like it", '[{"box_2d": [100, 200, 300, 400]}]', UNREADABLE, []),
    ("inside an object", '{"objects": [{"bbox_2d": [100, 200, 300, 400]}]}', OK, [BOX]),
    ("inside an object, cut", '{"objects": [{"bbox_2d": [100, 200, 300, 400]}', OK, [BOX]),
    ("a box in a label", '[{"bbox_2d": [100, 200, 300, 400], "label": "bbox: [1, 2, 3, 4]"}]', OK, [BOX]),
    ("an invalid escape", "['\\d', {'bbox_2d': [100, 200, 300, 400]}]", OK, [BOX]),
    ("words for nothing", "There are none.", UNREADABLE, []),
]

QWEN_PIXELS: list[Row] = [  # the model sees 1000 x 1000 pixels
    ("as Qwen2.5-VL writes", '```json\n[\n\t{"bbox_2d": [100, 200, 300, 400], "label": "mug"}\n]\n```', OK, [BOX]),
    ("truncated after a box", '```json\n[\n\t{"bbox_2d": [100, 200, 300, 400], "la', OK, [BOX]),
    ("truncated inside a box", '```json\n[\n\t{"bbox_2d": [100, 200, 300, 40', UNREADABLE, []),
    ("prose around", 'Sure: [{"bbox_2d": [100, 200, 300, 400]}] Done.', OK, [BOX]),
    ("single quotes", "[{'bbox_2d': [100, 200, 300, 400]}]", OK, [BOX]),
    ("several", '[{"bbox_2d": [100, 200, 300, 400]}, {"bbox_2d": [500, 500, 1000, 1000]}]', OK, [BOX, SECOND]),
    ("none", "```json\n[]\n```", NO_BOX, []),
    ("swapped corners", '[{"bbox_2d": [300, 400, 100, 200]}]', OK, [BOX]),
    ("out of range", '[{"bbox_2d": [-5, -1000, 1200, 2000]}]', OK, [WHOLE]),
    ("far out of range", '[{"bbox_2d": [100, 200, 2001, 400]}]', UNREADABLE, []),
    ("far below it", '[{"bbox_2d": [100, -1001, 300, 400]}]', UNREADABLE, []),
    ("a number without end", '[{"bbox_2d": [44888777777777969696969699, 879, 879, 988]}]', UNREADABLE, []),
    ("one far out of range", '[{"bbox_2d": [9e9, 0, 1, 1]}, {"bbox_2d": [100, 200, 300, 400]}]', OK, [BOX]),
    ("wholly out of range", '[{"bbox_2d": [1001, 0, 1200, 100]}]', DEGENERATE, []),
    ("numbers as strings", '[{"bbox_2d": ["100", "200", "300", "400"]}]', OK, [BOX]),
    ("an extra number", '[{"bbox_2d": [100, 200, 300, 400, 5]}]', OK, [BOX]),
    ("exponent", '[{"bbox_2d": [1e2, 2E2, 3.0e+2, 4000e-1]}]', OK, [BOX]),
    ("a repeated answer", '[{"bbox_2d": [100, 200, 300, 400]}]\n' * 3, OK, [BOX]),
    ("no width", '[{"bbox_2d": [100, 200, 100, 400]}]', DEGENERATE, []),
    ("no answer", "A mug on a table.", UNREADABLE, []),
]

REF = "<|object_ref_start|>the mug<|object_ref_end|>"
ONE = "<|box_start|>(100,200),(300,400)<|box_end|>"
TWO = "<|box_start|>(500,500),(1000,1000)<|box_end|>"
QWEN_TOKENS: list[Row] = [
    ("as it is taught", REF + ONE, OK, [BOX]),
    ("special tokens stripped", "the mug(100,200),(300,400)", OK, [BOX]),
    ("no phrase", ONE, OK, [BOX]),
    ("with blanks", REF + "<|box_start|> ( 100, 200 ) , ( 300, 400 )<|box_end|>", OK, [BOX]),
    ("fenced", f"```\n{REF}{ONE}\n```", OK, [BOX]),
    ("truncated after a box", REF + "<|box_start|>(100,200),(300,400)", OK, [BOX]),
    ("truncated in the last number", REF + "<|box_start|>(100,200),(300,40", UNREADABLE, []),
    ("truncated before the first number", REF + "<|box_start|>", UNREADABLE, []),
    ("truncated inside the phrase", "<|object_ref_start|>the mu", UNREADABLE, []),
    ("truncated in the second box", REF + ONE + "<|box_start|>(500,5", OK, [BOX]),
    ("prose around", f"It is here: {REF}{ONE}, I think (5).", OK, [BOX]),
    ("quoted numbers", REF + "<|box_start|>('100','200'),('300','400')<|box_end|>", OK, [BOX]),
    ("several", REF + ONE + TWO, OK, [BOX, SECOND]),
    ("several, stripped", "the mug(100,200),(300,400)(500,500),(1000,1000)", OK, [BOX, SECOND]),
    ("several, each with the phrase", REF + ONE + REF + TWO, OK, [BOX, SECOND]),
    ("none, as it is taught", REF + "none", NO_BOX, []),
    ("none, stripped", "the mugnone", NO_BOX, []),
    ("none, the phrase only", REF, NO_BOX, []),
    ("none in a word", "None.", NO_BOX, []),
    ("none in words", "There are none.\n", NO_BOX, []),
    ("none after half a box", "(100,200),(300 none", UNREADABLE, []),
    ("a number in place of a box", REF + "100", UNREADABLE, []),
    ("swapped corners", REF + "<|box_start|>(300,400),(100,200)<|box_end|>", OK, [BOX]),
    ("out of range", REF + "<|box_start|>(-5,-1e3),(1200,1999)<|box_end|>", OK, [WHOLE]),
    ("far out of range", REF + "<|box_start|>(-5,-1e3),(1200,9000)<|box_end|>", UNREADABLE, []),
    ("wholly out of range", REF + "<|box_start|>(1001,0),(1200,100)<|box_end|>", DEGENERATE, []),
    ("no width", REF + "<|box_start|>(100,200),(100,400)<|box_end|>", DEGENERATE, []),
    ("an extra number", REF + "<|box_start|>(100,200),(300,400,5)<|box_end|>", OK, [BOX]),
    ("an extra number in the first corner", REF + "<|box_start|>(100,200,7),(300,400)<|box_end|>", OK, [BOX]),
    ("an extra corner", REF + "<|box_start|>(100,200),(300,400),(5,6)<|box_end|>", OK, [BOX]),
    ("exponent", REF + "<|box_start|>(1e2,2E2),(3.0e+2,4000e-1)<|box_end|>", OK, [BOX]),
    ("a repeated answer", (REF + ONE) * 3, OK, [BOX]),
    ("one corner", REF + "<|box_start|>(100,200)<|box_end|>", UNREADABLE, []),
    ("larger than any float", REF + "<|box_start|>(100,200),(1e999,400)<|box_end|>", UNREADABLE, []),
    ("empty", "", UNREADABLE, []),
    ("no answer", "A mug on a table.", UNREADABLE, []),
]

INTERNVL: list[Row] = [
    ("as it is taught", "<ref>mug</ref><box>[[100, 200, 300, 400]]</box>", OK, [BOX]),
    ("special tokens stripped", "mug[[100, 200, 300, 400]]", OK, [BOX]),
    ("without blanks", "<ref>mug</ref><box>[[100,200,300,400]]</box>", OK, [BOX]),
    ("fenced", "```\nmug[[100, 200, 300, 400]]\n```", OK, [BOX]),
    ("truncated after a box", "<ref>mug</ref><box>[[100, 200, 300, 400]", OK, [BOX]),
    ("truncated in the last number", "<ref>mug</ref><box>[[100, 200, 300, 40", UNREADABLE, []),
    ("truncated before the numbers", "<ref>mug</ref><box>[[", UNREADABLE, []),
    ("truncated in the second box", "mug[[100, 200, 300, 400], [500, 5", OK, [BOX]),
    ("a bare list in prose", "The mug is at [100, 200, 300, 400], as I [1] see.", OK, [BOX]),
    ("single quotes", "[['100', '200', '300', '400']]", OK, [BOX]),
    ("several", "<ref>mug</ref><box>[[100, 200, 300, 400], [500, 500, 1000, 1000]]</box>", OK, [BOX, SECOND]),
    ("none", "<ref>mug</ref><box>[]</box>", NO_BOX, []),
    ("none, stripped", "mug[]", NO_BOX, []),
    ("none among other lists", "[] [[1, 2]]", UNREADABLE, []),
    ("swapped corners", "<box>[[300, 400, 100, 200]]</box>", OK, [BOX]),
    ("out of range", "<box>[[-5, -1, 1200, 1500]]</box>", OK, [WHOLE]),
    ("far out of range", "<box>[[-5, -1, 1200, 9000]]</box>", UNREADABLE, []),
    ("wholly out of range", "<box>[[1001, 0, 1200, 100]]</box>", DEGENERATE, []),
    ("no height", "<box>[[100, 200, 300, 200]]</box>", DEGENERATE, []),
    ("numbers as strings", '<box>[["100", "200", "300", "400"]]</box>', OK, [BOX]),
    ("an extra number", "<box>[[100, 200, 300, 400, 7]]</box>", OK, [BOX]),
    ("a number too few", "<box>[[100, 200, 300]]</box>", UNREADABLE, []),
    ("exponent", "<box>[[1e2, 2E2, 3.0e+2, 4000e-1]]</box>", OK, [BOX]),
    ("a repeated answer", "<ref>mug</ref><box>[[100, 200, 300, 400]]</box>" * 3, OK, [BOX]),
    ("a word among the numbers", "<box>[[100, wide, 300, 400]]</box>", UNREADABLE, []),
    ("empty", "", UNREADABLE, []),
    ("no answer", "A mug on a table.", UNREADABLE, []),
]

F_ONE, F_TWO = "<loc_100><loc_200><loc_300><loc_400>", "<loc_500><loc_500><loc_999><loc_999>"
F_BOX, F_SECOND = Box(201, 100.25, 601, 200.25), Box(1001, 250.25, 1999, 499.75)  # the bins' centres
FLORENCE: list[Row] = [
    ("as it is taught", "the mug" + F_ONE, OK, [F_BOX]),
    ("no phrase", F_ONE, OK, [F_BOX]),
    ("with the marks of its own", f"</s><s>the mug{F_ONE}</s>", OK, [F_BOX]),
    ("with blanks", "the mug <loc_100> <loc_200> <loc_300>\n<loc_400>", OK, [F_BOX]),
    ("fenced", f"```\nthe mug{F_ONE}\n```", OK, [F_BOX]),
    ("truncated after a box", f"the mug{F_ONE}<loc_500><loc_5", OK, [F_BOX]),
    ("truncated in a box", "the mug<loc_100><loc_200><loc_300>", UNREADABLE, []),
    ("truncated in a token", "the mug<loc_1", UNREADABLE, []),
    ("prose around", f"It is the mug{F_ONE}on the left", OK, [F_BOX]),
    ("several", f"the mug{F_ONE}{F_TWO}", OK, [F_BOX, F_SECOND]),
    ("several, each with a phrase", f"the mug{F_ONE}a cup{F_TWO}", OK, [F_BOX, F_SECOND]),
    ("none: the phrase alone", "the mug", NO_BOX, []),
    ("none: a phrase with a number", "the mug 42", NO_BOX, []),
    ("none: empty", "", NO_BOX, []),
    ("coordinates in another spelling", "[100, 200, 300.5, -4]", UNREADABLE, []),
    ("single quotes are words", "'the mug'" + F_ONE, OK, [F_BOX]),
    ("swapped corners", "<loc_300><loc_400><loc_100><loc_200>", OK, [F_BOX]),
    ("out of range", "<loc_0><loc_0><loc_1200><loc_1999>", OK, [Box(1, 0.25, 2000, 500)]),
    ("far out of range", "<loc_0><loc_0><loc_1200><loc_99999>", UNREADABLE, []),
    ("wholly out of range", "<loc_1100><loc_0><loc_1200><loc_9>", DEGENERATE, []),
    ("no width", "<loc_100><loc_200><loc_100><loc_400>", DEGENERATE, []),
    ("an extra number", f"the mug{F_ONE}<loc_5>", OK, [F_BOX]),
    ("an extra number, then a box", f"the mug{F_ONE}<loc_5>cup{F_TWO}", OK, [F_BOX, F_SECOND]),
    ("an exponent is no token", "<loc_1e2><loc_200><loc_300><loc_400>", UNREADABLE, []),
    ("a text is no token", '<loc_"100"><loc_200><loc_300><loc_400>', UNREADABLE, []),
    ("a repeated answer", f"the mug{F_ONE}" * 3, OK, [F_BOX]),
]

PALIGEMMA_FRAME = Frame((2046, 1023), (224, 224))  # a token is 2 px across and 1 px down
P_ONE, P_TWO = "<loc0200><loc0100><loc0400><loc0300>", "<loc0500><loc0500><loc1023><loc1023>"
P_BOX, P_SECOND = Box(200, 200, 600, 400), Box(1000, 500, 2046, 1023)
PALIGEMMA: list[Row] = [
    ("as it is taught", P_ONE + " the mug", OK, [P_BOX]),
    ("no phrase", P_ONE, OK, [P_BOX]),
    ("with blanks", "<loc0200> <loc0100> <loc0400>\n<loc0300> the mug", OK, [P_BOX]),
    ("without leading zeros", "<loc200><loc100><loc400><loc300> the mug", OK, [P_BOX]),
    ("with a mask behind", P_ONE + "<seg000><seg127> the mug", OK, [P_BOX]),
    ("fenced", f"```\n{P_ONE} the mug\n```", OK, [P_BOX]),
    ("truncated after a box", P_ONE, OK, [P_BOX]),
    ("truncated in the second box", P_ONE + " the mug ; <loc0500><loc0", OK, [P_BOX]),
    ("truncated in a box", "<loc0200><loc0100><loc0400>", UNREADABLE, []),
    ("truncated in a token", "<loc0200><loc0100><loc0400><loc03", UNREADABLE, []),
    ("prose around", f"detect the mug: {P_ONE} the mug.", OK, [P_BOX]),
    ("several", f"{P_ONE} the mug ; {P_TWO} the mug", OK, [P_BOX, P_SECOND]),
    ("none", "", NO_BOX, []),
    ("none, blanks", " \n", NO_BOX, []),
    ("words without a box", "the mug", UNREADABLE, []),
    ("single quotes are words", P_ONE + " 'the mug'", OK, [P_BOX]),
    ("swapped corners", "<loc0400><loc0300><loc0200><loc0100> the mug", OK, [P_BOX]),
    ("out of range", "<loc0000><loc0000><loc1200><loc2046> the mug", OK, [Box(0, 0, 2046, 1023)]),
    ("far out of range", "<loc0000><loc0000><loc1200><loc2047> the mug", UNREADABLE, []),
    ("wholly out of range", "<loc1100><loc0000><loc1200><loc0009>", DEGENERATE, []),
    ("no height", "<loc0200><loc0100><loc0200><loc0300>", DEGENERATE, []),
    ("an extra number", P_ONE + "<loc0005> the mug", OK, [P_BOX]),
    ("an exponent is no token", "<loc2e2><loc0100><loc0400><loc0300>", UNREADABLE, []),
    ("a text is no token", '<loc"200"><loc0100><loc0400><loc0300>', UNREADABLE, []),
    ("a repeated answer", f"{P_ONE} the mug ; " * 3, OK, [P_BOX]),
    ("numbers without tokens", "200 100 400 300 the mug", UNREADABLE, []),
]

FLOAT = '{"x_min": 0.1, "y_min": 0.2, "x_max": 0.3, "y_max": 0.4}'
FLOAT_TWO = '{"x_min": 0.5, "y_min": 0.5, "x_max": 1, "y_max": 1.0}'
FLOATS: list[Row] = [
    ("as it is taught", FLOAT, OK, [BOX]),
    ("fenced", f"```json\n{FLOAT}\n```", OK, [BOX]),
    ("in a list", f"[{FLOAT}]", OK, [BOX]),
    ("inside an object", f'{{"mug": {FLOAT}}}', OK, [BOX]),
    ("in another order", '{"y_min": 0.2, "y_max": 0.4, "x_min": 0.1, "x_max": 0.3}', OK, [BOX]),
    ("truncated after a box", f"[{FLOAT}, {{", OK, [BOX]),
    ("truncated in the second box", f'[{FLOAT}, {{"x_min": 0.5, "y_mi', OK, [BOX]),
    ("truncated in the last number", FLOAT[:-1], UNREADABLE, []),
    ("truncated before it", FLOAT[:-5], UNREADABLE, []),
    ("prose around", f"The mug {{left}} is at {FLOAT}. Done.", OK, [BOX]),
    ("single quotes", FLOAT.replace('"', "'"), OK, [BOX]),
    ("no quotes", FLOAT.replace('"', ""), OK, [BOX]),
    ("several", f"[{FLOAT}, {FLOAT_TWO}]", OK, [BOX, SECOND]),
    ("several without a list", f"{FLOAT}\n{FLOAT_TWO}", OK, [BOX, SECOND]),
    ("none", "[]", NO_BOX, []),
    ("none in prose", "Nothing there: []", NO_BOX, []),
    ("swapped corners", '{"x_min": 0.3, "y_min": 0.4, "x_max": 0.1, "y_max": 0.2}', OK, [BOX]),
    ("out of range", '{"x_min": -0.1, "y_min": -1, "x_max": 1.5, "y_max": 2}', OK, [WHOLE]),
    ("far out of range", '{"x_min": 0.1, "y_min": 0.2, "x_max": 0.3, "y_max": 2.1}', UNREADABLE, []),
    ("another scale", '{"x_min": 100, "y_min": 200, "x_max": 300, "y_max": 400}', UNREADABLE, []),
    ("wholly out of range", '{"x_min": 1.1, "y_min": 0, "x_max": 1.5, "y_max": 1}', DEGENERATE, []),
    ("no width", '{"x_min": 0.1, "y_min": 0.2, "x_max": 0.1, "y_max": 0.4}', DEGENERATE, []),
    ("numbers as strings", '{"x_min": "0.1", "y_min": "0.2", "x_max": "0.3", "y_max": "0.4"}', OK, [BOX]),
    ("numbers as strings in prose", 'At "x_min": "0.1", "y_min": "0.2", "x_max": "0.3", "y_max": "0.4"}', OK, [BOX]),
    ("an extra number", FLOAT[:-1] + ', "score": 0.9}', OK, [BOX]),
    ("an extra number, cut", FLOAT[:-1] + ', "score": 0.', OK, [BOX]),
    ("exponent", '{"x_min": 1e-1, "y_min": 2E-1, "x_max": 0.03e+1, "y_max": 4e-1}', OK, [BOX]),
    ("exponent in prose", 'At "x_min": 1e-1, "y_min": 2E-1, "x_max": 0.03e+1, "y_max": 4e-1}', OK, [BOX]),
    ("a repeated answer", f"{FLOAT}\n" * 3, OK, [BOX]),
    ("a number too few", '{"x_min": 0.1, "y_min": 0.2, "x_max": 0.3}', UNREADABLE, []),
    ("true among the numbers", '{"x_min": true, "y_min": 0.2, "x_max": 0.3, "y_max": 0.4}', UNREADABLE, []),
    ("null among the numbers", '{"x_min": null, "y_min": 0.2, "x_max": 0.3, "y_max": 0.4}', UNREADABLE, []),
    ("empty", "", UNREADABLE, []),
    ("no answer", "A mug on a table.", UNREADABLE, []),
]

TABLES: list[tuple[BoxFormat, Frame, list[Row]]] = [
    (QwenJson1000(), FRAME, QWEN_JSON),
    (QwenJson1000(fenced=True), FRAME, QWEN_JSON),
    (QwenJsonPixels(), Frame((2000, 500), (1000, 1000)), QWEN_PIXELS),
    (QwenBoxTokens(), FRAME, QWEN_TOKENS),
    (InternVLBoxes(), FRAME, INTERNVL),
    (Florence2Locations(), FRAME, FLORENCE),
    (PaliGemmaLocations(), PALIGEMMA_FRAME, PALIGEMMA),
    (FloatJson(), FRAME, FLOATS),
]
FORMATS = [box_format for box_format, _, _ in TABLES]


def name_of(value: object) -> str | None:
    return repr(value) if value in FORMATS else None


@pytest.mark.parametrize(
    ("box_format", "frame", "case", "text", "status", "boxes"),
    [
        pytest.param(box_format, frame, *row, id=f"{box_format!r}: {row[0]}")
        for box_format, frame, rows in TABLES
        for row in rows
    ],
)
def test_what_an_answer_means(
    box_format: BoxFormat, frame: Frame, case: str, text: str, status: Status, boxes: list[Box]
) -> None:
    decoded = box_format.decode(text, frame)
    assert decoded.status is status
    assert len(decoded.boxes_xyxy_px) == len(boxes)
    for found, expected in zip(decoded.boxes_xyxy_px, boxes, strict=True):
        assert tuple(found) == pytest.approx(tuple(expected), abs=1e-9)


LABEL = 'the "red"\nmug <|x|> é'
FENCED_LABEL = '"label": "the \\"red\\" mug < |x|> é"'


@pytest.mark.parametrize(
    ("box_format", "frame", "boxes", "expected"),
    [
        (QwenJson1000(), FRAME, [BOX], '[{"bbox_2d": [100, 200, 300, 400]}]'),
        (QwenJson1000(), FRAME, [], "[]"),
        (
            QwenJson1000(fenced=True),
            FRAME,
            [BOX, SECOND],
            f'```json\n[\n\t{{"bbox_2d": [100, 200, 300, 400], {FENCED_LABEL}}},\n'
            f'\t{{"bbox_2d": [500, 500, 1000, 1000], {FENCED_LABEL}}}\n]\n```',
        ),
        (QwenJson1000(fenced=True), FRAME, [], "```json\n[]\n```"),
        (
            QwenJsonPixels(),
            Frame((2000, 500), (980, 252)),
            [BOX],
            f'```json\n[\n\t{{"bbox_2d": [98, 50, 294, 101], {FENCED_LABEL}}}\n]\n```',
        ),
        (
            QwenJsonPixels(fenced=False),
            FRAME,
            [BOX, SECOND],
            '[{"bbox_2d": [200, 100, 600, 200]}, {"bbox_2d": [1000, 250, 2000, 500]}]',
        ),
        (
            QwenBoxTokens(),
            FRAME,
            [BOX, SECOND],
            f'<|object_ref_start|>the "red" mug < |x|> é<|object_ref_end|>{ONE}{TWO}',
        ),
        (QwenBoxTokens(), FRAME, [], '<|object_ref_start|>the "red" mug < |x|> é<|object_ref_end|>none'),
        (
            InternVLBoxes(),
            FRAME,
            [BOX, SECOND],
            '<ref>the "red" mug < |x|> é</ref><box>[[100, 200, 300, 400], [500, 500, 1000, 1000]]</box>',
        ),
        (InternVLBoxes(), FRAME, [], '<ref>the "red" mug < |x|> é</ref><box>[]</box>'),
        (Florence2Locations(), FRAME, [BOX, SECOND], f'the "red" mug < |x|> é{F_ONE}{F_TWO}'),
        (  # bins are found by rounding down
            Florence2Locations(),
            FRAME,
            [Box(201.9, 100.9, 603.9, 200)],
            'the "red" mug < |x|> é<loc_100><loc_201><loc_301><loc_400>',
        ),
        (Florence2Locations(), FRAME, [], 'the "red" mug < |x|> é'),
        (
            PaliGemmaLocations(),
            PALIGEMMA_FRAME,
            [P_BOX, P_SECOND],
            f'{P_ONE} the "red" mug < |x|> é ; {P_TWO} the "red" mug < |x|> é',
        ),
        (PaliGemmaLocations(), PALIGEMMA_FRAME, [], ""),
        (FloatJson(), FRAME, [BOX], FLOAT),
        (FloatJson(), FRAME, [BOX, SECOND], f"[{FLOAT}, {FLOAT_TWO.replace('1.0', '1')}]"),
        (FloatJson(places=1), FRAME, [Box(0, 0, 1999, 77)], '{"x_min": 0, "y_min": 0, "x_max": 1, "y_max": 0.2}'),
        (FloatJson(), FRAME, [], "[]"),
    ],
)
def test_how_boxes_are_written(box_format: BoxFormat, frame: Frame, boxes: list[Box], expected: str) -> None:
    assert box_format.encode(boxes, frame, LABEL) == expected


def test_every_format_has_a_name_of_its_own() -> None:
    names = [box_format.name for box_format in FORMATS]
    assert names == [
        "qwen_json_1000",
        "qwen_json_1000",
        "qwen_json_pixels",
        "qwen_box_tokens",
        "internvl_boxes",
        "florence2_locations",
        "paligemma_locations",
        "float_json",
    ]


def test_each_side_has_its_own_reach() -> None:
    frame = Frame((2000, 500), (1000, 250))
    for numbers, status in (([0, 0, 1999, 499], OK), ([0, 0, 499, 1999], UNREADABLE)):
        assert QwenJsonPixels().decode(f'[{{"bbox_2d": {numbers}}}]', frame).status is status


# --- any text at all ---

SIGNS = [*"[]{}(),'\": \\", "<loc_5>", "<loc0007>", "<loc", ">", "<ref>", "</ref>", "<box>", "```json", "none"]
KEYS = ["bbox_2d", "bbox", "x_min", "y_min", "x_max", "y_max"]
NUMBERS = ["12", "0.5", "-3", "1e9", "e", ".", "٣", "²"]
MARKS = ["<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>"]
MARKUP = st.lists(st.sampled_from(SIGNS + KEYS + NUMBERS + MARKS), max_size=40).map("".join)


@pytest.mark.parametrize("box_format", FORMATS, ids=name_of)
@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=60) | MARKUP)
def test_any_text_has_a_status_and_boxes_only_when_ok(box_format: BoxFormat, text: str) -> None:
    decoded = box_format.decode(text, FRAME)
    assert bool(decoded.boxes_xyxy_px) == (decoded.status is OK)
    for box in decoded.boxes_xyxy_px:
        assert box.clip(FRAME.image_size_wh) == box


HOSTILE = {
    "opening brackets": "[" * 100_000,
    "brackets": "[" * 50_000 + "]" * 50_000,
    "opening parentheses": "(" * 100_000,
    "braces": '{"a":' * 20_000,
    "blanks in a list": "[" + " " * 100_000,
    "blanks in lists": "[  " * 33_000,
    "blanks before a number": 'x "bbox_2d": [' + " " * 100_000 + "x",
    "blanks after a number": 'x "bbox_2d": [1' + " " * 100_000 + "x",
    "blanks among pairs": "(1,2" + " " * 100_000,
    "blanks after a pair": "(1,2)" + " " * 100_000,
    "many keys": '"bbox_2d": [' * 8_000,
    "quotes": 'x "bbox_2d": [' + "'\" " * 33_000 + "x",
    "digits": "9" * 100_000,
    "digits in a box": 'x "bbox_2d": [1, 2, 3, ' + "4" * 100_000,
    "digits in a complete box": 'x "bbox_2d": [1, 2, 3, ' + "4" * 100_000 + "]",
    "digits in a list": "[[1, 2, 3, " + "4" * 100_000 + "]]",
    "digits in a pair": "(1,2),(3," + "4" * 100_000 + ")",
    "digits in a token": "<loc_" + "1" * 100_000 + "><loc_1><loc_2><loc_3>",
    "digits in a PaliGemma token": "<loc" + "1" * 100_000 + "><loc1><loc2><loc3>",
    "digits in an exponent": "[[1, 2, 3, 4e" + "9" * 100_000 + "]]",
    "digits in a share": '"x_min": 0.1, "y_min": 0.2, "x_max": 0.3, "y_max": 0.' + "4" * 100_000,
    "many numbers": "1 " * 50_000 + "x",
    "numbers with points": "1.2." * 25_000,
    "a list of many numbers": "[" + "1, " * 33_000,
    "pairs of many numbers": "(" + "1," * 50_000,
    "half pairs": "(1,2)," * 16_000,
    "three tokens": "<loc_1><loc_2><loc_3>x" * 4_500,
    "half tokens": "<loc_" * 20_000,
    "marks": "<|object_ref_start|>" * 5_000,
    "end marks": "<|object_ref_end|>" * 5_500,
    "box marks": "<|box_start|>" * 7_500,
    "refs": "<ref>" * 20_000,
    "fences": "```json" * 14_000,
    "none": "none " * 20_000,
    "minus signs": "-" * 100_000 + "1",
    "x_min": '"x_min": 0.1, ' * 7_000,
    "different boxes": ", ".join(f'{{"bbox_2d": [{i % 997}, {i % 991}, 999, 1000]}}' for i in range(2_700)),
    "different lists": ", ".join(f"[{i % 997}, {i % 991}, 999, 1000]" for i in range(4_500)),
    "different tokens": "".join(f"<loc_{i % 997}><loc_{i % 991}><loc_998><loc_999>" for i in range(3_000)),
}


@pytest.mark.parametrize("case", sorted(HOSTILE))
def test_no_answer_takes_long_to_read(case: str) -> None:
    for box_format in FORMATS:
        start = time.process_time()
        decoded = box_format.decode(HOSTILE[case], FRAME)
        assert time.process_time() - start < 2.0, box_format
        assert bool(decoded.boxes_xyxy_px) == (decoded.status is OK)
