"""One co-design run from a configuration file to a run directory: joins cost, training and search, which never meet.

Names that need torch are loaded when they are first asked for: a mistake in a configuration is found at once.
"""

from typing import TYPE_CHECKING

from codesign.faces import lazy
from codesign.runs.search_settings import DataSettings, NetworkSettings, load_settings

if TYPE_CHECKING:
    from codesign.runs.designs import Designs, Outcome
    from codesign.runs.export import apply_point, export_onnx, load_applied, trial_of
    from codesign.runs.machines import HardwareLoop, machines_of
    from codesign.runs.pruning import BATCH, chance
    from codesign.runs.run_cost import PricedStage, RunCost, latency_s_of
    from codesign.runs.search_run import PreparedSearch, prepare, run_search
    from codesign.runs.space import DEFAULT, baseline_points, kept_whole, layer_costs
    from codesign.runs.trainer import Cut, Part, Removal, Stage, Trainer, fresh_network, load_data
    from codesign.runs.training_run import MODEL, PreparedTraining, prepare_training, run_training
    from codesign.runs.training_settings import load_training_settings
    from codesign.runs.workers import training_processes

__all__ = [
    "BATCH",
    "DEFAULT",
    "MODEL",
    "Cut",
    "DataSettings",
    "Designs",
    "HardwareLoop",
    "NetworkSettings",
    "Outcome",
    "Part",
    "PreparedSearch",
    "PreparedTraining",
    "PricedStage",
    "Removal",
    "RunCost",
    "Stage",
    "Trainer",
    "apply_point",
    "baseline_points",
    "chance",
    "export_onnx",
    "fresh_network",
    "kept_whole",
    "latency_s_of",
    "layer_costs",
    "load_applied",
    "load_data",
    "load_settings",
    "load_training_settings",
    "machines_of",
    "prepare",
    "prepare_training",
    "run_search",
    "run_training",
    "training_processes",
    "trial_of",
]

__getattr__ = lazy(
    __name__,
    {
        "designs": ("Designs", "Outcome"),
        "export": ("apply_point", "export_onnx", "load_applied", "trial_of"),
        "machines": ("HardwareLoop", "machines_of"),
        "pruning": ("BATCH", "chance"),
        "run_cost": ("PricedStage", "RunCost", "latency_s_of"),
        "search_run": ("PreparedSearch", "prepare", "run_search"),
        "space": ("DEFAULT", "baseline_points", "kept_whole", "layer_costs"),
        "trainer": ("Cut", "Part", "Removal", "Stage", "Trainer", "fresh_network", "load_data"),
        "training_run": ("MODEL", "PreparedTraining", "prepare_training", "run_training"),
        "training_settings": ("load_training_settings",),
        "workers": ("training_processes",),
    },
)
