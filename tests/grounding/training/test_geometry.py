"""Expected coordinates against slow, clear references: whole distributions over numbers, boxes as the core has them."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from grounding.boxes import Box, giou
from grounding.formats import Frame, Integers, QwenJson1000
from grounding.training.geometry import (
    SMOOTH_BETA,
    NumberTable,
    expected_shares,
    giou_loss,
    number_table,
    smooth_l1,
)
from grounding.training.losses import LossWeights, answer_loss, with_soft_labels
from grounding.training.numbers import NumberReader, completions, nearest
from letters import Letters

END = "<|im_end|>"
SPELLING = Integers(1000)
SQUARE = Frame((1000, 1000))
Chances = Mapping[tuple[str, ...], Mapping[str, float]]  # beginning -> symbol or "end" -> chance


def table_of(*boxes: tuple[int, int, int, int], spread: float = 0.0) -> tuple[NumberTable, Letters, list[str]]:
    """The table of one answer with these boxes, its tokenizer and its tokens."""
    tokenizer = Letters()
    reader = NumberReader(tokenizer, QwenJson1000(), spread)
    answer = QwenJson1000().encode([Box(*box) for box in boxes], SQUARE)
    numbers = reader.read(answer, len(boxes), SQUARE, "x", END)
    table = number_table([(number, 0) for number in numbers], [0] * len(boxes), "cpu")
    assert table is not None
    return table, tokenizer, [*answer, END]


def tree_chances(seed: int, number: int, *, astray_to_nearest: bool) -> dict[tuple[str, ...], dict[str, float]]:
    """Chances at every beginning of a number: random; after a wrong symbol certain of the nearest number, if asked."""
    rng = random.Random(seed)
    right = tuple(str(number))
    chances: dict[tuple[str, ...], dict[str, float]] = {}
    tree = completions(SPELLING)
    for before in tree:
        symbols, may_end = SPELLING.following(before)
        options = [*symbols, *(["end"] if may_end else [])]
        if before != right[: len(before)] and astray_to_nearest:
            goal = (*str(int(nearest(tree[before], number))), "end")
            weights = [float(option == goal[len(before)]) for option in options]
        else:
            weights = [math.exp(rng.gauss(0, 2)) for _ in options]
        chances[before] = {option: weight / sum(weights) for option, weight in zip(options, weights, strict=True)}
    return chances


def distribution(chances: Chances) -> dict[int, float]:
    """The chance of every whole number, by walking the tree."""
    found: dict[int, float] = {}

    def walk(before: tuple[str, ...], share: float) -> None:
        for option, chance in chances[before].items():
            if option == "end":
                found[int("".join(before))] = share * chance
            else:
                walk((*before, option), share * chance)

    walk((), 1.0)
    return found


def logits_of(chances: Chances, number: int, at: torch.Tensor, tokenizer: Letters, rows: int) -> torch.Tensor:
    """Logits as the model gives them along the right number, at the rows `at` of its decisions; noise elsewhere."""
    logits = torch.randn(rows, 400, dtype=torch.float64, generator=torch.Generator().manual_seed(number))
    for place, row in enumerate(at.tolist()):
        for option, chance in chances[tuple(str(number)[:place])].items():
            token = tokenizer.ids["," if option == "end" else option]
            logits[row, token] = math.log(chance) if chance > 0 else -1e4
    return logits


def expected_first(chances: Chances, number: int) -> float:
    """Our expected value of x1 when it is `number` (0 to 999), in the format's numbers."""
    table, tokenizer, tokens = table_of((number, 0, 1000, 1000))
    at = table.at[0][table.real[0].any(-1)]
    return float(expected_shares(logits_of(chances, number, at, tokenizer, len(tokens)), table)[0]) * 1000


@given(number=st.integers(0, 999), seed=st.integers(0, 10**6))
def test_it_is_the_mean_over_all_numbers_where_a_wrong_digit_leads_to_the_nearest(number: int, seed: int) -> None:
    chances = tree_chances(seed, number, astray_to_nearest=True)
    expected = sum(value * share for value, share in distribution(chances).items())
    assert expected_first(chances, number) == pytest.approx(expected, abs=1e-3)


@given(number=st.integers(0, 999), seed=st.integers(0, 10**6))
def test_it_never_overstates_how_far_the_model_is_off(number: int, seed: int) -> None:
    chances = tree_chances(seed, number, astray_to_nearest=False)
    off = sum(abs(value - number) * share for value, share in distribution(chances).items())
    assert abs(expected_first(chances, number) - number) <= off + 1e-3


@pytest.mark.parametrize(
    ("number", "place", "wrong", "share", "expected"),
    [
        pytest.param(199, 0, "2", 0.5, 199.5, id="199 against 200"),
        pytest.param(200, 0, "1", 0.25, 199.75, id="200 against 199"),
        pytest.param(345, 2, "8", 0.5, 346.5, id="the last digit alone"),
        pytest.param(345, 0, "4", 0.5, 372.5, id="345 against 400"),
        pytest.param(345, 0, "9", 0.5, 222, id="99 is nearer than 900"),
        pytest.param(99, 0, "1", 0.5, 99.5, id="one digit more"),
        pytest.param(100, 0, "9", 0.5, 99.5, id="one digit less"),
        pytest.param(999, 0, "1", 0.5, 999.5, id="up to 1000"),
        pytest.param(20, 1, "end", 0.5, 11, id="ends too early"),
    ],
)
def test_carries(number: int, place: int, wrong: str, share: float, expected: float) -> None:
    chances: dict[tuple[str, ...], dict[str, float]] = {}
    right = [*str(number), "end"]
    for before in completions(SPELLING):
        symbols, may_end = SPELLING.following(before)
        options = [*symbols, *(["end"] if may_end else [])]
        goal = right[len(before)] if before == tuple(right[: len(before)]) else options[0]
        chances[before] = {option: float(option == goal) for option in options}
        if len(before) == place and before == tuple(right[:place]):
            chances[before] |= {goal: 1 - share, wrong: share}
    assert expected_first(chances, number) == pytest.approx(expected, abs=1e-3)


def test_a_sure_model_is_exactly_right_at_every_box() -> None:
    boxes = [(0, 5, 10, 1000), (199, 200, 999, 201)]
    table, tokenizer, tokens = table_of(*boxes)
    logits = torch.full((len(tokens), len(tokenizer.ids)), -50.0)
    for row, token in enumerate(tokens):
        logits[row, tokenizer.ids[token]] = 50.0
    shares = expected_shares(logits, table).view(-1, 4)
    assert torch.equal(shares, torch.tensor(boxes) / 1000)
    assert smooth_l1(shares, table.share.view(-1, 4)).tolist() == [0.0, 0.0]
    assert giou_loss(shares, table.share.view(-1, 4)).tolist() == pytest.approx([0.0, 0.0], abs=1e-6)


def test_only_the_options_of_a_decision_have_gradients() -> None:
    table, tokenizer, tokens = table_of((12, 345, 999, 1000))
    logits = torch.randn(len(tokens), len(tokenizer.ids) + 3, requires_grad=True)
    expected_shares(logits, table).sum().backward()
    assert logits.grad is not None
    reached = {(row, token) for row, token in logits.grad.nonzero().tolist()}
    options = {(int(table.at[n, p]), int(table.tokens[n, p, o])) for n, p, o in table.real.nonzero().tolist()}
    assert reached
    assert reached <= options


def test_a_later_digit_counts_only_as_far_as_it_is_reached() -> None:
    table, tokenizer, tokens = table_of((345, 0, 999, 1000))
    grads = []
    for doubt in (0.0, 5.0):
        logits = torch.zeros(len(tokens), len(tokenizer.ids), dtype=torch.float64)
        logits[table.at[0, 0], tokenizer.ids["8"]] = doubt
        logits.requires_grad_()
        expected_shares(logits, table)[0].backward()
        assert logits.grad is not None
        grads.append(logits.grad[table.at[0, 2]].abs().sum())
    assert grads[1] < 0.1 * grads[0]


def double(table: NumberTable) -> NumberTable:
    return replace(table, shares=table.shares.double(), share=table.share.double(), labels=table.labels.double())


def test_gradients_are_those_of_finite_differences() -> None:
    table, tokenizer, tokens = table_of((19, 345, 200, 1000), (5, 6, 70, 80), spread=0.002)
    torch.manual_seed(0)
    logits = torch.randn(len(tokens), len(tokenizer.ids), dtype=torch.float64, requires_grad=True)
    exact = double(table)
    truth = exact.share.view(-1, 4)
    rows = torch.unique(table.at)

    def with_rows(part: torch.Tensor) -> torch.Tensor:
        return logits.detach().index_copy(0, rows, part)

    part = logits.detach()[rows].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: expected_shares(with_rows(x), exact), (part,))
    assert torch.autograd.gradcheck(lambda x: smooth_l1(expected_shares(with_rows(x), exact).view(-1, 4), truth), part)
    assert torch.autograd.gradcheck(lambda x: giou_loss(expected_shares(with_rows(x), exact).view(-1, 4), truth), part)
    none = torch.zeros(len(tokens), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: with_soft_labels(none, with_rows(x), exact), (part,))


def test_smooth_l1_by_hand() -> None:
    truth = torch.tensor([[0.2, 0.2, 0.6, 0.6]])
    moved = truth + torch.tensor([[0.01, -0.1, 0.0, 0.5]])
    by_hand = [0.01**2 / (2 * SMOOTH_BETA), 0.1 - SMOOTH_BETA / 2, 0.0, 0.5 - SMOOTH_BETA / 2]
    assert smooth_l1(moved, truth).item() == pytest.approx(sum(by_hand) / 4, rel=1e-5)


shares_of_boxes = st.tuples(*[st.floats(0, 1) for _ in range(4)])


@given(first=shares_of_boxes, second=shares_of_boxes)
def test_giou_is_that_of_the_core(first: tuple[float, ...], second: tuple[float, ...]) -> None:
    def ordered(four: tuple[float, ...]) -> tuple[float, float, float, float]:
        x1, y1, x2, y2 = four
        return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)

    mine, truth = ordered(first), ordered(second)
    if min(mine[2] - mine[0], mine[3] - mine[1], truth[2] - truth[0], truth[3] - truth[1]) < 1e-3:
        return
    loss = giou_loss(torch.tensor([first], dtype=torch.float64), torch.tensor([truth], dtype=torch.float64))
    assert loss.item() == pytest.approx(1 - giou(Box(*mine), Box(*truth)), abs=1e-9)


def test_a_box_without_area_has_a_finite_loss_and_gradient() -> None:
    flat = torch.tensor([[0.5, 0.5, 0.5, 0.5]], requires_grad=True)
    loss = giou_loss(flat, torch.tensor([[0.1, 0.1, 0.2, 0.2]])).sum()
    loss.backward()
    assert flat.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(flat.grad).all()


def batch_of(table: NumberTable, tokens: list[str], tokenizer: Letters, *, soft: bool = False) -> Any:
    ids = torch.tensor([tokenizer.ids[token] for token in tokens])
    ones, owner = torch.ones(len(ids)), torch.zeros(len(ids), dtype=torch.long)
    return SimpleNamespace(target_ids=ids, token_weights=ones, owner=owner, numbers=table, soft_labels=soft)


def test_the_total_is_the_weighted_sum_of_the_terms() -> None:
    table, tokenizer, tokens = table_of((19, 345, 200, 1000))
    logits = torch.randn(len(tokens), len(tokenizer.ids), generator=torch.Generator().manual_seed(1))
    batch = batch_of(table, tokens, tokenizer)
    parts = answer_loss(logits, batch, LossWeights(smooth_l1=5.0, giou=2.0))
    terms = parts.values()
    assert set(terms) == {"tokens", "smooth_l1", "giou"}
    assert parts.total.item() == pytest.approx(terms["tokens"] + 5 * terms["smooth_l1"] + 2 * terms["giou"], rel=1e-5)
    alone = answer_loss(logits, batch)
    assert set(alone.terms) == {"tokens"}
    assert alone.total.item() == pytest.approx(terms["tokens"])
    assert min(terms.values()) > 0.01


def test_soft_labels_are_kullback_leibler_over_the_whole_vocabulary() -> None:
    table, tokenizer, tokens = table_of((199, 345, 999, 1000), spread=0.003)
    logits = torch.randn(len(tokens), len(tokenizer.ids), generator=torch.Generator().manual_seed(1))
    ids = torch.tensor([tokenizer.ids[token] for token in tokens])
    hard = torch.nn.functional.cross_entropy(logits, ids, reduction="none")
    soft = with_soft_labels(hard, logits, table)
    decided = {int(row) for row in table.at[table.real.any(-1)]}
    for row in range(len(tokens)):
        if row not in decided:
            assert soft[row] == hard[row]
    for n, p in table.real.any(-1).nonzero().tolist():
        labels = torch.zeros(len(tokenizer.ids)).index_add(0, table.tokens[n, p], table.labels[n, p])
        expected = torch.nn.functional.kl_div(logits[table.at[n, p]].log_softmax(0), labels, reduction="sum")
        assert soft[table.at[n, p]].item() == pytest.approx(expected.item(), abs=1e-5)


def test_one_hot_labels_are_plain_cross_entropy() -> None:
    table, tokenizer, tokens = table_of((199, 345, 999, 1000))
    logits = torch.randn(len(tokens), len(tokenizer.ids), generator=torch.Generator().manual_seed(1))
    hard = answer_loss(logits, batch_of(table, tokens, tokenizer))
    soft = answer_loss(logits, batch_of(table, tokens, tokenizer, soft=True))
    torch.testing.assert_close(hard.total, soft.total)
