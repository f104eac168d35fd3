"""What every pruning experiment does: make a network, train it, cut it, measure and price it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, zip_longest

import torch
from torch import nn

from codesign.design import DesignPoint
from codesign.hardware import load_accelerator
from codesign.nn import Accuracy, Dataset, Effort
from codesign.prune import ChannelGroups, apply_masks, channel_groups, weights_of
from codesign.reproduce.settings import Subject
from codesign.runs import DEFAULT, Cut, PricedStage, Stage, Trainer, fresh_network, latency_s_of, load_data
from codesign.workload import Workload

OTHER_WEIGHTS = 1000  # added to a seed: weights that the structure search has not seen
Masks = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A finished training run: its network, and how it came about.

    effort : of the training; cut_cpu_s : of the cuts, structure searches included
    cut_top1 : share of test images right after the last cut; -1 if there was none
    """

    network: nn.Module
    accuracy: Accuracy
    effort: Effort
    cut_cpu_s: float
    cut_top1: float


@dataclass(frozen=True, kw_only=True)
class Workbench:
    """One subject, with everything loaded."""

    subject: Subject
    dataset: Dataset
    trainer: Trainer

    @classmethod
    def of(cls, subject: Subject) -> Workbench:
        """Load the data of a subject. On the CPU everything runs on one thread, so that times can be compared."""
        if subject.device == "cpu":
            torch.set_num_threads(1)
        dataset, images = load_data(subject.data)
        trainer = Trainer(images=images.to(torch.device(subject.device)), recipe=subject.training)
        return cls(subject=subject, dataset=dataset, trainer=trainer)

    @property
    def images(self) -> torch.Tensor:
        """Training images."""
        return self.trainer.images.train_images

    @cached_property
    def groups(self) -> ChannelGroups:
        """Channel groups of the dense network; the same for every seed."""
        return channel_groups(self.fresh(0), self.images[:1])

    @cached_property
    def workload(self) -> Workload:
        """The dense network as the cost model sees it."""
        network, example = self.fresh(0).cpu(), torch.zeros(1, *self.dataset.image_shape)
        return Workload.from_torch(network, example, batch=self.subject.training.batch)

    def fresh(self, seed: int) -> nn.Module:
        """A network with the weights that this seed gives."""
        network = fresh_network(self.subject.network, self.dataset, seed)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
        return network.to(self.subject.device)

    def stages(self, *epochs: float, cuts: Sequence[Cut | None] = ()) -> list[Stage]:
        """Stages of so many epochs under one learning-rate schedule; `cuts` before the first ones of them."""
        ends = [0, *(self.trainer.steps(sum(epochs[: n + 1])) for n in range(len(epochs)))]
        return [
            Stage(steps=last - first, first=first, total=ends[-1], cut=cut)
            for (first, last), cut in zip_longest(pairwise(ends), cuts)
        ]

    def train(self, network: nn.Module, stages: Sequence[Stage], seed: int, masks: Masks | None = None) -> Finished:
        """Train from the first step, with an optimizer of its own. Masked weights are set to zero and stay there.

        A loss that is not finite ends the run: the accuracy then says so.
        """
        if masks is not None:
            apply_masks(network, masks)
        run = self.trainer.begin(network, seed=seed)
        effort, cut_s, cut_top1 = Effort(), 0.0, -1.0
        for part in self.trainer.train(run, stages):
            if part.plan is None:
                effort += part.effort
            else:
                cut_s += part.effort.cpu_s
                cut_top1 = self.trainer.measure(run.network).top1
        accuracy = self.trainer.measure(run.network)
        return Finished(network=run.network, accuracy=accuracy, effort=effort, cut_cpu_s=cut_s, cut_top1=cut_top1)

    def widths(self, network: nn.Module) -> dict[str, int]:
        """Output channels of every layer of which some could leave."""
        return {name: len(weight) for name, _, _, weight in weights_of(network) if name in self.groups.channels}

    def macs(self, network: nn.Module, masks: Masks | None = None) -> int:
        """Multiply-accumulates of one image with weights that are not masked."""
        sized = self.workload.with_channels(self.widths(network))
        if masks is None:
            return sized.macs
        density = {tensor.removesuffix(".weight"): float(mask.float().mean()) for tensor, mask in masks.items()}
        return round(sum(layer.macs * density[name] for name, layer in sized.weight_layers.items()))

    def priced(self, network: nn.Module, epochs: float) -> PricedStage:
        """Training of this structure. Masks do not matter: every product is still computed."""
        return PricedStage(point=self._point(network), steps=self.trainer.steps(epochs))

    def priced_search(self, network: nn.Module, images: int) -> PricedStage:
        """A structure search in this network."""
        steps = -(-images // self.subject.training.batch)
        return PricedStage(point=self._point(network), steps=steps, sampling=True)

    def _point(self, network: nn.Module) -> DesignPoint:
        return DesignPoint.of(default=DEFAULT, channels=self.widths(network))

    def simulated_s(self, *stages: PricedStage) -> float:
        """Seconds of these stages on the accelerator."""
        accelerator = load_accelerator(self.subject.accelerator)
        return latency_s_of(stages, self.workload, accelerator, self.subject.training.optimizer)


def parameters(network: nn.Module, masks: Masks | None = None) -> int:
    """Parameters that are not masked."""
    masked = sum(int((~mask).sum()) for mask in (masks or {}).values())
    return sum(parameter.numel() for parameter in network.parameters()) - masked
