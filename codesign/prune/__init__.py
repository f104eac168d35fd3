"""Prune channels that a machine can exploit: tensors become smaller, nothing is masked.

    groups = channel_groups(model, example_input)                      # which channels leave together
    found = pca_channel_counts(model, batches, StructureConfig())      # how many each layer needs (methods M1, M2)
    plan = plan_from_counts(model, groups, found.counts, l1_importance(model))   # which ones stay
    smaller = prune(model, plan)                                       # or prune(model, plan, optimizer, inplace=True)

    plan = choose_channels(model, groups, batches).plan(found.counts)  # those that the next layers miss least, and
    smaller = prune(model, plan, reconstruct=batches)                  # weights that rebuild the others: no retraining

`found.counts` and every other `counts` map the name of a layer (the torch module's qualified name) to the number of
output channels that it keeps, as `DesignPoint.channels` does.
"""

from codesign.network import ChannelGroup, elementwise
from codesign.prune.choice import Choice, RankedUnits, choose_channels
from codesign.prune.controls import reinitialized, uniform_counts
from codesign.prune.covariance import Spectrum, StreamingCovariance, components
from codesign.prune.features import layer_spectra, noise_batches
from codesign.prune.groups import ChannelGroups, channel_groups
from codesign.prune.importance import (
    batch_norm_importance,
    l1_importance,
    l2_importance,
    random_importance,
    taylor_importance,
    weights_of,
)
from codesign.prune.masks import (
    apply_masks,
    grasp_masks,
    magnitude_masks,
    random_masks,
    snip_masks,
    synflow_masks,
)
from codesign.prune.plan import PrunePlan, plan_from_counts, plan_from_indices
from codesign.prune.reconstruction import ReconstructedLayer, Reconstruction, reconstruct
from codesign.prune.settings import BatchNormMode, StructureConfig, Tap
from codesign.prune.store import load_pruned, rebuild, save_pruned, structure_of
from codesign.prune.structure import FoundStructure, LayerStructure, counts_from_spectra, pca_channel_counts
from codesign.prune.surgery import prune

__all__ = [
    "BatchNormMode",
    "ChannelGroup",
    "ChannelGroups",
    "Choice",
    "FoundStructure",
    "LayerStructure",
    "PrunePlan",
    "RankedUnits",
    "ReconstructedLayer",
    "Reconstruction",
    "Spectrum",
    "StreamingCovariance",
    "StructureConfig",
    "Tap",
    "apply_masks",
    "batch_norm_importance",
    "channel_groups",
    "choose_channels",
    "components",
    "counts_from_spectra",
    "elementwise",
    "grasp_masks",
    "l1_importance",
    "l2_importance",
    "layer_spectra",
    "load_pruned",
    "magnitude_masks",
    "noise_batches",
    "pca_channel_counts",
    "plan_from_counts",
    "plan_from_indices",
    "prune",
    "random_importance",
    "random_masks",
    "rebuild",
    "reconstruct",
    "reinitialized",
    "save_pruned",
    "snip_masks",
    "structure_of",
    "synflow_masks",
    "taylor_importance",
    "uniform_counts",
    "weights_of",
]
