"""Products: convolutions, matrix products and attention, and what they say about the channels of both operands.

A contraction is written with a letter per axis, as in `bk,ok->bo`. Channels along the contracted letter of one operand
are the channels along it of the other; channels along any other letter are passed on to the result.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import torch

from codesign.network.labels import Labels, Place, Relations, first, support


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor in a contraction: its labels, a letter per axis, the size of each, and whether it is a weight."""

    labels: Labels
    axes: str
    shape: tuple[int, ...]
    weight: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A contraction of the forward pass, and what its labels are.

    result : labels of the result
    fixed, counted : multiply-accumulates are `fixed` times the number of channels left in each array of `counted`
    outputs : atoms of the output channels, in order, when an operand is a weight (the second, if both are); else None
    """

    place: Place
    result: Labels
    fixed: int
    counted: Labels
    outputs: torch.Tensor | None


def contract(relations: Relations, place: Place, one: Operand, other: Operand, result: str) -> Product:
    """Relate the channels of both operands; the labels of the result have the order of the letters `result`."""
    sizes = dict(zip(one.axes + other.axes, one.shape + other.shape, strict=True))
    letters = sorted(sizes)
    left, right = _lift(one, letters), _lift(other, letters)
    summed: list[torch.Tensor] = []
    for d, letter in enumerate(letters):
        if letter not in result:
            left, left_sum = _split_off(relations, place, left, d)
            right, right_sum = _split_off(relations, place, right, d)
            if left_sum is not None and right_sum is not None:
                relations.equal(left_sum, right_sum, place)
                summed.append(left_sum)
            for alone, counterpart in ((left_sum, right_sum), (right_sum, left_sum)):
                if alone is not None and counterpart is None:
                    relations.pin(alone, place, "the tensor that they are multiplied with has a fixed size")
                    summed.append(alone)
    kept = relations.meet(
        [*left, *right, *_fixed(left, other, letters), *_fixed(right, one, letters)], place, loose=False
    )
    covered = {d for array in (*kept, *summed) for d in support(array)}
    return Product(
        place=place,
        result=tuple(_lower(array, letters, result) for array in kept),
        fixed=prod(sizes[letter] for d, letter in enumerate(letters) if d not in covered),
        counted=(*kept, *summed),
        outputs=_outputs(one, other, result),
    )


def _lift(operand: Operand, letters: list[str]) -> list[torch.Tensor]:
    """Labels with one dimension per letter of the whole contraction."""
    order = [operand.axes.index(letter) for letter in letters if letter in operand.axes]
    shape = [letter in operand.axes for letter in letters]
    lifted = []
    for array in operand.labels:
        sizes = iter(array.permute(order).shape)
        lifted.append(array.permute(order).reshape([next(sizes) if own else 1 for own in shape]))
    return lifted


def _lower(array: torch.Tensor, letters: list[str], result: str) -> torch.Tensor:
    """Back from one dimension per letter to the dimensions of the result; the others have size 1."""
    order = [letters.index(letter) for letter in result]
    summed = [d for d in range(len(letters)) if d not in order]
    return array.permute(order + summed).reshape([array.shape[d] for d in order])


def _split_off(
    relations: Relations, place: Place, arrays: list[torch.Tensor], d: int
) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    """Take what lies along the summed dimension `d` alone; channels that also lie elsewhere leave as whole rows."""
    rest, along = [], None
    for array in arrays:
        if support(array) == {d}:
            along = array
        elif d in support(array):
            rest.append(relations.rows(array, [d], place))
        else:
            rest.append(array)
    return rest, along


def _fixed(arrays: list[torch.Tensor], other: Operand, letters: list[str]) -> list[torch.Tensor]:
    """Atom 0 along every dimension of `other` in which it has no channels but must match the channels of `arrays`."""
    found = []
    for d, letter in enumerate(letters):
        if letter in other.axes and any(d in support(array) for array in arrays):
            size = other.shape[other.axes.index(letter)]
            if not any(other.axes.index(letter) in support(array) for array in other.labels) and size > 1:
                found.append(torch.zeros([size if i == d else 1 for i in range(len(letters))], dtype=torch.int64))
    return found


def _outputs(one: Operand, other: Operand, result: str) -> torch.Tensor | None:
    if not (one.weight or other.weight):
        return None
    weight, data = (other, one) if other.weight else (one, other)
    own = [d for d, letter in enumerate(weight.axes) if letter in result and letter not in data.axes]
    return next((array.reshape(-1) for array in weight.labels if support(array) and support(array) <= set(own)), None)


def convolution(
    relations: Relations,
    place: Place,
    x: Operand,
    weight: Operand,
    *,
    transposed: bool,
    groups: int,
    depthwise: bool,
    positions: int,
) -> Product:
    """A convolution of any dimension; `positions` is the number of places at which the kernel is applied.

    With groups, the same position leaves in every group, so that groups stay equal. When `depthwise`, there is one
    input channel per group, and whole groups leave.
    """
    spatial = range(2, len(x.shape))
    kernel = prod(weight.shape[2:])
    for array in weight.labels:
        if support(array) & set(spatial):
            relations.pin(array, place, "they lie along the kernel's window")
    data = tuple(_without(relations, place, array, spatial) for array in x.labels)
    x = replace(x, labels=tuple(array for array in data if support(array)), axes="bk", shape=x.shape[:2])
    filters = tuple(first(a, spatial).reshape(a.shape[:2]) for a in weight.labels if not support(a) & set(spatial))
    weight = Operand(filters, "ko" if transposed else "ok", weight.shape[:2], True)
    if groups == 1 and not depthwise:
        product = contract(relations, place, x, weight, "bo")
    elif transposed:
        product = _grouped_transposed(relations, place, x, weight, groups, depthwise)
    else:
        product = _grouped(relations, place, x, weight, groups, depthwise)
    result = tuple(array.reshape(*array.shape, *[1 for _ in spatial]) for array in product.result)
    return replace(product, result=result, fixed=product.fixed * kernel * positions)


def _without(relations: Relations, place: Place, array: torch.Tensor, spatial: range) -> torch.Tensor:
    """Labels of shape [batch, channels]: channels along spatial dimensions leave together, or not at all."""
    if support(array) and support(array) <= set(spatial):
        relations.pin(array, place, "a convolution slides along them")
    return relations.rows(array, [d for d in spatial if d in support(array)], place).reshape(array.shape[:2])


def _vector(operand: Operand, d: int) -> torch.Tensor:
    """Channels along dimension `d`, 0 where they are fixed."""
    for array in operand.labels:
        if support(array) == {d}:
            return array.reshape(-1)
    return torch.zeros(operand.shape[d], dtype=torch.int64)


def _batch(relations: Relations, place: Place, x: Operand) -> tuple[Operand, Labels]:
    """Split labels of the batch dimension off; channels that lie along both leave with the batch row."""
    rows, columns = [], []
    for array in x.labels:
        if 0 in support(array):
            rows.append(relations.rows(array, [1], place))
        else:
            columns.append(array)
    return replace(x, labels=tuple(columns)), tuple(rows)


def _grouped(relations: Relations, place: Place, x: Operand, weight: Operand, groups: int, depthwise: bool) -> Product:
    x, rows = _batch(relations, place, x)
    inputs, outputs, within = _vector(x, 1), _vector(weight, 0), _vector(weight, 1)
    batch, per_group = x.shape[0], weight.shape[1]
    if depthwise:
        relations.equal(inputs.repeat_interleave(len(outputs) // groups), outputs, place)
        counted: Labels = (outputs,)
    else:
        heads = relations.tie(inputs.reshape(groups, per_group), [0], place)
        relations.equal(heads.reshape(-1), within, place)
        relations.tie(outputs.reshape(groups, -1), [0], place)
        counted = (outputs, within)
    return Product(place=place, result=(*rows, outputs[None]), fixed=batch, counted=counted, outputs=outputs)


def _grouped_transposed(
    relations: Relations, place: Place, x: Operand, weight: Operand, groups: int, depthwise: bool
) -> Product:
    x, rows = _batch(relations, place, x)
    inputs, own, within = _vector(x, 1), _vector(weight, 0), _vector(weight, 1)
    batch, per_group = x.shape[0], weight.shape[0] // groups
    relations.equal(inputs, own, place)
    if depthwise:
        relations.pin(within, place, "a depthwise convolution loses whole groups")
        outputs = own.repeat_interleave(weight.shape[1])
        counted: Labels = (outputs,)
    else:
        relations.tie(own.reshape(groups, per_group), [0], place)
        outputs = within.repeat(groups)
        counted = (within, own)  # what is summed over stands last
    return Product(place=place, result=(*rows, outputs[None]), fixed=batch, counted=counted, outputs=outputs)


def attention(
    relations: Relations, place: Place, query: Operand, key: Operand, value: Operand, mask: Labels | None, scaled: bool
) -> tuple[Labels, list[Product]]:
    """softmax(query key' / sqrt(size)) value on operands of shape [batch, heads, length, size]; heads leave as a whole.

    `scaled`: the scale is given, and so does not follow the size. With fewer heads of keys and values than of queries,
    each of them serves several queries in a row.
    """
    key, value = (_repeated(operand, query.shape[1]) for operand in (key, value))
    scores = contract(relations, place, query, key, "bhts")
    for array in query.labels:
        if support(array) == {3} and not scaled:
            relations.approximate(array, [3], place)
    if mask is not None:
        relations.meet([*scores.result, *mask], place, loose=True)
    held = Operand(scores.result, "bhts", (*query.shape[:3], key.shape[2]), False)
    mixed = contract(relations, place, held, value, "bhte")
    return mixed.result, [scores, mixed]


def _repeated(operand: Operand, heads: int) -> Operand:
    """Keys or values with their heads repeated as those of the queries that they serve; one head is broadcast."""
    own = operand.shape[1]
    if own in (1, heads):
        return operand
    labels = tuple(a.repeat_interleave(heads // own, 1) if a.shape[1] > 1 else a for a in operand.labels)
    return replace(operand, labels=labels, shape=(operand.shape[0], heads, *operand.shape[2:]))
