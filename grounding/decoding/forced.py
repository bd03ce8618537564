"""Answers whose fixed characters are fed, not generated: every answer parses, a box takes about a dozen steps."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from grounding.decoding.expected import NumberSpread, Share
from grounding.decoding.lora import LoraWeights
from grounding.decoding.skeleton import Choice, Cursor, Skeleton
from grounding.decoding.text_model import KeyValues, RowAdapters, TextModel
from grounding.errors import ModelError

NO_NUMBERS = (
    "The model computes no finite numbers here: its weights or those of the adapter are damaged, or too large for its "
    "number type. Take another adapter, or restore the model's folder."
)
_ROOM = 48  # columns for an answer, to begin with


@dataclass(frozen=True)
class Prefix:
    """The beginning that all phrases of a picture share: chat markup and the picture.

    `ids` holds an image token wherever `visual` [visual_tokens, hidden] goes, and `deepstack` adds to the first
    layers there. `positions` [axes, tokens]. Prefixes are told apart by identity.
    """

    ids: tuple[int, ...]
    positions: torch.Tensor
    visual_places: tuple[int, ...]
    visual: torch.Tensor
    deepstack: tuple[torch.Tensor, ...] = ()


@dataclass(frozen=True)
class Prompt:
    """One question: a shared prefix, its own tokens after it, how it may be answered, and by which adapter (an index
    into those of the call, -1 for the base). `draw` tells samples of the same question apart."""

    prefix: Prefix
    suffix: tuple[int, ...]
    skeleton: Skeleton
    adapter: int = -1
    draw: int = 0


@dataclass(frozen=True)
class Sampling:
    """How decisions are taken. `temperature` 0 takes the likeliest. `expected` also follows the runners-up of each
    number and returns the expected value around the likeliest; `shares` follows them too and returns each number's
    distribution."""

    temperature: float = 0.0
    seed: int = 0
    expected: bool = False
    max_boxes: int = 16
    shares: bool = False


@dataclass(frozen=True)
class Decision:
    """One choice of the model and its log probability among the options."""

    box: int
    choice: Choice
    log_probability: float


@dataclass(frozen=True)
class ForcedAnswer:
    """`tokens` of the whole answer with its end, `values` four numbers a box, `expected` the same as expected values
    (empty unless asked for), `decisions` in order, `shares` four distributions a box (empty unless asked for): each of
    a number after those that were written before it."""

    tokens: tuple[int, ...]
    values: tuple[tuple[float, ...], ...]
    expected: tuple[tuple[float, ...], ...]
    decisions: tuple[Decision, ...]
    shares: tuple[tuple[tuple[Share, ...], ...], ...] = ()


@torch.inference_mode()
def decode(
    model: TextModel,
    prompts: Sequence[Prompt],
    adapters: Sequence[LoraWeights] = (),
    how: Sampling | None = None,
    should_stop: Callable[[], None] | None = None,
) -> list[ForcedAnswer]:
    """One answer a prompt, in order. `should_stop` is called before every step and raises to end the work.

    Raises `ModelError` where the model computes no finite numbers: there is nothing to decide by.
    """
    how = how or Sampling()
    rows = [_Row(prompt, Cursor(prompt.skeleton, how.max_boxes), how) for prompt in prompts]
    skeletons = {id(prompt.skeleton): prompt.skeleton for prompt in prompts}.values()
    tokens = sorted({token for skeleton in skeletons for token in skeleton.tokens()})
    scorer = _Scorer(model, tokens, how)
    batch, hidden = _begin(model, rows, adapters)
    active = rows
    while True:
        scorer.decide(active, hidden)
        batch.forget([row.wrong_columns() for row in active])
        going = [place for place, row in enumerate(active) if not row.cursor.done]
        if not going:
            return [row.answer() for row in rows]
        if should_stop is not None:
            should_stop()
        if len(going) <= len(active) // 2:
            batch = batch.pick(going)
            active = [active[place] for place in going]
        hidden = batch.feed(model, [row.chunk(batch.cache.length) for row in active])


@dataclass
class _Row:
    """One answer on its way. `guess` are tokens fed before their decision was taken: most answers hold a box."""

    prompt: Prompt
    cursor: Cursor
    how: Sampling
    pending: list[int] = field(default_factory=list)
    guess: list[int] = field(default_factory=list)
    guess_column: int = 0
    position: int = 0
    decisions: list[Decision] = field(default_factory=list)
    expected: list[float] = field(default_factory=list)
    shares: list[tuple[Share, ...]] = field(default_factory=list)
    spread: NumberSpread | None = None

    def begin(self) -> None:
        """Line up everything up to the first digit."""
        self.position = int(self.prompt.prefix.positions.max()) + 1
        self.pending = [*self.prompt.suffix, *self.cursor.forced()]
        self.guess = self.cursor.box_ahead()

    def chunk(self, begin: int) -> _Chunk:
        """What this row feeds next, nothing once it is done; `begin` is the column it starts at."""
        if self.cursor.done:
            return _Chunk([], [])
        ids = [*self.pending, *self.guess]
        chunk = _Chunk(ids, list(range(self.position, self.position + len(ids))), len(self.guess))
        self.guess_column = begin + len(self.pending)
        self.position += len(ids)
        self.pending = []
        if self.spread is not None:
            self.spread.feed(chunk, begin)
        return chunk

    def take(self, token: int, choice: Choice, log_probability: float) -> None:
        box = len(self.cursor.numbers) // 4
        self.decisions.append(Decision(box, choice, log_probability))
        self.cursor.take(token)
        self.pending = [token, *self.cursor.forced()]
        if self.pending == self.guess:
            self.pending, self.guess = [], []

    def wrong_columns(self) -> slice | None:
        """The columns of a guess that did not come true; they must not be seen again."""
        if not self.guess:
            return None
        columns = slice(self.guess_column, self.guess_column + len(self.guess))
        self.position -= len(self.guess)
        self.guess = []
        return columns

    def answer(self) -> ForcedAnswer:
        values = tuple(tuple(numbers) for numbers in self.cursor.values())
        boxes = range(0, 4 * len(values), 4)
        expected = tuple(tuple(self.expected[i : i + 4]) for i in boxes) if self.how.expected else ()
        shares = tuple(tuple(self.shares[i : i + 4]) for i in boxes) if self.how.shares else ()
        return ForcedAnswer(tuple(self.cursor.tokens), values, expected, tuple(self.decisions), shares)

    @property
    def follows_numbers(self) -> bool:
        """Whether the runners-up of each number are fed beside it."""
        return self.how.expected or self.how.shares

    def close_number(self) -> None:
        """Keep what is known of the number just finished; where its first symbol also decided that there is a box, its
        own value is all that is known."""
        written = self.cursor.numbers[-1]
        if self.spread is not None:
            self.expected.append(self.spread.expected(written))
            self.shares.append(self.spread.shares(written))
        else:
            value = self.prompt.skeleton.spellings[(len(self.cursor.numbers) - 1) % 4].value(written)
            self.expected.append(value)
            self.shares.append((Share(value, value, 1.0),))
        self.spread = None


@dataclass
class _Chunk:
    """New columns of a row: the answer's own tokens first, then runners-up, each as (token, position, the column
    before which it sees what the row sees, further columns that it sees)."""

    ids: list[int]
    positions: list[int]
    guessed: int = 0  # of the last own tokens
    runners_up: list[tuple[int, int, int, list[int]]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.ids) + len(self.runners_up)

    @property
    def scored(self) -> list[int]:
        """Where decisions are taken: before a guess, at the last own token, at every runner-up."""
        if not self.ids:
            return []
        last = len(self.ids) - 1
        return [*([last - self.guessed] if self.guessed else []), *range(last, self.size)]


class _Batch:
    """The rows in the cache."""

    def __init__(self, cache: KeyValues, axes: int, adapters: RowAdapters | None) -> None:
        self.cache = cache
        self.axes = axes
        self.adapters = adapters

    def pick(self, places: Sequence[int]) -> _Batch:
        room = self.cache.length + _ROOM
        return _Batch(self.cache.pick(places, room), self.axes, self.adapters and self.adapters.pick(places))

    def feed(self, model: TextModel, chunks: Sequence[_Chunk]) -> list[torch.Tensor]:
        """Per row: hidden states of the tokens where decisions are taken, [scored, hidden]."""
        width, begin = max(chunk.size for chunk in chunks), self.cache.length
        self.cache.reserve(width)
        ids = torch.zeros(len(chunks), width, dtype=torch.long)
        positions = torch.zeros(len(chunks), width, dtype=torch.long)
        inside = torch.zeros(len(chunks), width, width, dtype=torch.bool)
        real = torch.zeros(len(chunks), width, dtype=torch.bool)
        tril = torch.ones(width, width, dtype=torch.bool).tril()
        for row, chunk in enumerate(chunks):
            own = len(chunk.ids)
            ids[row, :own] = torch.tensor(chunk.ids)
            positions[row, :own] = torch.tensor(chunk.positions)
            inside[row, :, :own] = tril[:, :own]
            real[row, :own] = True
        visible = self.cache.visible[:, None, :begin].expand(-1, width, -1)
        mask = torch.cat([visible, inside.to(visible.device)], dim=2)
        for row, chunk in enumerate(chunks):
            for at, (token, position, sees_before, also) in enumerate(chunk.runners_up, start=len(chunk.ids)):
                ids[row, at], positions[row, at] = token, position
                mask[row, at, sees_before:] = False
                mask[row, at, [*also, begin + at]] = True
        device = self.cache.keys.device
        filled = real.clone()
        for row, chunk in enumerate(chunks):
            filled[row, len(chunk.ids) : chunk.size] = True
        where = positions.to(device).expand(self.axes, -1, -1)
        embeddings = model.embeddings(ids.to(device), self.adapters)
        hidden = model.extend(embeddings, where, mask, self.cache, self.adapters, real=filled.to(device))
        self.cache.visible[:, begin : begin + width] = real.to(device)
        return [hidden[row, chunk.scored] for row, chunk in enumerate(chunks)]

    def forget(self, columns_of_rows: Sequence[slice | None]) -> None:
        """Make these columns invisible."""
        for row, columns in enumerate(columns_of_rows):
            if columns is not None:
                self.cache.visible[row, columns] = False


def _begin(
    model: TextModel, rows: Sequence[_Row], adapters: Sequence[LoraWeights]
) -> tuple[_Batch, list[torch.Tensor]]:
    """The cache with every row's prompt in it, and the states of its first decisions.

    A prefix is computed once for all rows of one adapter; where no two rows share one, the rest of the prompt goes
    along in the same pass.
    """
    for row in rows:
        row.begin()
    keys = [(id(row.prompt.prefix), row.prompt.adapter) for row in rows]
    groups = dict(zip(keys, rows, strict=True))
    prefixes = [row.prompt.prefix for row in groups.values()]
    row_adapters = model.adapters(adapters, [row.prompt.adapter for row in groups.values()])
    axes = len(prefixes[0].positions)
    if len(groups) == len(rows):
        chunks = [row.chunk(len(prefix.ids)) for row, prefix in zip(rows, prefixes, strict=True)]
        cache, hidden = _prefill(model, prefixes, chunks, row_adapters)
        states = [
            hidden[place, [len(prefix.ids) + at for at in chunk.scored]]
            for place, (prefix, chunk) in enumerate(zip(prefixes, chunks, strict=True))
        ]
        return _Batch(cache, axes, row_adapters), states
    cache, _ = _prefill(model, prefixes, [_Chunk([], [])] * len(prefixes), row_adapters)
    order = list(groups)
    places = [order.index(key) for key in keys]
    room = cache.length + max(len(row.pending) + len(row.guess) for row in rows) + _ROOM
    batch = _Batch(cache.pick(places, room), axes, row_adapters and row_adapters.pick(places))
    return batch, batch.feed(model, [row.chunk(batch.cache.length) for row in rows])


def _prefill(
    model: TextModel, prefixes: Sequence[Prefix], chunks: Sequence[_Chunk], adapters: RowAdapters | None
) -> tuple[KeyValues, torch.Tensor]:
    """A fresh cache with each prefix and the chunk after it; also the hidden states [rows, columns, hidden]."""
    sizes = [len(prefix.ids) + len(chunk.ids) for prefix, chunk in zip(prefixes, chunks, strict=True)]
    count, width = len(prefixes), max(sizes)
    axes = len(prefixes[0].positions)
    ids = torch.zeros(count, width, dtype=torch.long)
    positions = torch.zeros(axes, count, width, dtype=torch.long)
    real = torch.zeros(count, width, dtype=torch.bool)
    places: list[int] = []
    for row, (prefix, chunk, size) in enumerate(zip(prefixes, chunks, sizes, strict=True)):
        begin = len(prefix.ids)
        ids[row, :size] = torch.tensor([*prefix.ids, *chunk.ids])
        positions[:, row, :begin] = prefix.positions.cpu()
        positions[:, row, begin:size] = torch.tensor(chunk.positions, dtype=torch.long)
        real[row, :size] = True
        places += [row * width + place for place in prefix.visual_places]
    device = model.device
    flat_places, real = torch.tensor(places, device=device), real.to(device)
    embeddings = model.embeddings(ids.to(device), adapters)
    visual = torch.cat([prefix.visual for prefix in prefixes]).to(device, embeddings.dtype)
    embeddings = embeddings.flatten(0, 1).index_copy(0, flat_places, visual).view_as(embeddings)
    levels = [
        torch.cat([prefix.deepstack[level] for prefix in prefixes]).to(device, embeddings.dtype)
        for level in range(len(prefixes[0].deepstack))
    ]
    mask = torch.ones(width, width, dtype=torch.bool, device=device).tril() & real[:, None, :]
    cache = model.new_cache(count, width + _ROOM)
    deepstack = (flat_places, levels) if levels else None
    hidden = model.extend(embeddings, positions.to(device), mask, cache, adapters, deepstack, real)
    cache.visible[:, :width] = real
    return cache, hidden


class _Scorer:
    """Turns hidden states into decisions."""

    def __init__(self, model: TextModel, tokens: Sequence[int], how: Sampling) -> None:
        self.model = model
        self.head = model.head_of(tokens)
        self.column = {token: column for column, token in enumerate(tokens)}
        self.how = how
        self._random: dict[int, torch.Generator] = {}  # one a row: what is drawn must not depend on the batch

    def decide(self, rows: Sequence[_Row], hidden: Sequence[torch.Tensor]) -> None:
        """Each row takes its next token, the fixed ones after it included."""
        logits = self.model.logits(torch.cat(list(hidden)), self.head).cpu()  # [rows and runners-up, tokens]
        if not logits.isfinite().all():
            raise ModelError(NO_NUMBERS)
        begin = 0
        for row, states in zip(rows, hidden, strict=True):
            mine = logits[begin : begin + len(states)]
            begin += len(states)
            if row.guess:
                self._decide_row(row, mine[:1])
                mine = mine[1:]
            if not row.guess and not row.cursor.done:
                self._decide_row(row, mine)

    def _decide_row(self, row: _Row, logits: torch.Tensor) -> None:
        choice = row.cursor.choice()
        columns = [self.column[token] for token in choice.options]
        log_probabilities = logits[0, columns].log_softmax(0)
        if self.how.temperature > 0:
            scaled = (logits[0, columns] / self.how.temperature).softmax(0)
            best = int(torch.multinomial(scaled, 1, generator=self._generator(row)))
        else:
            best = int(log_probabilities.argmax())
        if row.follows_numbers and choice.number >= 0:
            if row.spread is None and choice.place == 0:
                row.spread = NumberSpread(row.prompt.skeleton, choice.number)
            if row.spread is not None:
                row.spread.expand(choice.options, log_probabilities, logits[1:], self.column, choice.options[best])
        before = len(row.cursor.numbers)
        row.take(choice.options[best], choice, float(log_probabilities[best]))
        if row.follows_numbers and len(row.cursor.numbers) > before:
            row.close_number()

    def _generator(self, row: _Row) -> torch.Generator:
        if id(row) not in self._random:
            question = zlib.crc32(repr((row.prompt.suffix, row.prompt.draw)).encode())
            self._random[id(row)] = torch.Generator().manual_seed(self.how.seed ^ question)
        return self._random[id(row)]
