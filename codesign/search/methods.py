"""The methods of a search, and what a method promises.

A method is a function `propose(knowledge, rng) -> list[Idea]`.

When it is called. After the baselines and the uniform policies, once for each batch, with everything that was measured
up to then: never while training runs of an earlier batch are still out. `knowledge.known` holds at least one design. On
a ladder it is called when no short training run is left to go on with. It may be called with trials that another
process made, and with other trials than at its last call plus ten: a run that is resumed begins with all of its record.

What it returns. Up to `BATCH` designs of the space, best first (the last ones go when the budget ends), none of them in
`knowledge.tried` and none twice; an empty list if it has no more, which ends the search. `origin` is `Origin.FRONT` for
what a fitted surrogate expects to be on the front, with its `predicted_accuracy`, and `Origin.EXPLORE` for the rest.

What it may depend on. On its two arguments alone. `rng` is fresh for each batch, a function of the seed of the search
and the number of the batch. So the same trials follow whatever the number of workers, and a run that was killed ends
in the same lines as one that was not. Not on the order in which results came, the time, or the process.

What it may keep between calls. Only what it could work out again from `knowledge`: a cache, which is to be compared
with `knowledge` before it is used, because a longer training run corrects what a shorter one said.

What it need not care about. Seeds, ladders, budgets, failed training runs, repeats of finalists, the record: see
`scheduler`. Limits count for `best` whatever the method; a method that leaves out designs above them spends less.

A new method is a file with such a function, a member of `Method` with its case in the two functions below (mypy names
the one that is missing), and its name in `codesign search --method` (a test compares). `docs/extending/search_method.md`
has an example of fifteen lines.
"""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never

from codesign.search.dp.agreement import Agreement, agreement_of
from codesign.search.dp.hybrid import Hybrid
from codesign.search.dp.notes import notes_on_surrogate
from codesign.search.dp.problem import Problem
from codesign.search.knowledge import Knowledge, Propose


class Method(StrEnum):
    """How designs are proposed."""

    DP = "dp"  # a surrogate of the error, the exact front of which is trained
    NSGA2 = "nsga2"
    TPE = "tpe"
    RANDOM = "random"


def propose_by(method: Method, problem: Problem) -> Propose:
    """The function that proposes designs of a problem."""
    match method:
        case Method.DP:
            return Hybrid(problem).ideas
        case Method.NSGA2 | Method.TPE | Method.RANDOM:
            from codesign.search.optuna_sampler import OptunaSampler, Sampler  # loads Optuna, which `dp` seldom needs

            return OptunaSampler(problem.space, Sampler(method.value)).ideas
        case _:
            assert_never(method)


def verdict_on(method: Method, problem: Problem, knowledge: Knowledge) -> tuple[Agreement | None, list[str]]:
    """How a method's surrogate predicted what was then measured, and what a reader must know of it."""
    match method:
        case Method.DP:
            agreement = agreement_of(knowledge.trials, knowledge.full)
            return agreement, notes_on_surrogate(problem, knowledge, agreement)
        case Method.NSGA2 | Method.TPE | Method.RANDOM:
            return None, []
        case _:
            assert_never(method)
