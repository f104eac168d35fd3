"""Take a design out of a run: its trained network, its structure and its formats, ready to train on or to export."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

import tomli_w
from torch import nn

from codesign.design import DesignPoint
from codesign.errors import RunDirectoryError
from codesign.loop.laboratory import Laboratory
from codesign.loop.settings import load_settings
from codesign.nn.lowp import convert, strip
from codesign.nn.train import evaluate
from codesign.prune import load_pruned, save_pruned
from codesign.search import Trial, read_trials


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What was written. `accuracy` was measured on the network as loaded back; the trial's own is in `trial`."""

    trial: Trial
    accuracy: float


def trial_of(run: Path, index: int) -> Trial:
    """The trial of a run by its number."""
    trials = {trial.index: trial for trial in read_trials(run)}
    if index not in trials:
        raise RunDirectoryError(f"{run} has no trial {index}; it has 0 to {max(trials, default=-1)}, see its front.csv")
    return trials[index]


def apply_point(run: Path, index: int, out: Path) -> Applied:
    """Train trial `index` again, from its seed, and write the network into the folder `out`.

    structure.json, weights.safetensors : the pruned network; parameters are the float32 master weights
    design.toml : output channels and formats of each layer
    config.toml : the configuration of the run, from which `load_applied` builds the dense network
    """
    trial = trial_of(run, index)
    laboratory = Laboratory(settings=load_settings(run / "config.toml"))
    network = laboratory.run(trial.point, trial.proposal.seed).network
    strip(network)
    save_pruned(network, out)
    (out / "design.toml").write_text(tomli_w.dumps(trial.point.to_json()), encoding="utf-8")
    (out / "config.toml").write_text((run / "config.toml").read_text(encoding="utf-8"), encoding="utf-8")
    loaded, point = load_applied(out)
    convert(loaded, point)
    return Applied(trial=trial, accuracy=evaluate(loaded, laboratory.data).top1)


def load_applied(folder: Path) -> tuple[nn.Module, DesignPoint]:
    """The network that `apply_point` wrote, in float32, and its design; `convert(network, point)` makes it compute in it."""
    laboratory = Laboratory(settings=load_settings(folder / "config.toml"))
    network = load_pruned(laboratory.build(), folder)
    return network, DesignPoint.from_json(tomllib.loads((folder / "design.toml").read_text(encoding="utf-8")))
