"""Take a design out of a run: its trained network, its structure and its formats, ready to train on or to export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tomli_w
import torch
from torch import nn

from codesign.config import structure
from codesign.design import DesignPoint
from codesign.errors import ConfigError, RunDirectoryError
from codesign.nn import convert, strip
from codesign.prune import load_pruned, save_pruned
from codesign.records import read_toml
from codesign.runs.designs import Designs
from codesign.runs.search_settings import DataSettings, NetworkSettings, load_settings
from codesign.runs.trainer import fresh_network, load_data
from codesign.search import Trial, read_trials

CONFIG, DESIGN, ONNX = "config.toml", "design.toml", "network.onnx"  # beside what `save_pruned` writes


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


def save_applied(network: nn.Module, point: DesignPoint, config: str, out: Path) -> None:
    """Write what `load_applied` reads. `config`: TOML whose tables `data` and `network` make the dense network."""
    save_pruned(network, out)
    (out / DESIGN).write_text(tomli_w.dumps(point.to_json()), encoding="utf-8")
    (out / CONFIG).write_text(config, encoding="utf-8")


def apply_point(run: Path, index: int, out: Path) -> Applied:
    """Train trial `index` again, from its seed, and write the network into the folder `out`.

    structure.json, weights.safetensors : the pruned network; parameters are the float32 master weights
    design.toml : output channels and formats of each layer
    config.toml : the configuration of the run, from which `load_applied` builds the dense network
    """
    trial = trial_of(run, index)
    designs = Designs(settings=load_settings(run / CONFIG))
    network = designs.train(trial.point, trial.proposal.seed, trial.proposal.fidelity).network
    strip(network)
    save_applied(network, trial.point, (run / CONFIG).read_text(encoding="utf-8"), out)
    loaded, point = load_applied(out)
    convert(loaded, point)
    return Applied(trial=trial, accuracy=designs.trainer.measure(loaded).top1)


def export_onnx(folder: Path) -> Path:
    """Write network.onnx beside what `apply_point` wrote: the pruned network in float32, for any batch size.

    ONNX has no operator for most of the formats of a design; they stay in design.toml.
    """
    try:
        import onnxscript  # noqa: F401  torch's exporter needs it, and both need onnx
    except ImportError as error:
        raise ConfigError(f"an ONNX file needs onnx and onnxscript ({error}); pip install 'codesign[onnx]'") from error
    network, _ = load_applied(folder)
    tables = read_toml(folder / CONFIG)
    dataset, _ = load_data(structure(tables["data"], DataSettings, f"{folder / CONFIG}: data"))
    example = torch.zeros(2, *dataset.image_shape)  # a batch of 1 would become a constant of the graph
    path = folder / ONNX
    torch.onnx.export(
        network.eval(),
        (example,),
        path,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    return path


def load_applied(folder: Path) -> tuple[nn.Module, DesignPoint]:
    """The network of a folder that `apply_point` or a training run wrote, in float32, and its design.

    `convert(network, point)` makes it compute in its formats.
    """
    missing = [name for name in (CONFIG, DESIGN) if not (folder / name).is_file()]
    if missing:
        raise RunDirectoryError(f"{folder} holds no {missing[0]}; name a folder that `codesign apply` or `train` wrote")
    tables = read_toml(folder / CONFIG)
    try:
        data, network = tables["data"], tables["network"]
    except KeyError as error:
        raise RunDirectoryError(f"{folder / CONFIG} has no table {error}; it was not written by codesign") from error
    dataset, _ = load_data(structure(data, DataSettings, f"{folder / CONFIG}: data"))
    dense = fresh_network(structure(network, NetworkSettings, f"{folder / CONFIG}: network"), dataset, seed=0)
    return load_pruned(dense, folder), DesignPoint.from_json(read_toml(folder / DESIGN))
