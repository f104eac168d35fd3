"""Low-precision training: convolutions, linear layers and matrix products of a network compute in their formats.

Forward, y = conv(A(x), W(w)); backward, with e = E(dL/dy): dL/dx = conv'(e, W(w)), dL/dw = G(conv''(A(x), e)), where A, W,
E and G are the rules of a `Policy`; a clip stops the gradient of x or w (products.py). Master weights, biases, norms and
the optimizer stay float32, except for `round_optimizer_state`; products are summed in float32 unless the policy names an
accumulator.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from codesign.design import DesignPoint
from codesign.errors import ModelError, did_you_mean
from codesign.formats import FloatFormat
from codesign.nn.policy import Memory, Policy, Rounder, Scaling
from codesign.nn.products import accumulated, layer_product, rounded
from codesign.quantize import Rounding, round_scaled

Formats = DesignPoint | Policy | Mapping[str, Policy]  # of a network: by layer, for all, or for the layers named
_ROLES = ("weight", "activation", "error", "gradient")


class Matmul(nn.Module):
    """`a @ b` as a layer, so that `convert` finds it: both operands are activations."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """The matrix product, batched as `torch.matmul`."""
        return a @ b


class _LowPrecision(nn.Module):
    """What all converted layers share; mixed in by `convert`, taken out by `strip`."""

    rounders: Policy  # as converted: random bits and axes of its own

    memories: tuple[Memory | None, ...]  # of each role

    def _now(self) -> tuple[int, tuple[Memory | None, ...]]:
        """The step of the training, which is counted here, and the memories."""
        steps = self._buffers.get("lowp_steps")
        if steps is None:
            return 0, self.memories
        step = int(steps.item())
        if self.training:
            steps += 1
        return step, self.memories

    def _operands(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
        """Both rounded, as nodes of their own; and what rounds the error of a result."""
        r, (step, memory) = self.rounders, self._now()
        master: torch.Tensor = self.weight  # type: ignore[assignment]
        weight = rounded(master, there=r.weight, back=r.gradient, memories=(memory[0], memory[3]), step=step)
        x = rounded(x, there=r.activation, memories=(memory[1], None), step=step)
        return x, weight, partial(rounded, back=r.error, memories=(None, memory[2]), step=step)


class _LowPrecisionConvolution(_LowPrecision):
    """A convolution, transposed or not, of one to three dimensions, that computes in its formats."""

    def forward(self: Any, input: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        """As the plain layer; an output size is for transposed convolutions."""
        result: torch.Tensor
        if input.ndim == self.weight.ndim - 1:
            result = self.forward(input[None], output_size)[0]
            return result
        if self.rounders.accumulator is not None:
            result = self._accumulate(input)
            return result
        if isinstance(self.padding, str) or self.padding_mode != "zeros":
            x, weight, with_error = self._operands(input)
            result = with_error(self._conv_forward(x, weight, self.bias))
            return result
        ends = self.output_padding
        if output_size is not None:
            ends = self._output_padding(
                input, output_size, self.stride, self.padding, self.kernel_size, self.weight.ndim - 2, self.dilation
            )
        return layer_product(
            self, input, (self.stride, self.padding, self.dilation, self.transposed, ends, self.groups)
        )

    @staticmethod
    def _product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, how: Any) -> torch.Tensor:
        result: torch.Tensor = torch.convolution(x, weight, bias, *how)
        return result

    def _gradients(
        self: Any, e: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, wanted: list[bool], how: Any
    ) -> Any:
        bias = [e.shape[1]] if wanted[2] else None
        return torch.ops.aten.convolution_backward.default(e, x, weight, bias, *how, wanted)

    def _accumulate(self: Any, input: torch.Tensor) -> torch.Tensor:
        x, weight, with_error = self._operands(input)
        kernel, dilation, padding, stride = self.kernel_size, self.dilation, self.padding, self.stride
        windows = nn.functional.unfold(x, kernel, dilation, padding, stride)
        n, _, pixels = windows.shape
        columns = windows.transpose(1, 2).reshape(n * pixels, -1)
        y = accumulated(columns, weight.flatten(1).t().contiguous(), self.rounders.accumulator, self.rounders.chunk)
        height = (x.shape[2] + 2 * int(padding[0]) - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
        y = y.reshape(n, height, -1, self.out_channels).permute(0, 3, 1, 2)
        result: torch.Tensor = with_error(y if self.bias is None else y + self.bias[:, None, None])
        return result


class LowPrecisionLinear(_LowPrecision, nn.Linear):
    """A linear layer that computes in its formats; made by `convert`, undone by `strip`."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As `nn.Linear`."""
        fmt = self.rounders.accumulator
        if fmt is None:
            return layer_product(self, input)
        x, weight, with_error = self._operands(input)
        y = accumulated(x.flatten(0, -2), weight.t().contiguous(), fmt, self.rounders.chunk)
        y = y.reshape(*x.shape[:-1], self.out_features)
        return with_error(y if self.bias is None else y + self.bias)

    @staticmethod
    def _product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, how: None) -> torch.Tensor:
        return nn.functional.linear(x, weight, bias)

    @staticmethod
    def _gradients(e: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, wanted: list[bool], how: None) -> Any:
        rows = e.reshape(-1, e.shape[-1])
        return (
            e @ weight if wanted[0] else None,
            rows.t() @ x.reshape(-1, x.shape[-1]) if wanted[1] else None,
            rows.sum(0) if wanted[2] else None,
        )


class LowPrecisionMatmul(_LowPrecision, Matmul):
    """A matrix product of two activations that computes in its formats."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """As `Matmul`; a remembered scale is that of the first operand's history and the second's together."""
        r, (step, memory) = self.rounders, self._now()
        a, b = (rounded(x, there=r.activation, memories=(memory[1], None), step=step) for x in (a, b))
        return rounded(a @ b, back=r.error, memories=(None, memory[2]), step=step)


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_LOW: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: LowPrecisionLinear,
    Matmul: LowPrecisionMatmul,
    **{plain: type(f"LowPrecision{plain.__name__}", (_LowPrecisionConvolution, plain), {}) for plain in _CONVOLUTIONS},
}
_PLAIN = {low: plain for plain, low in _LOW.items()}
_REFUSED = (nn.modules.conv._ConvNd, nn.Bilinear, nn.MultiheadAttention, nn.RNNBase)


def convert(network: nn.Module, how: Formats) -> None:
    """Let every convolution, linear layer and `Matmul` of `network` compute in its formats; parameters and their names
    stay. Rules that remember add buffers `lowp_*` to their layers.

    how : a design point; one policy for all; or a policy by layer name, the others staying as they are

    Layers that are converted already get their formats anew. A layer that `how` names and the network lacks, and
    layers with products of a kind that is not covered, raise `ModelError`, and nothing is changed.
    """
    modules = dict(network.named_modules())
    covered = {name: module for name, module in modules.items() if type(module) in _LOW or type(module) in _PLAIN}
    if isinstance(how, DesignPoint):
        _check_names([name for name, _ in how.formats], covered)
        policies = {name: Policy.of(how.formats_of(name)) for name in covered}
    elif isinstance(how, Policy):
        policies = dict.fromkeys(covered, how)
    else:
        _check_names(list(how), covered)
        policies = dict(how)
    for name, module in modules.items():
        if name not in covered and isinstance(module, _REFUSED):
            raise ModelError(
                f"layer '{name}': low-precision training covers convolutions, Linear and Matmul, not "
                f"{type(module).__name__}"
            )
        policy = policies.get(name)
        for role in ("activation", "error"):
            rule = getattr(policy, role, None)
            if rule is not None and rule.remembers and rule.axis is not None:
                raise ModelError(
                    f"layer '{name}', {role}: a scale that is remembered is one for the tensor; leave axis out"
                )
        if policy is not None and policy.accumulator is not None and not _can_accumulate(module):
            raise ModelError(
                f"layer '{name}': an accumulator is emulated for Linear and Conv2d without groups, with zeros around, "
                f"not for this {type(module).__name__}"
            )
    for name, policy in policies.items():
        module = covered[name]
        _forget(module)
        module.__class__ = _LOW.get(type(module), type(module))
        module.rounders = _seeded(policy, name, module)
        _remember(module)


def strip(network: nn.Module) -> None:
    """Undo `convert`: the same parameters, in float32 layers."""
    for module in network.modules():
        if type(module) in _PLAIN:
            _forget(module)
            module.__class__ = _PLAIN[type(module)]
            del module.rounders, module.memories


def round_optimizer_state(
    optimizer: torch.optim.Optimizer,
    fmt: FloatFormat | str,
    rounding: Rounding = Rounding.NEAREST_EVEN,
    *,
    parameters: Iterable[nn.Parameter] | None = None,
    seed: int = 0,
) -> RemovableHandle:
    """Round momentum or moments to `fmt` after every step, each tensor with the power-of-two scale at which nothing clips.

    parameters : whose state is rounded (all, if None)

    Returns the handle whose `remove()` ends it. Counters of steps are left alone. Stochastic bits depend on the seed, the
    parameter's place and the number of steps since this call.
    """
    fmt = FloatFormat.parse(fmt) if isinstance(fmt, str) else fmt
    only = None if parameters is None else {id(p) for p in parameters}
    done = 0

    def after(opt: torch.optim.Optimizer, _: Any, __: Any) -> None:
        nonlocal done
        place = 0
        for group in opt.param_groups:
            for parameter in group["params"]:
                for value in opt.state.get(parameter, {}).values():
                    if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                        place += 1
                        if only is not None and id(parameter) not in only:
                            continue
                        own = seed ^ place if rounding is Rounding.STOCHASTIC else None
                        value.copy_(round_scaled(value, fmt, rounding, seed=own, step=done))
        done += 1

    return optimizer.register_step_post_hook(after)


def _check_names(names: list[str], covered: Mapping[str, nn.Module]) -> None:
    for name in names:
        if name not in covered:
            raise ModelError(
                f"formats: the network has no convolution or linear layer '{name}'{did_you_mean(name, covered)}"
            )


def _can_accumulate(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return isinstance(module, nn.Linear)


def _seeded(policy: Policy, name: str, module: nn.Module) -> Policy:
    """The policy with random bits of their own for each layer and role, and with the axis of output channels."""
    transposed = isinstance(module, nn.modules.conv._ConvTransposeNd)  # its weights are [in, out, ...]
    for role in _ROLES:
        rule: Rounder = getattr(policy, role)
        if rule.rounding is Rounding.STOCHASTIC:
            rule = replace(rule, seed=rule.seed ^ zlib.crc32(f"{name}/{role}".encode()))
        if transposed and role in ("weight", "gradient") and rule.axis == 0:
            rule = replace(rule, axis=1)
        policy = replace(policy, **{role: rule})  # type: ignore[arg-type]
    return policy


def _remember(module: nn.Module) -> None:
    """The buffers of rules that have a state; a row for each output channel, or one."""
    rules = {role: getattr(module.rounders, role) for role in _ROLES}
    module.memories = tuple(Memory(module, role) if rule.remembers else None for role, rule in rules.items())  # type: ignore[assignment]
    if not any(rule.remembers or rule.rounding is Rounding.STOCHASTIC for rule in rules.values()):
        return
    weight = getattr(module, "weight", None)
    device = None if weight is None else weight.device
    module.register_buffer("lowp_steps", torch.zeros((), dtype=torch.int64, device=device))
    for role, rule in rules.items():
        if not rule.remembers:
            continue
        rows = 1 if rule.axis is None or weight is None else weight.shape[rule.axis]
        if rule.scaling is Scaling.DELAYED:
            state = {"absmax": torch.zeros(rows, rule.every)}
        else:
            state = {"exponent_bits": torch.zeros(rows, dtype=torch.uint8), "scale": torch.zeros(rows)}
        for name, tensor in state.items():
            module.register_buffer(f"lowp_{role}_{name}", tensor.to(device))


def _forget(module: nn.Module) -> None:
    for name in [name for name in module._buffers if name.startswith("lowp_")]:
        del module._buffers[name]
