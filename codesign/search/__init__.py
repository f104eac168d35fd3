"""The co-design search: exact where it can be, measured where it must be, honest about noise.

The room knows neither networks nor accelerators. It is handed functions:

    latency(point: DesignPoint) -> float                      seconds of the whole training run; cheap
    accuracy(point: DesignPoint, seed: int, fidelity: float) -> Measurement
                                                              real training; fidelity is the share of the full training
                                                              run, a higher one goes on from the same point and seed
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
        result = search(
            space,
            Objective(latency=latency, accuracy=accuracy),
            Schedule(budget=Budget(trainings=200)),
            Limits(accuracy_floor=0.9),
            Execution(log=log),
        )
    result.front.to_frame()

Workers: `evaluate(function, jobs)` of `Execution` yields results in any order; `map` is the default,
`pool.imap_unordered` or a few lines around a Dask client's `as_completed` do as well. The function and the jobs can be
pickled if `accuracy` can.
"""

from codesign.search.dp.agreement import Agreement
from codesign.search.execution import Evaluate, Execution
from codesign.search.front import (
    Convergence,
    Measured,
    ParetoFront,
    convergence,
    hypervolume,
    summarise,
    training_noise,
)
from codesign.search.knowledge import BATCH, Idea, Knowledge, Known, Propose
from codesign.search.limits import Limits
from codesign.search.log import TrialLog, locked, read_trials
from codesign.search.methods import Method
from codesign.search.objective import Accuracy, LayerTable, Metric, Objective, PointCost
from codesign.search.run import SearchResult, search
from codesign.search.schedule import Budget, Schedule, checked_ladder, standard_baselines
from codesign.search.space import (
    Choice,
    Group,
    SearchLayer,
    Space,
    format_grid,
    format_options,
    levels_from_ratios,
    levels_from_spectrum,
)
from codesign.search.transfer import AccuracyModel, Predicted, learn
from codesign.search.trial import Measurement, Origin, Proposal, Trial

__all__ = [
    "BATCH",
    "Accuracy",
    "AccuracyModel",
    "Agreement",
    "Budget",
    "Choice",
    "Convergence",
    "Evaluate",
    "Execution",
    "Group",
    "Idea",
    "Knowledge",
    "Known",
    "LayerTable",
    "Limits",
    "Measured",
    "Measurement",
    "Method",
    "Metric",
    "Objective",
    "Origin",
    "ParetoFront",
    "PointCost",
    "Predicted",
    "Proposal",
    "Propose",
    "Schedule",
    "SearchLayer",
    "SearchResult",
    "Space",
    "Trial",
    "TrialLog",
    "checked_ladder",
    "convergence",
    "format_grid",
    "format_options",
    "hypervolume",
    "learn",
    "levels_from_ratios",
    "levels_from_spectrum",
    "locked",
    "read_trials",
    "search",
    "standard_baselines",
    "summarise",
    "training_noise",
]
