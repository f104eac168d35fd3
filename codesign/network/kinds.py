"""Which operations there are: every ATen operation that a network may use belongs to one kind.

A kind says what an operation costs: `codesign/workload/lowering.py` decides by an exhaustive match. What it says about
channels is decided by its name in `rules.py`. Operations that torch makes of others (`linear`, `dropout`) are seen as a
whole.
"""

from __future__ import annotations

from enum import Enum, auto


class OperationKind(Enum):
    """What an operation does."""

    CONVOLUTION = auto()
    LINEAR = auto()  # of the last dimension, by a stored matrix
    PRODUCT = auto()  # of two matrices, of which one may be stored
    ATTENTION = auto()  # softmax(q k') v
    EMBEDDING = auto()
    BATCH_NORM = auto()
    ROW_NORM = auto()
    SOFTMAX = auto()
    DROPOUT = auto()
    ADD = auto()
    MULTIPLY = auto()
    ELEMENTWISE = auto()
    MAX_POOL = auto()
    REDUCE = auto()  # average pools, means, sums, resampling
    CONCATENATE = auto()
    COPY = auto()  # the same numbers in other places, some of them, or with a border
    VIEW = auto()  # the same numbers where they are
    UNKNOWN = auto()  # of unknown cost


_NAMES = {
    OperationKind.CONVOLUTION: """
        conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution _convolution""",
    OperationKind.LINEAR: "linear addmm",
    OperationKind.PRODUCT: "matmul bmm mm",
    OperationKind.ATTENTION: "scaled_dot_product_attention",
    OperationKind.EMBEDDING: "embedding",
    OperationKind.BATCH_NORM: "batch_norm",
    OperationKind.ROW_NORM: "group_norm instance_norm layer_norm rms_norm",
    OperationKind.SOFTMAX: "softmax log_softmax",
    OperationKind.DROPOUT: "dropout feature_dropout alpha_dropout feature_alpha_dropout",
    OperationKind.ADD: "add sub rsub maximum minimum",
    OperationKind.MULTIPLY: "mul div",
    OperationKind.ELEMENTWISE: """
        relu relu6 gelu silu hardswish sigmoid hardsigmoid tanh hardtanh leaky_relu elu selu celu mish softplus
        logsigmoid exp log sqrt rsqrt pow neg abs clamp clamp_min clamp_max reciprocal square sin cos erf tril triu
        where masked_fill prelu glu elementwise softsign tanhshrink""",
    OperationKind.MAX_POOL: "max_pool1d max_pool2d max_pool3d adaptive_max_pool2d",
    OperationKind.REDUCE: """
        avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
        upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_bilinear2d upsample_bicubic2d
        mean sum amax amin var std norm linalg_vector_norm""",
    OperationKind.CONCATENATE: "cat concat concatenate stack",
    OperationKind.COPY: """
        pad constant_pad_nd roll flip repeat repeat_interleave pixel_shuffle pixel_unshuffle channel_shuffle index
        index_select gather""",
    OperationKind.VIEW: """
        view reshape flatten unflatten _unsafe_view view_as reshape_as transpose permute t numpy_T mT movedim swapaxes
        swapdims unsqueeze squeeze expand expand_as slice select narrow split chunk split_with_sizes unbind
        tensor_split clone contiguous to _to_copy type_as detach alias lift_fresh_copy float _reshape_alias lift_fresh""",
}
_KINDS = {name: kind for kind, names in _NAMES.items() for name in names.split()}


# The result is the same whatever the example is.
CREATION = frozenset(
    [
        "zeros_like",
        "ones_like",
        "full_like",
        "empty_like",
        "rand_like",
        "randn_like",
        "new_zeros",
        "new_ones",
        "new_full",
        "new_empty",
        "new_empty_strided",
        "arange",
        "zeros",
        "ones",
        "full",
        "empty",
    ]
)


def kind_of(name: str, *, pointwise: bool) -> OperationKind:
    """The kind of an ATen operation, named without its overload and without trailing underscores.

    pointwise : torch says of it that it works element by element
    """
    return _KINDS.get(name, OperationKind.ELEMENTWISE if pointwise else OperationKind.UNKNOWN)
