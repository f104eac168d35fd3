"""Method M2 against pruning at initialization: accuracy over compression, all with the same epochs, beside controls."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional

from codesign.cost import Stage
from codesign.prune import (
    grasp_masks,
    l1_importance,
    magnitude_masks,
    noise_batches,
    pca_channel_counts,
    random_masks,
    snip_masks,
    synflow_masks,
    uniform_counts,
)
from codesign.reproduce.ledger import Ledger, Row
from codesign.reproduce.settings import StagedSettings, digest
from codesign.reproduce.workbench import OTHER_WEIGHTS, Workbench, parameters
from codesign.runs.pruning import chance

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


def run(settings: StagedSettings, ledger: Ledger, on_row: Callable[[Row], None]) -> None:
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
    """The trainings of one seed."""

    settings: StagedSettings
    bench: Workbench
    config: str
    seed: int

    @property
    def epochs(self) -> float:
        return self.settings.first_epochs + self.settings.rest_epochs

    def dense(self) -> Iterator[Row]:
        """Nothing pruned."""
        yield self._plain(DENSE, -1, self.bench.fresh(self.seed))

    def level(self, level: int, alpha: float) -> Iterator[Row]:
        """M2 at one alpha, then everything else at the size that M2 came to."""
        network, row = self._staged(level, alpha)
        yield row
        left, macs, counts = parameters(network), self.bench.macs(network), self.bench.widths(network)
        for method in MASKED:
            yield self._masked(method, level, left)
        yield self._plain(SCRATCH, level, self._narrow(counts))
        groups = self.bench.groups
        yield self._plain(SAME_PARAMETERS, level, self._narrow(uniform_counts(groups, parameters=left, layers=counts)))
        yield self._plain(SAME_MACS, level, self._narrow(uniform_counts(groups, macs=macs, layers=counts)))

    def _narrow(self, counts: Mapping[str, int]) -> nn.Module:
        """A fresh network of these widths. Its weights are those of other channels than M2 began with."""
        network = self.bench.fresh(OTHER_WEIGHTS + self.seed)
        return self.bench.cut(network, counts, l1_importance(network))

    def _plain(self, method: str, level: int, network: nn.Module) -> Row:
        cost = self.bench.train(network, self.epochs, self.seed)
        return self._row(method, level, network, cost.cpu_s, cost.wall_s, [self.bench.stage(network, self.epochs)])

    def _staged(self, level: int, alpha: float) -> tuple[nn.Module, Row]:
        bench, settings = self.bench, self.settings
        structure = replace(settings.structure, alpha=alpha)
        network = bench.fresh(self.seed)
        stages = [bench.search(network, settings.noise_images)]
        start = time.process_time()
        noise = noise_batches(bench.dataset.image_shape, settings.noise_images, chance(self.seed))
        first = pca_channel_counts(
            network, (batch.to(settings.subject.device) for batch in noise), structure, groups=bench.groups
        )
        network = bench.cut(network, first.counts, l1_importance(network))
        search_s = time.process_time() - start

        optimizer, order = bench.optimizer(network), bench.order(self.seed)
        before = bench.train_part(network, optimizer, order, 0, settings.first_epochs, self.epochs)
        stages += [bench.stage(network, settings.first_epochs), bench.search(network, settings.images)]
        start = time.process_time()
        sample = bench.data.train_images[: settings.images].split(256)
        second = pca_channel_counts(network, sample, structure)
        bench.cut_in_training(network, second.counts, l1_importance(network), optimizer)
        search_s += time.process_time() - start
        after = bench.train_part(network, optimizer, order, settings.first_epochs, self.epochs, self.epochs)
        stages.append(bench.stage(network, settings.rest_epochs))
        cpu_s, wall_s = before.cpu_s + after.cpu_s, before.wall_s + after.wall_s
        return network, self._row(M2, level, network, cpu_s, wall_s, stages, search_s)

    def _masked(self, method: str, level: int, left: int) -> Row:
        """A mask over single weights that leaves as many parameters as M2; biases and norms stay."""
        network = self.bench.fresh(self.seed)
        start = time.process_time()
        masks = self._masks(method, network, left)
        search_s = time.process_time() - start
        cost = self.bench.train(network, self.epochs, self.seed, masks)
        stages = [self.bench.stage(network, self.epochs)]
        return self._row(method, level, network, cost.cpu_s, cost.wall_s, stages, search_s, masks)

    def _masks(self, method: str, network: nn.Module, left: int) -> dict[str, torch.Tensor]:
        weights = sum(parameter.numel() for parameter in network.parameters() if parameter.ndim > 1)
        keep = (left - parameters(network) + weights) / weights
        count = self.settings.score_images
        batch = [(self.bench.data.train_images[:count], self.bench.data.train_labels[:count])]
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
        network: nn.Module,
        cpu_s: float,
        wall_s: float,
        stages: list[Stage],
        search_cpu_s: float = 0.0,
        masks: Mapping[str, torch.Tensor] | None = None,
    ) -> Row:
        accuracy = self.bench.accuracy(network)
        dense = self.bench.fresh(self.seed)
        return Row(
            config=self.config,
            data=self.settings.subject.data.name,
            seed=self.seed,
            method=method,
            level=level,
            top1=accuracy.top1,
            top5=accuracy.top5,
            cut_top1=-1.0,
            parameters=parameters(network, masks),
            dense_parameters=parameters(dense),
            macs=self.bench.macs(network, masks),
            dense_macs=self.bench.workload.macs,
            epochs=self.epochs,
            search_cpu_s=search_cpu_s,
            cpu_s=cpu_s,
            wall_s=wall_s,
            simulated_s=self.bench.simulated_s(*stages),
        )


def _loss(network: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return functional.cross_entropy(network(batch[0]), batch[1])


def _cool_loss(network: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return functional.cross_entropy(network(batch[0]) / TEMPERATURE, batch[1])
