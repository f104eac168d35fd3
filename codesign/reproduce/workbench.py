"""What every pruning experiment does: make a network, train it, cut it, measure and price it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from codesign.cost import Stage, schedule_latency_s
from codesign.design import DesignPoint
from codesign.hardware import load_accelerator
from codesign.nn.data import Dataset
from codesign.nn.train import Accuracy, Cost, TrainingData, evaluate, make_optimizer, train
from codesign.prune import ChannelGroups, apply_masks, channel_groups, plan_from_counts, prune
from codesign.prune.importance import weights_of
from codesign.reproduce.settings import Subject
from codesign.runs.space import DEFAULT
from codesign.runs.trainer import fresh_network, load_data
from codesign.workload import Workload

OTHER_WEIGHTS = 1000  # added to a seed: weights that the structure search has not seen
Masks = Mapping[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Workbench:
    """One subject, with everything loaded."""

    subject: Subject
    dataset: Dataset
    data: TrainingData

    @classmethod
    def of(cls, subject: Subject) -> Workbench:
        """Load the data of a subject. On the CPU everything runs on one thread, so that times can be compared."""
        if subject.device == "cpu":
            torch.set_num_threads(1)
        dataset, data = load_data(subject.data)
        return cls(subject=subject, dataset=dataset, data=data.to(torch.device(subject.device)))

    @cached_property
    def groups(self) -> ChannelGroups:
        """Channel groups of the dense network; the same for every seed."""
        return channel_groups(self.fresh(0), self.data.train_images[:1])

    @cached_property
    def workload(self) -> Workload:
        """The dense network as the cost model sees it."""
        network, example = self.fresh(0).cpu(), torch.zeros(1, *self.dataset.image_shape)
        return Workload.from_torch(network, example, batch=self.subject.training.batch)

    def fresh(self, seed: int) -> nn.Module:
        """A network with the weights that this seed gives."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = fresh_network(self.subject.network, self.dataset)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
        return network.to(self.subject.device)

    def steps(self, epochs: float) -> int:
        """Optimizer steps."""
        return self.data.steps(epochs, self.subject.training.batch)

    def train(self, network: nn.Module, epochs: float, seed: int, masks: Masks | None = None) -> Cost:
        """A whole learning-rate schedule, with an optimizer of its own."""
        return self.train_part(network, self.optimizer(network, masks), self.order(seed), 0, epochs, epochs)

    def optimizer(self, network: nn.Module, masks: Masks | None = None) -> torch.optim.Optimizer:
        """The optimizer of the recipe; masked weights are set to zero and stay there."""
        if masks is not None:
            apply_masks(network, masks)
        return make_optimizer(network, self.subject.training)

    def order(self, seed: int) -> torch.Generator:
        """Order of the images."""
        return torch.Generator().manual_seed(seed)

    def train_part(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        order: torch.Generator,
        begin: float,
        end: float,
        total: float,
    ) -> Cost:
        """From epoch `begin` to epoch `end` of a learning-rate schedule of `total` epochs. A loss that is not finite
        ends the part: the accuracy then says so."""
        first = self.steps(begin)
        cost, _ = train(
            network,
            self.data,
            self.subject.training,
            steps=self.steps(end) - first,
            generator=order,
            optimizer=optimizer,
            first_step=first,
            total_steps=self.steps(total),
        )
        return cost

    def accuracy(self, network: nn.Module) -> Accuracy:
        """On the test images."""
        return evaluate(network, self.data)

    def cut(self, network: nn.Module, counts: Mapping[str, int], scores: Mapping[str, torch.Tensor]) -> nn.Module:
        """A smaller copy. Counts that keep everything are an error."""
        plan = plan_from_counts(network, channel_groups(network, self.data.train_images[:1]), counts, scores)
        return prune(network, plan)

    def cut_in_training(
        self,
        network: nn.Module,
        counts: Mapping[str, int],
        scores: Mapping[str, torch.Tensor],
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Make the network itself smaller; its optimizer goes on with the parameters that stay."""
        plan = plan_from_counts(network, channel_groups(network, self.data.train_images[:1]), counts, scores)
        prune(network, plan, optimizer, inplace=True)

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

    def stage(self, network: nn.Module, epochs: float) -> Stage:
        """Training of this structure, for `simulated_s`. Masks do not matter: every product is still computed."""
        return self._stage(network, self.steps(epochs), forward_only=False)

    def search(self, network: nn.Module, images: int) -> Stage:
        """A structure search in this network, for `simulated_s`."""
        return self._stage(network, -(-images // self.subject.training.batch), forward_only=True)

    def _stage(self, network: nn.Module, steps: int, *, forward_only: bool) -> Stage:
        sized = self.workload.with_channels(self.widths(network))
        return Stage(workload=sized, point=DesignPoint.of(default=DEFAULT), steps=steps, forward_only=forward_only)

    def simulated_s(self, *stages: Stage) -> float:
        """Seconds of these stages on the accelerator."""
        accelerator = load_accelerator(self.subject.accelerator)
        return schedule_latency_s(stages, accelerator, optimizer=self.subject.training.optimizer)


def parameters(network: nn.Module, masks: Masks | None = None) -> int:
    """Parameters that are not masked."""
    masked = sum(int((~mask).sum()) for mask in (masks or {}).values())
    return sum(parameter.numel() for parameter in network.parameters()) - masked
