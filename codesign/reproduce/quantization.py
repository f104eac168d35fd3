"""Experiment of M3: networks in few bits, quantized after training by every method, and trained in the formats."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from codesign.config import load
from codesign.design import uniform
from codesign.errors import ConfigError
from codesign.formats import FloatFormat
from codesign.nn import Accuracy, Policy, Rounder, Scaling, batches, strip
from codesign.quantize import Allocation, compare
from codesign.reproduce.ledger import Ledger
from codesign.reproduce.settings import Subject, digest
from codesign.reproduce.workbench import Workbench

FLOAT32 = "fp32"
FORMATS = (FLOAT32, "bf16", "fp8-hybrid", "allocated-8", "allocated-6", "allocated-4")
ESTIMATED_EVERY = 100  # training steps between two allocations
RENORM_BATCHES = 10  # from which batch norm is estimated anew


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationSettings:
    """Quantization after training, and training in the formats.

    epochs : of every training
    bits : widths after training; every method that exists at a width is tried there
    formats : of training: fp32, bf16, fp8-hybrid; allocated-B: B bits whose split and scale follow the distribution, per
        output channel for weights and their gradients, per tensor for activations and errors
    """

    title: str
    subject: Subject
    epochs: int
    bits: tuple[int, ...] = (3, 4, 5, 6, 8)
    formats: tuple[str, ...] = FORMATS

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ConfigError(f"epochs must be at least 1, got {self.epochs}")
        if FLOAT32 not in self.formats:
            raise ConfigError(f"formats must hold '{FLOAT32}', with which the others are compared")
        for name in self.formats:
            policy_of(name)


def policy_of(formats: str) -> Policy:
    """How every layer computes in training."""
    kind, _, bits = formats.partition("-")
    if kind != "allocated" or not bits.isdecimal():
        return Policy.of(uniform(formats))
    width = FloatFormat.of(0, int(bits) - 1)
    each = Rounder(width, scaling=Scaling.EMPIRICAL, every=ESTIMATED_EVERY)
    channels = replace(each, axis=0)
    return Policy(weight=channels, activation=each, error=each, gradient=channels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One network on the test images.

    config : digest of the configuration
    bits, method : after training; 0 and the formats while in training
    epoch : passes over the training images so far
    loss : mean cross-entropy in nats
    top1_renormed : once batch norm has been estimated anew on training images; of networks after training only
    sqnr_db : signal to quantization noise ratio of all weights together
    gain_db, least_gain_db : by how much the empirical choice is better: mean and least over channels
    cpu_s : of quantization, or of the training so far
    diverged : 1 where the loss was no longer finite, which ended the training
    """

    config: str
    seed: int
    bits: int
    method: str
    epoch: int
    top1: float
    loss: float
    sqnr_db: float = 0.0
    gain_db: float = 0.0
    least_gain_db: float = 0.0
    cpu_s: float
    diverged: int = 0
    top1_renormed: float = 0.0

    @property
    def key(self) -> tuple[str, int, int, str, int]:
        """What tells one result from another."""
        return self.config, self.seed, self.bits, self.method, self.epoch


def load_quantization(path: str | Path) -> QuantizationSettings:
    """One configuration of `codesign reproduce quantization`."""
    return load(QuantizationSettings, path)


def digest_of(settings: QuantizationSettings) -> str:
    """Tells configurations apart; more widths or formats belong to the same."""
    return digest(settings, "bits", "formats")


def parts_of(settings: QuantizationSettings) -> int:
    """Trainings, and widths at which a network is quantized."""
    return settings.subject.seeds * (len(settings.formats) + len(settings.bits))


def run(settings: QuantizationSettings, ledger: Ledger[Result], on_part: Callable[[], None]) -> None:
    """Do what the ledger lacks; `on_part` is called after each of `parts_of`."""
    bench = Workbench.of(settings.subject)
    config = digest_of(settings)
    for seed in range(settings.subject.seeds):
        network: nn.Module | None = None
        for bits in settings.bits:
            if not ledger.has(config, seed, bits, "empirical", settings.epochs):
                network = network or _trained(bench, settings, config, seed, FLOAT32, ledger)
                for result in _quantized(bench, settings, config, seed, bits, network):
                    ledger.append(result)
            on_part()
        for formats in settings.formats:
            if not _finished(ledger, config, seed, formats, settings.epochs):
                _trained(bench, settings, config, seed, formats, ledger)
            on_part()


def _finished(ledger: Ledger[Result], config: str, seed: int, formats: str, epochs: int) -> bool:
    own = [row for row in ledger.rows if row.key[:4] == (config, seed, 0, formats)]
    return any(row.epoch == epochs or row.diverged for row in own)


def _trained(
    bench: Workbench, settings: QuantizationSettings, config: str, seed: int, formats: str, ledger: Ledger[Result]
) -> nn.Module:
    """A network after all epochs, or after that in which its loss was no longer finite."""
    run = bench.trainer.begin(bench.fresh(seed), seed=seed, formats=None if formats == FLOAT32 else policy_of(formats))
    cpu_s = 0.0
    for epoch, part in enumerate(bench.trainer.train(run, bench.stages(settings.epochs)), start=1):
        cpu_s += part.effort.cpu_s
        if not ledger.has(config, seed, 0, formats, epoch):
            accuracy = bench.trainer.measure(run.network)
            result = _result(accuracy, config, seed, 0, formats, epoch, cpu_s, diverged=not part.finite)
            if formats == FLOAT32 and epoch == settings.epochs and part.finite:  # the control of what follows
                anew = bench.trainer.measure(renormed(run.network, bench, seed))
                result = replace(result, top1_renormed=anew.top1)
            ledger.append(result)
        if not part.finite and formats == FLOAT32:
            raise ConfigError(
                f"{settings.title}: float32 itself has diverged with seed {seed}, there is nothing to compare with; use a "
                "lower learning_rate"
            )
    strip(run.network)
    return run.network


def _result(
    accuracy: Accuracy, config: str, seed: int, bits: int, method: str, epoch: int, cpu_s: float, *, diverged: bool
) -> Result:
    return Result(
        config=config,
        seed=seed,
        bits=bits,
        method=method,
        epoch=epoch,
        top1=accuracy.top1,
        loss=accuracy.loss,
        cpu_s=cpu_s,
        diverged=int(diverged),
    )


def weights_to_quantize(network: nn.Module) -> dict[str, torch.Tensor]:
    """Weights of all convolutions and linear layers, the first and the last included; channels are axis 0."""
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    return {name: module.weight for name, module in network.named_modules() if isinstance(module, kinds)}


def _quantized(
    bench: Workbench, settings: QuantizationSettings, config: str, seed: int, bits: int, network: nn.Module
) -> Iterator[Result]:
    """One result for each method; the empirical one last, so that it says that this width is done."""
    weights = weights_to_quantize(network)
    start = time.process_time()
    by_layer = {name: compare(weight.detach().cpu(), bits, allow_zeros=True) for name, weight in weights.items()}
    cpu_s = time.process_time() - start
    methods = list(next(iter(by_layer.values())))
    for method in sorted(methods, key=lambda name: name == "empirical"):
        chosen = {name: found[method] for name, found in by_layer.items()}
        gains = np.concatenate([found["empirical"].sqnr_db - found[method].sqnr_db for found in by_layer.values()])
        gains = gains[np.isfinite(gains)]
        short = quantized(network, chosen)
        accuracy = bench.trainer.measure(short)
        yield Result(
            config=config,
            seed=seed,
            bits=bits,
            method=method,
            epoch=settings.epochs,
            top1=accuracy.top1,
            loss=accuracy.loss,
            sqnr_db=sqnr_db(list(chosen.values()), [weights[name].numel() for name in chosen]),
            gain_db=float(gains.mean()),
            least_gain_db=float(gains.min()),
            cpu_s=cpu_s / len(methods),
            top1_renormed=bench.trainer.measure(renormed(short, bench, seed)).top1,
        )


def quantized(network: nn.Module, chosen: Mapping[str, Allocation]) -> nn.Module:
    """A copy whose weights, by the name of their layer, are rounded; batch norm and biases stay."""
    network = copy.deepcopy(network)
    with torch.no_grad():
        for name, weight in weights_to_quantize(network).items():
            if name in chosen:
                weight.copy_(chosen[name].round(weight.detach().cpu()))
    return network


def renormed(network: nn.Module, bench: Workbench, seed: int) -> nn.Module:
    """A copy whose batch norm has mean and variance of a few batches of training images, and all else as it was."""
    network = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    orders = batches(bench.trainer.images, bench.subject.training.batch, RENORM_BATCHES, generator)
    update_bn([bench.images[order] for order in orders], network)
    return network


def sqnr_db(chosen: Sequence[Allocation], counts: Sequence[int]) -> float:
    """Signal to quantization noise ratio of several tensors together in dB; `counts` are their numbers of elements."""
    power = sum(float(one.power.mean()) * count for one, count in zip(chosen, counts, strict=True))
    noise = sum(float(one.mse.mean()) * count for one, count in zip(chosen, counts, strict=True))
    return 10 * float(np.log10(power / noise)) if noise > 0 else float("inf")
