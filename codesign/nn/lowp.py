"""Low-precision training: convolutions, linear layers and matrix products of a network compute in their formats.

Forward, y = conv(A(x), W(w)); backward, with e = E(dL/dy): dL/dx = conv'(e, W(w)), dL/dw = G(conv''(A(x), e)), where A, W,
E and G are the rules of a `Policy`. Rounding passes gradients on unchanged where it did not clip, and stops them where it
did (the straight-through estimator). Master weights, biases, norms and the optimizer stay float32, except for
`round_optimizer_state`; products are summed in float32 unless the policy names an accumulator.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.hooks import RemovableHandle

from codesign.design import DesignPoint
from codesign.errors import ModelError, did_you_mean
from codesign.formats import FloatFormat
from codesign.nn.policy import Memory, Policy, Rounder, Scaling
from codesign.prune import elementwise
from codesign.quantize import Rounding, matmul, round_scaled

_ROLES = ("weight", "activation", "error", "gradient")


class Matmul(nn.Module):
    """`a @ b` as a layer, so that `convert` finds it: both operands are activations."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """The matrix product, batched as `torch.matmul`."""
        return a @ b


class _Rounded(torch.autograd.Function):
    """Identity with rounding on the way forward, on the way back, or on both."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, there: Rounder | None, back: Rounder | None, memories: tuple[Any, Any]
    ) -> torch.Tensor:
        ctx.back, ctx.memory, ctx.mask = back, memories[1], None
        if there is None:
            return x.view_as(x)
        y, ctx.mask = there.with_mask(x, memories[0])
        return y.view_as(x) if y is x else y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (gradient,) = gradients
        if ctx.mask is not None:
            gradient = gradient * ctx.mask
        return (ctx.back(gradient, ctx.memory) if ctx.back else gradient), None, None, None


@elementwise  # what a cut of channels needs to know of it
def rounded(
    x: torch.Tensor,
    *,
    there: Rounder | None = None,
    back: Rounder | None = None,
    memories: tuple[Memory | None, Memory | None] = (None, None),
) -> torch.Tensor:
    """`x` rounded by `there`; its gradient, rounded by `back`. Memories of both, where they remember."""
    result: torch.Tensor = _Rounded.apply(x, there, back, memories)
    return result


class _Product(torch.autograd.Function):
    """a [m, k] times b [k, n] and both gradients, with partial sums rounded."""

    @staticmethod
    def forward(ctx: Any, a: torch.Tensor, b: torch.Tensor, fmt: FloatFormat, chunk: int) -> torch.Tensor:
        ctx.save_for_backward(a, b)
        ctx.fmt, ctx.chunk = fmt, chunk
        result: torch.Tensor = matmul(a, b, fmt, chunk=chunk)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        (e,) = gradients
        a, b = ctx.saved_tensors
        e = e.contiguous()
        return (
            matmul(e, b.t().contiguous(), ctx.fmt, chunk=ctx.chunk),
            matmul(a.t().contiguous(), e, ctx.fmt, chunk=ctx.chunk),
            None,
            None,
        )


class _LowPrecision(nn.Module):
    """What all converted layers share; mixed in by `convert`, taken out by `strip`."""

    rounders: Policy  # as converted: random bits and axes of its own

    def _memories(self) -> dict[str, Memory | None]:
        """A memory for each role; counts this training step."""
        if "lowp_steps" not in self._buffers:
            return dict.fromkeys(_ROLES)
        steps = self.get_buffer("lowp_steps")
        step = int(steps)
        if self.training:
            steps += 1
        return {role: Memory(self, role, step) for role in _ROLES}

    def _low_precision(self, x: torch.Tensor) -> torch.Tensor:
        r, memory = self.rounders, self._memories()
        master: torch.Tensor = self.weight  # type: ignore[assignment]
        weight = rounded(master, there=r.weight, back=r.gradient, memories=(memory["weight"], memory["gradient"]))
        y = self._multiply(rounded(x, there=r.activation, memories=(memory["activation"], None)), weight)
        return rounded(y, back=r.error, memories=(None, memory["error"]))

    def _multiply(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """The plain layer on rounded operands."""
        raise AssertionError("given by each layer")


class LowPrecisionConv2d(_LowPrecision, nn.Conv2d):
    """A convolution that computes in its formats; made by `convert`, undone by `strip`."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As `nn.Conv2d`."""
        return self._low_precision(input)

    def _multiply(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        fmt = self.rounders.accumulator
        if fmt is None:
            return self._conv_forward(x, weight, self.bias)
        kernel, dilation, padding, stride = self.kernel_size, self.dilation, self.padding, self.stride
        windows = nn.functional.unfold(x, kernel, dilation, padding, stride)  # type: ignore[arg-type]
        n, _, pixels = windows.shape
        columns = windows.transpose(1, 2).reshape(n * pixels, -1)
        y = _Product.apply(columns, weight.flatten(1).t().contiguous(), fmt, self.rounders.chunk)
        height = (x.shape[2] + 2 * int(padding[0]) - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
        y = y.reshape(n, height, -1, self.out_channels).permute(0, 3, 1, 2)
        return y if self.bias is None else y + self.bias[:, None, None]


class LowPrecisionLinear(_LowPrecision, nn.Linear):
    """A linear layer that computes in its formats; made by `convert`, undone by `strip`."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """As `nn.Linear`."""
        return self._low_precision(input)

    def _multiply(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        fmt = self.rounders.accumulator
        if fmt is None:
            return nn.functional.linear(x, weight, self.bias)
        y = _Product.apply(x.flatten(0, -2), weight.t().contiguous(), fmt, self.rounders.chunk)
        y = y.reshape(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias


class _LowPrecisionOther(_LowPrecision):
    """A layer with a weight whose product torch itself computes, with the rounded weight in place of its own."""

    def forward(self, input: torch.Tensor, *rest: Any) -> torch.Tensor:
        """As the plain layer; `rest` is the output size of a transposed convolution."""
        self._rest = rest
        return self._low_precision(input)

    def _multiply(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        low = type(self)
        self.__class__ = _PLAIN[low]  # type: ignore[assignment]
        try:
            result: torch.Tensor = functional_call(self, {"weight": weight}, (x, *self._rest))
        finally:
            self.__class__ = low
        return result


class LowPrecisionMatmul(_LowPrecision, Matmul):
    """A matrix product of two activations that computes in its formats."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """As `Matmul`; a remembered scale is that of the first operand's history and the second's together."""
        r, memory = self.rounders, self._memories()
        a, b = (rounded(x, there=r.activation, memories=(memory["activation"], None)) for x in (a, b))
        return rounded(a @ b, back=r.error, memories=(None, memory["error"]))


_LOW: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: LowPrecisionConv2d,
    nn.Linear: LowPrecisionLinear,
    Matmul: LowPrecisionMatmul,
    **{
        plain: type(f"LowPrecision{plain.__name__}", (_LowPrecisionOther, plain), {})
        for plain in (nn.Conv1d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    },
}
_PLAIN = {low: plain for plain, low in _LOW.items()}
_REFUSED = (nn.modules.conv._ConvNd, nn.Bilinear, nn.MultiheadAttention, nn.RNNBase)


def convert(network: nn.Module, how: DesignPoint | Policy | Mapping[str, Policy]) -> None:
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
            del module.rounders


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
