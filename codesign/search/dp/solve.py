"""The exact front of an additive model: a dynamic program over the layers with Pareto sets as its values.

The state after a layer is the levels of the groups that are *open*: used by a layer already done and by one to come.
A chain has one open group, a residual network two or three, layers without coupling none. For each state the program
keeps all (latency, loss) pairs that no other dominates, so the result is the whole front at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from codesign.search.space import Choice

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# States that the program will hold at once. Above it, couplings are cut (see `Plan.cut`): 4096 states of 2000 labels
# take 0.2 GB.
MOST_STATES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One layer: its cost and loss by (level of in_group, level of out_group, option).

    in_group, out_group : index of a group, or None
    latency_s, loss : shape (in levels or 1, out levels or 1, options)
    """

    in_group: int | None
    out_group: int | None
    latency_s: Floats
    loss: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """A front, fastest first: latency strictly rising, loss strictly falling.

    exact : no pair was dropped to keep within the number of labels
    """

    latency_s: Floats
    loss: Floats
    choices: tuple[Choice, ...]
    exact: bool


@njit(cache=True)
def _merge(lat_a, loss_a, back_a, code_a, count_a, lat_b, loss_b, first_b, count_b, dlat, dloss, code, out):  # type: ignore[no-untyped-def]
    """Non-dominated union of a and (b + (dlat, dloss)), both sorted by rising latency and falling loss."""
    lat_o, loss_o, back_o, code_o = out
    i = j = n = 0
    lowest = np.inf
    while i < count_a or j < count_b:
        if j >= count_b:
            take_a = True
        elif i >= count_a:
            take_a = False
        else:
            other = lat_b[first_b + j] + dlat
            take_a = lat_a[i] < other or (lat_a[i] == other and loss_a[i] <= loss_b[first_b + j] + dloss)
        if take_a:
            if loss_a[i] < lowest:
                lowest = loss_a[i]
                lat_o[n], loss_o[n], back_o[n], code_o[n] = lat_a[i], lowest, back_a[i], code_a[i]
                n += 1
            i += 1
        else:
            loss = loss_b[first_b + j] + dloss
            if loss < lowest:
                lowest = loss
                lat_o[n], loss_o[n], back_o[n], code_o[n] = lat_b[first_b + j] + dlat, loss, first_b + j, code
                n += 1
            j += 1
    return n


@njit(cache=True)
def _thin(lat, loss, back, code, count, keep):  # type: ignore[no-untyped-def]
    """Keep the lowest loss in each of `keep` equal slices of latency, and the fastest label, in place."""
    low, width = lat[0], (lat[count - 1] - lat[0]) / keep
    n = 1
    slice_of_last = -1
    for i in range(1, count):
        here = min(keep - 1, int((lat[i] - low) / width))
        if here == slice_of_last:
            n -= 1
        slice_of_last = here
        lat[n], loss[n], back[n], code[n] = lat[i], loss[i], back[i], code[i]
        n += 1
    return n


@njit(cache=True)
def _advance(lat, loss, starts, moves_of, source, dlat, dloss, codes, keep):  # type: ignore[no-untyped-def]
    """Labels of every new state: moves moves_of[s] to moves_of[s + 1] lead to state s."""
    states = len(moves_of) - 1
    size = 0
    for s in range(states):
        for move in range(moves_of[s], moves_of[s + 1]):
            size = max(size, starts[source[move] + 1] - starts[source[move]])
    room = 4 * max(size, keep) + size + 8
    a = (np.empty(room), np.empty(room), np.empty(room, np.int64), np.empty(room, np.int64))
    b = (np.empty(room), np.empty(room), np.empty(room, np.int64), np.empty(room, np.int64))
    total = 0
    new_starts = np.zeros(states + 1, np.int64)
    new_lat, new_loss = np.empty(states * keep), np.empty(states * keep)
    new_back, new_code = np.empty(states * keep, np.int64), np.empty(states * keep, np.int64)
    thinned = False
    for s in range(states):
        count = 0
        for move in range(moves_of[s], moves_of[s + 1]):
            first = starts[source[move]]
            length = starts[source[move] + 1] - first
            count = _merge(
                a[0], a[1], a[2], a[3], count, lat, loss, first, length, dlat[move], dloss[move], codes[move], b
            )
            a, b = b, a
            if count > 4 * max(size, keep):
                count = _thin(a[0], a[1], a[2], a[3], count, 2 * keep)
                thinned = True
        if count > keep:
            count = _thin(a[0], a[1], a[2], a[3], count, keep - 1)
            thinned = True
        new_lat[total : total + count] = a[0][:count]
        new_loss[total : total + count] = a[1][:count]
        new_back[total : total + count] = a[2][:count]
        new_code[total : total + count] = a[3][:count]
        total += count
        new_starts[s + 1] = total
    return new_lat[:total], new_loss[:total], new_back[:total], new_code[:total], new_starts, thinned


def solve(steps: Sequence[Step], group_loss: Sequence[Floats], *, keep: int = 2000) -> Solution:
    """The front of sum(latency_s) against sum(loss) + sum(group_loss) over all choices.

    group_loss : loss of each level of each group; its length says how many levels there are
    keep : labels per state; the result is exact while no state needs more, and otherwise within 1 / `keep` of the
        range of latencies at each step
    """
    uses = [sorted({g for g in (s.in_group, s.out_group) if g is not None}) for s in steps]
    last_use = {g: t for t, used in enumerate(uses) for g in used}
    lat, loss = np.zeros(1), np.zeros(1)
    starts = np.array([0, 1])
    open_groups: list[int] = []
    trail: list[tuple[Ints, Ints, list[int]]] = []
    exact = True
    for t, step in enumerate(steps):
        fresh = [g for g in uses[t] if g not in open_groups]
        after = sorted(g for g in {*open_groups, *fresh} if last_use[g] > t)
        moves = _moves(step, group_loss, open_groups, fresh, after)
        lat, loss, back, code, starts, thinned = _advance(lat, loss, starts, *moves, max(keep, 3))
        exact &= not thinned
        trail.append((back, code, fresh))
        open_groups = after
    return Solution(latency_s=lat, loss=loss, choices=_choices(trail, steps, group_loss), exact=exact)


def _moves(
    step: Step, group_loss: Sequence[Floats], before: list[int], fresh: list[int], after: list[int]
) -> tuple[Ints, Ints, Floats, Floats, Ints]:
    """Moves from states of the `before` groups to states of the `after` groups, sorted by new state.

    Levels of a group that opens and closes here are options like the formats are: only the non-dominated ones stay.
    The code of a move is option + options x (joint level of the fresh groups).
    """
    groups = sorted({*before, *fresh})
    sizes = [len(group_loss[g]) for g in groups]
    options = step.latency_s.shape[-1]
    own = [g if g is None else groups.index(g) for g in (step.in_group, step.out_group)]
    cost, harm = (_spread(table, own, sizes) for table in (step.latency_s, step.loss))
    level = dict(zip(groups, np.indices(sizes), strict=True))
    for g in fresh:
        harm = harm + group_loss[g][level[g]][..., None]
    code = _joint(fresh, level, group_loss, sizes)[..., None] * options + np.arange(options)
    source = np.broadcast_to(_joint(before, level, group_loss, sizes)[..., None], code.shape).reshape(-1)
    target = np.broadcast_to(_joint(after, level, group_loss, sizes)[..., None], code.shape).reshape(-1)
    cost, harm, code = cost.reshape(-1), harm.reshape(-1), code.reshape(-1)
    order = np.lexsort((harm, cost, source, target))
    source, target, cost, harm, code = source[order], target[order], cost[order], harm[order], code[order]
    good = _undominated(source, target, harm)
    states = math.prod(len(group_loss[g]) for g in after)
    moves_of = np.searchsorted(target[good], np.arange(states + 1))
    return moves_of, source[good], cost[good], harm[good], code[good]


def _spread(table: Floats, own: list[int | None], sizes: list[int]) -> Floats:
    """A (in, out, option) table as an array over all groups at hand and the options."""
    shape = [1] * len(sizes)
    in_axis, out_axis = own
    if in_axis is not None and in_axis == out_axis:  # both sides of the layer are cut together
        table = np.diagonal(table, axis1=0, axis2=1).T[:, None, :]
        out_axis = None
    for axis, size in ((in_axis, table.shape[0]), (out_axis, table.shape[1])):
        if axis is not None:
            shape[axis] = size
    if in_axis is not None and out_axis is not None and in_axis > out_axis:
        table = table.swapaxes(0, 1)
    return np.broadcast_to(table.reshape(*shape, table.shape[-1]), (*sizes, table.shape[-1]))


def _joint(groups: list[int], level: dict[int, Ints], group_loss: Sequence[Floats], sizes: list[int]) -> Ints:
    """Index of the joint level of `groups`, the last one running fastest."""
    index = np.zeros(sizes, np.int64)
    for g in groups:
        index = index * len(group_loss[g]) + level[g]
    return index


@njit(cache=True)
def _undominated(source, target, loss):  # type: ignore[no-untyped-def]
    """Within runs of equal (source, target), sorted by cost: which losses are below all before them."""
    good = np.empty(len(loss), np.bool_)
    lowest = np.inf
    for i in range(len(loss)):
        if i == 0 or source[i] != source[i - 1] or target[i] != target[i - 1]:
            lowest = np.inf
        good[i] = loss[i] < lowest
        lowest = min(lowest, loss[i])
    return good


def _choices(
    trail: list[tuple[Ints, Ints, list[int]]], steps: Sequence[Step], group_loss: Sequence[Floats]
) -> tuple[Choice, ...]:
    """The choice behind every final label, followed back through the steps."""
    label = np.arange(len(trail[-1][0]))
    chosen = np.zeros((len(label), len(group_loss) + len(steps)), np.int64)
    for t in range(len(steps) - 1, -1, -1):
        back, code, fresh = trail[t]
        joint, chosen[:, len(group_loss) + t] = np.divmod(code[label], steps[t].latency_s.shape[-1])
        for g in reversed(fresh):
            joint, chosen[:, g] = np.divmod(joint, len(group_loss[g]))
        label = back[label]
    return tuple(map(tuple, chosen.tolist()))


def widest_state(uses: Sequence[Sequence[int]], levels: Sequence[int]) -> tuple[int, int]:
    """The largest number of joint levels that the program holds at one step, and that step."""
    last_use = {g: t for t, used in enumerate(uses) for g in used}
    open_groups: set[int] = set()
    widest, where = 1, 0
    for t, used in enumerate(uses):
        open_groups |= set(used)
        size = math.prod(levels[g] for g in open_groups)
        if size > widest:
            widest, where = size, t
        open_groups = {g for g in open_groups if last_use[g] > t}
    return widest, where
