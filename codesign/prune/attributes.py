"""Numbers that modules keep beside their tensors: `out_channels`, `num_features`, `num_heads`, ...

For torch's own modules they follow from the new shapes. A module of the user's own that writes a size into a reshape is
found by where the pass fails, see `surgery.py`.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd


def sizes_of(module: nn.Module) -> dict[str, Any]:
    """The attributes of a torch module that state its channels, as they are."""
    names: tuple[str, ...]
    match module:
        case _ConvNd():
            names = ("in_channels", "out_channels", "groups")
        case nn.Linear():
            names = ("in_features", "out_features")
        case _NormBase():
            names = ("num_features",)
        case nn.GroupNorm():
            names = ("num_channels", "num_groups")
        case nn.LayerNorm() | nn.RMSNorm():
            names = ("normalized_shape",)
        case nn.Embedding():
            names = ("embedding_dim",)
        case nn.PReLU():
            names = ("num_parameters",)
        case nn.MultiheadAttention():
            names = ("embed_dim", "num_heads", "kdim", "vdim")
        case _:
            names = ()
    return {name: getattr(module, name) for name in names}


def sizes_after(module: nn.Module, span: int | None) -> dict[str, Any]:
    """What these attributes must be, now that the tensors of the module have their new shapes.

    span : channels left along the dimension that a norm works on, where the pass showed it
    """
    match module:
        case _ConvNd():
            return _convolution(module)
        case nn.Linear():
            return {"in_features": module.weight.shape[1], "out_features": module.weight.shape[0]}
        case _NormBase():
            vector = module.weight if module.weight is not None else module.running_mean
            return {} if vector is None else {"num_features": len(vector)}
        case nn.GroupNorm():
            channels = module.num_channels if span is None else span
            per_group = module.num_channels // module.num_groups
            return {"num_channels": channels, "num_groups": channels // per_group}
        case nn.LayerNorm() | nn.RMSNorm():
            if module.weight is not None:
                return {"normalized_shape": tuple(module.weight.shape)}
            only = len(module.normalized_shape) == 1 and span is not None
            return {"normalized_shape": (span,)} if only else {}
        case nn.Embedding():
            return {"embedding_dim": module.weight.shape[1]}
        case nn.PReLU():
            return {"num_parameters": len(module.weight)}
        case nn.MultiheadAttention():
            return _attention(module)
    return {}


def _convolution(module: _ConvNd) -> dict[str, Any]:
    shape = module.weight.shape
    depthwise = module.in_channels == module.groups > 1
    if isinstance(module, _ConvTransposeNd):
        groups = shape[0] if depthwise else module.groups
        return {"in_channels": shape[0], "out_channels": shape[1] * groups, "groups": groups}
    groups = shape[0] * module.groups // module.out_channels if depthwise else module.groups
    return {"in_channels": shape[1] * groups, "out_channels": shape[0], "groups": groups}


def _attention(module: nn.MultiheadAttention) -> dict[str, Any]:
    if module.in_proj_weight is not None:
        rows, width = module.in_proj_weight.shape[0] // 3, module.in_proj_weight.shape[1]
        kdim = vdim = width
    else:
        rows, width = module.q_proj_weight.shape
        kdim, vdim = module.k_proj_weight.shape[1], module.v_proj_weight.shape[1]
    return {"embed_dim": width, "num_heads": rows // module.head_dim, "kdim": kdim, "vdim": vdim}
