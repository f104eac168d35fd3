"""What if the machine, the formats or the channels were others: sweeps over whole training steps, a page with sliders."""

from codesign.whatif.axes import accelerator_keys, axes_of, with_values
from codesign.whatif.page import what_if_page
from codesign.whatif.plan import OBJECTIVES, SweepPlan, kept_channels, kept_network, sweep, sweep_plan
from codesign.whatif.select import check_objectives, pareto, top
from codesign.whatif.write import Sink, sink_of

__all__ = [
    "OBJECTIVES",
    "Sink",
    "SweepPlan",
    "accelerator_keys",
    "axes_of",
    "check_objectives",
    "kept_channels",
    "kept_network",
    "pareto",
    "sink_of",
    "sweep",
    "sweep_plan",
    "top",
    "what_if_page",
    "with_values",
]
