"""Method M2 against pruning at initialization: accuracy over compression, all with the same epochs, beside controls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional

from codesign.prune import (
    ChannelGroups,
    grasp_masks,
    l1_importance,
    magnitude_masks,
    noise_batches,
    pca_channel_counts,
    plan_from_counts,
    random_masks,
    snip_masks,
    synflow_masks,
    uniform_counts,
)
from codesign.reproduce.ledger import Ledger, TrainedNetwork
from codesign.reproduce.settings import StagedSettings, digest
from codesign.reproduce.workbench import OTHER_WEIGHTS, Finished, Masks, Workbench, parameters
from codesign.runs import BATCH, PricedStage, Removal, chance

DENSE, M2 = "dense", "M2"
MASKED = ("random", "magnitude", "SNIP", "GraSP", "SynFlow")
SCRATCH, SAME_PARAMETERS, SAME_MACS = "M2's structure from scratch", "uniform, same parameters", "uniform, same MACs"
METHODS = {
    M2: "PCA of random images, short training, PCA of training images and L1 norm, training to the end",
    "random": "single weights masked at random, before training",
    "magnitude": "the smallest weights masked, before training",
    "SNIP": "Lee, Ajanthan and Torr 2019",
    "GraSP": "Wang, Zhang and Grosse 2020",
    "SynFlow": "Tanaka et al. 2020, 100 rounds",
    SCRATCH: "control: the final structure of M2 with fresh weights",
    SAME_PARAMETERS: "control: the same share of every layer's channels, as many parameters as M2",
    SAME_MACS: "control: the same share of every layer's channels, as many multiply-accumulates as M2",
}
TEMPERATURE = 200  # Wang, Zhang and Grosse 2020, arXiv 2002.07376, section 5: of the logits in GraSP's loss


def trainings(settings: StagedSettings) -> int:
    """Rows that `run` writes."""
    return settings.subject.seeds * (1 + len(METHODS) * len(settings.alphas))


def run(settings: StagedSettings, ledger: Ledger[TrainedNetwork], on_row: Callable[[TrainedNetwork], None]) -> None:
    """Write every row that the ledger lacks; `on_row` is called for each, and for those that were there."""
    bench = Workbench.of(settings.subject)
    config = digest(settings)
    for seed in range(settings.subject.seeds):
        arm = _Arm(settings, bench, config, seed)
        for level in range(-1, len(settings.alphas)):
            methods = list(METHODS) if level >= 0 else [DENSE]
            if any(not ledger.has(config, seed, method, level) for method in methods):
                for row in arm.level(level, settings.alphas[level]) if level >= 0 else arm.dense():
                    if not ledger.has(config, seed, row.method, level):
                        ledger.append(row)
                    on_row(row)
            else:
                for row in ledger.rows:
                    if (row.config, row.seed, row.level) == (config, seed, level):
                        on_row(row)


@dataclass(frozen=True, slots=True)
class _Arm:
    """The training runs of one seed."""

    settings: StagedSettings
    bench: Workbench
    config: str
    seed: int

    @property
    def epochs(self) -> float:
        return self.settings.first_epochs + self.settings.rest_epochs

    def dense(self) -> Iterator[TrainedNetwork]:
        """Nothing pruned."""
        run = self.bench.train(self.bench.fresh(self.seed), self.bench.stages(self.epochs), self.seed)
        yield self._row(DENSE, -1, run, [self.bench.priced(run.network, self.epochs)])

    def level(self, level: int, alpha: float) -> Iterator[TrainedNetwork]:
        """M2 at one alpha, then everything else at the size that M2 came to."""
        network, row = self._staged(level, alpha)
        yield row
        left, macs, counts = parameters(network), self.bench.macs(network), self.bench.widths(network)
        for method in MASKED:
            yield self._masked(method, level, left)
        yield self._narrow(SCRATCH, level, counts)
        groups = self.bench.groups
        yield self._narrow(SAME_PARAMETERS, level, uniform_counts(groups, parameters=left, layers=counts))
        yield self._narrow(SAME_MACS, level, uniform_counts(groups, macs=macs, layers=counts))

    def _narrow(self, method: str, level: int, counts: Mapping[str, int]) -> TrainedNetwork:
        """A fresh network of these widths. Its weights are those of other channels than M2 began with."""

        def cut(network: nn.Module, groups: ChannelGroups) -> Removal:
            return Removal(plan=plan_from_counts(network, groups, counts, l1_importance(network)))

        network = self.bench.fresh(OTHER_WEIGHTS + self.seed)
        run = self.bench.train(network, self.bench.stages(self.epochs, cuts=[cut]), self.seed)
        return self._row(method, level, run, [self.bench.priced(run.network, self.epochs)])

    def _staged(self, level: int, alpha: float) -> tuple[nn.Module, TrainedNetwork]:
        bench, settings = self.bench, self.settings
        structure = replace(settings.structure, alpha=alpha)
        priced: list[PricedStage] = []

        def before(network: nn.Module, groups: ChannelGroups) -> Removal:
            priced.append(bench.priced_search(network, settings.noise_images))
            noise = noise_batches(bench.dataset.image_shape, settings.noise_images, chance(self.seed))
            on_device = (batch.to(settings.subject.device) for batch in noise)
            found = pca_channel_counts(network, on_device, structure, groups=groups)
            return Removal(plan=plan_from_counts(network, groups, found.counts, l1_importance(network)))

        def within(network: nn.Module, groups: ChannelGroups) -> Removal:
            priced.append(bench.priced(network, settings.first_epochs))
            priced.append(bench.priced_search(network, settings.images))
            sample = torch.split(bench.images[: settings.images], BATCH)
            found = pca_channel_counts(network, sample, structure, groups=groups)
            return Removal(plan=plan_from_counts(network, groups, found.counts, l1_importance(network)))

        stages = bench.stages(settings.first_epochs, settings.rest_epochs, cuts=[before, within])
        run = bench.train(bench.fresh(self.seed), stages, self.seed)
        priced.append(bench.priced(run.network, settings.rest_epochs))
        return run.network, self._row(M2, level, run, priced, run.cut_cpu_s)

    def _masked(self, method: str, level: int, left: int) -> TrainedNetwork:
        """A mask over single weights that leaves as many parameters as M2; biases and norms stay."""
        network = self.bench.fresh(self.seed)
        start = time.process_time()
        masks = self._masks(method, network, left)
        search_s = time.process_time() - start
        run = self.bench.train(network, self.bench.stages(self.epochs), self.seed, masks)
        return self._row(method, level, run, [self.bench.priced(network, self.epochs)], search_s, masks)

    def _masks(self, method: str, network: nn.Module, left: int) -> dict[str, torch.Tensor]:
        weights = sum(parameter.numel() for parameter in network.parameters() if parameter.ndim > 1)
        keep = (left - parameters(network) + weights) / weights
        count = self.settings.score_images
        batch = [(self.bench.images[:count], self.bench.trainer.images.train_labels[:count])]
        match method:
            case "random":
                return random_masks(network, keep, chance(self.seed))
            case "magnitude":
                return magnitude_masks(network, keep)
            case "SNIP":
                return snip_masks(network, batch, _loss, keep)
            case "GraSP":
                return grasp_masks(network, batch, _cool_loss, keep)
            case "SynFlow":
                return synflow_masks(network, self.bench.dataset.image_shape, keep)
        raise ValueError(method)

    def _row(
        self,
        method: str,
        level: int,
        run: Finished,
        priced: Sequence[PricedStage],
        search_cpu_s: float = 0.0,
        masks: Masks | None = None,
    ) -> TrainedNetwork:
        dense = self.bench.fresh(self.seed)
        return TrainedNetwork(
            config=self.config,
            data=self.settings.subject.data.name,
            seed=self.seed,
            method=method,
            level=level,
            top1=run.accuracy.top1,
            top5=run.accuracy.top5,
            cut_top1=-1.0,
            parameters=parameters(run.network, masks),
            dense_parameters=parameters(dense),
            macs=self.bench.macs(run.network, masks),
            dense_macs=self.bench.workload.macs,
            epochs=self.epochs,
            search_cpu_s=search_cpu_s,
            cpu_s=run.effort.cpu_s,
            wall_s=run.effort.wall_s,
            simulated_s=self.bench.simulated_s(*priced),
        )


def _loss(network: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return functional.cross_entropy(network(batch[0]), batch[1])


def _cool_loss(network: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return functional.cross_entropy(network(batch[0]) / TEMPERATURE, batch[1])
