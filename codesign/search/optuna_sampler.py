"""NSGA-II, TPE and random search through Optuna, asked and told in memory; the trial log is the only record."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

import numpy as np
import optuna

from codesign.search.knowledge import BATCH, Idea, Knowledge
from codesign.search.space import Choice, SearchLayer, Space, widths
from codesign.search.trial import Origin

# Population of NSGA-II: Optuna's default of 50, but no more than an eighth of the budget, so that generations follow one
# another. Below 8 there is little left to cross.
MOST_POPULATION, LEAST_POPULATION, GENERATIONS = 50, 8, 8


def population_of(trainings: float) -> int:
    """Size of a generation in a budget of so many trainings."""
    return int(min(max(trainings / GENERATIONS, LEAST_POPULATION), MOST_POPULATION))


class Sampler(StrEnum):
    """Which of Optuna's samplers."""

    NSGA2 = "nsga2"
    TPE = "tpe"
    RANDOM = "random"


_Told = tuple[Choice, float, float]  # a design, its latency in seconds and its error


class OptunaSampler:
    """Ideas of an Optuna sampler that is told every known design, in order, before it is asked.

    The study is only a cache of what it was told: it starts over when a longer training has corrected some of it, or the
    size of a generation has changed. Each batch has a sampler of its own seed. So a search that is taken up again goes on
    as it would have without the interruption.
    """

    def __init__(self, space: Space, sampler: Sampler) -> None:
        self._space = space
        self._kind = sampler
        self._parts = [_parts_of(layer) for layer in space.layers]
        self._distributions = self._distributions_of()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._population = 0
        self._told: list[_Told] = []
        self._study: optuna.Study

    def ideas(self, knowledge: Knowledge, rng: np.random.Generator) -> list[Idea]:
        """The next designs. One that was tried already is not tried again; the sampler is then asked once more."""
        wanted = [(k.choice, k.measured.latency_s, 1.0 - k.measured.accuracy) for k in knowledge.known]
        population = population_of(knowledge.total)
        if population != self._population or self._told != wanted[: len(self._told)]:
            self._population, self._told = population, []
            self._study = optuna.create_study(directions=["minimize", "minimize"], sampler=self._sampler(0))
        for told in wanted[len(self._told) :]:
            self._tell(told)
        self._study.sampler = self._sampler(int(rng.integers(2**31)))
        asked: list[optuna.Trial] = []
        found: dict[Choice, None] = {}
        while len(found) < BATCH and len(asked) < 10 * BATCH:
            asked.append(self._study.ask(self._distributions))
            choice = self._choice(asked[-1].params)
            if choice not in knowledge.tried:
                found[choice] = None
        for trial in asked:  # what was asked is forgotten; what gets measured is told with its result
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return [Idea(point=self._space.point(choice), origin=Origin.EXPLORE) for choice in found]

    def _tell(self, told: _Told) -> None:
        self._told.append(told)
        choice, *values = told
        params = self._params(choice)
        match self._kind:
            case Sampler.NSGA2:  # counts only what it was asked for, and gives it a generation
                self._study.enqueue_trial(params)
                trial = self._study.ask(self._distributions)
                _ = trial.relative_params  # computed on demand, and with it the generation
                self._study.tell(trial, values)
            case Sampler.TPE | Sampler.RANDOM:
                self._study.add_trial(
                    optuna.trial.create_trial(params=params, distributions=self._distributions, values=values)
                )
            case _:
                assert_never(self._kind)

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        match self._kind:
            case Sampler.NSGA2:
                return optuna.samplers.NSGAIISampler(population_size=self._population, seed=seed)
            case Sampler.TPE:
                return optuna.samplers.TPESampler(seed=seed)
            case Sampler.RANDOM:
                return optuna.samplers.RandomSampler(seed=seed)
            case _:
                assert_never(self._kind)

    def _distributions_of(self) -> dict[str, optuna.distributions.BaseDistribution]:
        sizes = {f"{g.name}.level": len(g.levels) for g in self._space.groups}
        for layer, parts in zip(self._space.layers, self._parts, strict=True):
            sizes |= {f"{layer.name}.format{i}": size for i, size in enumerate(parts.sizes)}
        return {name: optuna.distributions.IntDistribution(0, size - 1) for name, size in sizes.items()}

    def _params(self, choice: Choice) -> dict[str, int]:
        groups = len(self._space.groups)
        params = {f"{g.name}.level": level for g, level in zip(self._space.groups, choice, strict=False)}
        for layer, parts, option in zip(self._space.layers, self._parts, choice[groups:], strict=True):
            params |= {f"{layer.name}.format{i}": v for i, v in enumerate(parts.of_option[option])}
        return params

    def _choice(self, params: dict[str, int]) -> Choice:
        levels = [params[f"{g.name}.level"] for g in self._space.groups]
        picked = [
            parts.of_option.index(tuple(params[f"{layer.name}.format{i}"] for i in range(len(parts.sizes))))
            for layer, parts in zip(self._space.layers, self._parts, strict=True)
        ]
        return (*levels, *picked)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """A layer's options as a grid of independent parts, so that a sampler sees what bits they share."""

    sizes: tuple[int, ...]
    of_option: tuple[tuple[int, ...], ...]


def _parts_of(layer: SearchLayer) -> _Parts:
    """Exponent and mantissa bits of each role where the options are all combinations of them, else their number."""
    bits = [[n for pair in row for n in pair] for row in widths(list(layer.formats.values()))]
    columns = [sorted(set(column), reverse=True) for column in zip(*bits, strict=True)]
    varied = [i for i, column in enumerate(columns) if len(column) > 1]
    sizes = tuple(len(columns[i]) for i in varied)
    rows = tuple(tuple(columns[i].index(row[i]) for i in varied) for row in bits)
    if varied and len(set(rows)) == len(rows) == np.prod(sizes):
        return _Parts(sizes=sizes, of_option=rows)
    return _Parts(sizes=(len(rows),), of_option=tuple((i,) for i in range(len(rows))))
