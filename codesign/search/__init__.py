"""The co-design search: exact where it can be, measured where it must be, honest about noise.

The room knows neither networks nor accelerators. It is handed functions:

    latency(point: DesignPoint) -> float                      seconds of the whole training run; cheap
    accuracy(point: DesignPoint, seed: int, fidelity: float) -> Measurement
                                                              real training; fidelity is the share of the full training,
                                                              a higher one goes on from the same point and seed
    layer_latency(layer: SearchLayer) -> array                optional; seconds, shape (levels of in_group or 1,
                                                              levels of out_group or 1, options): one batch for the
                                                              dynamic program instead of thousands of calls of latency

    space = Space(
        groups=(Group(name="block1", levels=(64, 48, 32)), ...),          # channels kept; the first is the full count
        layers=(SearchLayer(name="conv1", formats={"bf16": uniform("bf16"), "e4m3": uniform("e4m3")},
                            in_group=None, out_group="block1"), ...),     # in the order of the network; the first
        default=uniform("fp32"),                                          # option is the most precise
    )
    with TrialLog("runs/digits") as log:                                  # one process at a time
        result = search(space, latency=latency, accuracy=accuracy, budget=Budget(trainings=200), log=log)
    result.front.to_frame()

Workers: `evaluate(function, jobs)` yields results in any order; `map` is the default, `pool.imap_unordered` or a few
lines around a Dask client's `as_completed` do as well. The function and the jobs can be pickled if `accuracy` can.
"""

from codesign.search.agreement import Agreement
from codesign.search.front import Measured, ParetoFront, Progress, hypervolume, progress
from codesign.search.learnt import Learnt, Predicted, learn
from codesign.search.limits import Metric
from codesign.search.log import TrialLog, read_trials
from codesign.search.methods import Idea
from codesign.search.run import Method, SearchResult, search, standard_baselines
from codesign.search.space import (
    Group,
    SearchLayer,
    Space,
    format_grid,
    format_options,
    levels_from_ratios,
    levels_from_spectrum,
)
from codesign.search.stages import Budget
from codesign.search.trial import Measurement, Origin, Proposal, Trial

__all__ = [
    "Agreement",
    "Budget",
    "Group",
    "Idea",
    "Learnt",
    "Measured",
    "Measurement",
    "Method",
    "Metric",
    "Origin",
    "ParetoFront",
    "Predicted",
    "Progress",
    "Proposal",
    "SearchLayer",
    "SearchResult",
    "Space",
    "Trial",
    "TrialLog",
    "format_grid",
    "format_options",
    "hypervolume",
    "learn",
    "levels_from_ratios",
    "levels_from_spectrum",
    "progress",
    "read_trials",
    "search",
    "standard_baselines",
]
