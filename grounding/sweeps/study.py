"""The study of a sweep: which values were tried and how they did, in an SQLite file of Optuna's beside the sweep.

The only module that knows Optuna. Values are drawn by TPE (Bergstra et al., NeurIPS 2011) and runs pruned by the median
rule (Golovin et al., KDD 2017), as Optuna 5 has them.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import sqlite3
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from grounding.database import BUSY_SECONDS, log_ahead
from grounding.errors import StoreError
from grounding.sweeps.settings import SweepSettings
from grounding.sweeps.space import Choices, Space, Value

FILE = "study.db"
NEVER_PRUNED = 2
"""So many runs must have finished before one is pruned."""
UNPRUNED_SHARE = 0.25
"""No run is pruned in this share of its steps."""
_DRAWS = 40
_MOST_LISTED = 10_000
_OUTCOME, _PRUNED_AT = "outcome", "pruned_at"
_STATES = {"done": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "stopped": TrialState.PRUNED}


@dataclass(frozen=True)
class Trial:
    """One way of setting the run: its number from 0, and the searched values. `outcome` is what is known of a run that
    has ended (empty before), `pruned_at` the step after which it was pruned."""

    number: int
    values: Mapping[str, Value]
    outcome: Mapping[str, Any]
    pruned_at: int | None

    @property
    def finished(self) -> bool:
        return bool(self.outcome)


class Study:
    """What one may do with the study of a sweep. Use it as a context: it holds a connection."""

    def __init__(self, folder: Path, settings: SweepSettings, *, create: bool = False) -> None:
        self.path = folder / FILE
        self.settings = settings
        if not create and not self.path.is_file():
            raise StoreError(f"The study of the sweep is gone: {self.path}. Stop this sweep and start another.")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with self._told():
            self._storage = optuna.storages.RDBStorage(
                f"sqlite:///{self.path}", engine_kwargs={"creator": self._connect}, skip_table_creation=not create
            )
            if create:
                optuna.create_study(study_name=settings.name, storage=self._storage, direction="maximize")
            pruner = optuna.pruners.MedianPruner(
                n_startup_trials=NEVER_PRUNED, n_warmup_steps=int(UNPRUNED_SHARE * settings.base.steps)
            )
            self._study = optuna.load_study(study_name=settings.name, storage=self._storage, pruner=pruner)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, check_same_thread=False)
        # Readers and the one writer don't wait for each other. What a power cut takes is chosen or scored anew.
        log_ahead(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def __enter__(self) -> Study:
        return self

    def __exit__(self, *unused: object) -> None:
        self._storage.remove_session()
        self._storage.engine.dispose()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong in Optuna or below it, as a sentence."""
        try:
            yield
        except (optuna.exceptions.OptunaError, SQLAlchemyError, sqlite3.Error, OSError, KeyError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise StoreError(f"The study {self.path} can't be used ({first}).") from error

    def trials(self) -> list[Trial]:
        """All of them, by number."""
        with self._told():
            return [self._plain(trial) for trial in self._study.get_trials(deepcopy=False)]

    def propose(self) -> Trial:
        """Choose the values of the next run and write them down: the settings as they stand first, where they lie
        within what is searched, then what TPE expects most of; never what was tried already."""
        with self._told():
            known = self._study.get_trials(deepcopy=False)
            values = self._draw(known)
            distributions = {name: _distribution(space) for name, space in self.settings.search.items()}
            self._study.add_trial(create_trial(state=TrialState.RUNNING, params=values, distributions=distributions))
            return self._plain(self._study.get_trials(deepcopy=False)[len(known)])

    def _known(self, number: int) -> FrozenTrial:
        trials = self._study.get_trials(deepcopy=False)
        if not 0 <= number < len(trials):
            raise StoreError(
                f"The study {self.path} knows nothing of run {number + 1} (it has {len(trials)} in all): it is another "
                "one than that run began with. Stop this sweep and start another."
            )
        return trials[number]

    def report(self, number: int, step: int, mean_iou: float) -> float | None:
        """Write down a scoring (step, mean IoU on validation from 0.0 to 1.0). Returns the median of the finished runs
        at this step when the run falls behind it and is to be ended, else None. Raises `StoreError` for a run that the
        study does not know."""
        with self._told():
            self._storage.set_trial_intermediate_value(self._known(number)._trial_id, step, mean_iou)
            trial = self._known(number)
            if not self.settings.prune or not self._study.pruner.prune(self._study, trial):
                return None
            finished = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            return statistics.median(t.intermediate_values[step] for t in finished if step in t.intermediate_values)

    def mark_pruned(self, number: int, step: int) -> None:
        """Write down that the run is ended after this step, before it ends."""
        with self._told():
            self._storage.set_trial_user_attr(self._known(number)._trial_id, _PRUNED_AT, step)

    def finish(self, number: int, outcome: Mapping[str, Any]) -> None:
        """Close a trial. `outcome` has "state" (done, pruned, stopped, failed or discarded), "mean_iou" for one that is
        done, and what else is worth keeping, as plain JSON. A second time nothing happens."""
        with self._told():
            trial = self._known(number)
            if trial.state.is_finished():
                return
            self._storage.set_trial_user_attr(trial._trial_id, _OUTCOME, dict(outcome))
            state = _STATES.get(outcome["state"], TrialState.FAIL)
            value = outcome["mean_iou"] if state is TrialState.COMPLETE else None
            self._study.tell(number, value, state=state, skip_if_finished=True)

    def _plain(self, trial: FrozenTrial) -> Trial:
        outcome = trial.user_attrs.get(_OUTCOME, {}) if trial.state.is_finished() else {}
        return Trial(trial.number, trial.params, outcome, trial.user_attrs.get(_PRUNED_AT))

    def _draw(self, known: Sequence[FrozenTrial]) -> dict[str, Value]:
        search, own = self.settings.search, self.settings.own_values
        if not known and own is not None:
            return own
        tried = [trial.params for trial in known]
        distributions = {name: _distribution(space) for name, space in search.items()}
        drawn: dict[str, Value] = {}
        for attempt in range(_DRAWS):
            # In memory: a draw that was tried before leaves no trace. Every process draws the same, whoever drives.
            sampler = optuna.samplers.TPESampler(
                seed=self._seed(len(known), attempt), n_startup_trials=max(3, min(10, self.settings.runs // 3))
            )
            memory = optuna.create_study(direction="maximize", sampler=sampler)
            memory.add_trials(known)
            drawn = memory.ask(distributions).params
            if drawn not in tried:
                return drawn
        return self._untried(tried, self._seed(len(known), _DRAWS)) or drawn

    def _untried(self, tried: Sequence[Mapping[str, Value]], seed: int) -> dict[str, Value] | None:
        """Any combination that was not tried, where they can be listed."""
        search = self.settings.search
        if self.settings.combinations > _MOST_LISTED:
            return None
        ways = [space.values if isinstance(space, Choices) else _whole(space) for space in search.values()]
        left = [way for each in itertools.product(*ways) if (way := dict(zip(search, each, strict=True))) not in tried]
        return random.Random(seed).choice(left) if left else None

    def _seed(self, *numbers: int) -> int:
        text = " ".join(map(str, (self.settings.seed, *numbers)))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])


def _distribution(space: Space) -> BaseDistribution:
    if isinstance(space, Choices):
        return CategoricalDistribution(space.values)
    if space.whole:
        return IntDistribution(int(space.low), int(space.high), log=space.log)
    return FloatDistribution(space.low, space.high, log=space.log)


def _whole(space: Any) -> Sequence[Value]:
    return range(int(space.low), int(space.high) + 1)
