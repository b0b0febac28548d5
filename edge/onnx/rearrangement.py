"""Reshapes and transposes as one thing: splitting axes, permuting the parts, and merging them again.

A chain of reshapes and transposes becomes a single `Rearrangement`, so that what cancels disappears by itself.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Rearrangement:
    """A way to move the elements of an array: reshape to `parts`, transpose by `order`, reshape to `target`.

    Attributes:
        source: The shape before.
        parts: The sizes of the parts, whose product is that of `source`. None is 1, and no two parts that stay next to
            each other in the same order are separate.
        order: The permutation of the parts. It is the identity for a plain reshape, which then has at most one part.
        target: The shape after.
    """

    source: Shape
    parts: Shape
    order: Shape
    target: Shape

    @property
    def is_reshape(self) -> bool:
        """Whether the elements stay in their order."""
        return len(self.order) <= 1

    @property
    def is_identity(self) -> bool:
        """Whether nothing changes at all."""
        return self.is_reshape and self.source == self.target

    @functools.cached_property
    def permuted(self) -> Shape:
        """The sizes of the parts after the transpose."""
        return tuple(self.parts[part] for part in self.order)

    def __call__(self, array: np.ndarray) -> np.ndarray:
        """Return a rearranged array."""
        return array.reshape(self.parts).transpose(self.order).reshape(self.target)


@functools.cache
def reshape(source: Shape, target: Shape) -> Rearrangement:
    """Return the rearrangement that keeps the elements in their order."""
    if math.prod(source) != math.prod(target):
        raise ValueError(f"An array of shape {source} cannot be reshaped to {target}.")
    return of_parts(source, (math.prod(source),), (0,), target)


def identity(shape: Shape) -> Rearrangement:
    """Return the rearrangement that changes nothing."""
    return reshape(shape, shape)


@functools.cache
def transpose(source: Shape, axes: Shape) -> Rearrangement:
    """Return the rearrangement that permutes the axes, as `numpy.transpose` does."""
    return of_parts(source, source, axes, tuple(source[axis] for axis in axes))


def swap_last(source: Shape) -> Rearrangement:
    """Return the rearrangement that exchanges the last two axes."""
    last = len(source) - 1
    return transpose(source, (*range(last - 1), last, last - 1))


def of_parts(source: Shape, parts: Sequence[int], order: Sequence[int], target: Shape) -> Rearrangement:
    """Return a rearrangement with as few parts as possible.

    Args:
        source: The shape before.
        parts: The sizes of the parts, in the order in which they lie in the source.
        order: The indices of the parts in the order in which they lie in the target.
        target: The shape after.
    """
    order = [part for part in order if parts[part] != 1]
    runs: list[list[int]] = []  # Parts that lie next to each other before and after.
    following = dict(itertools.pairwise(sorted(order)))
    for part in order:
        if runs and following.get(runs[-1][-1]) == part:
            runs[-1].append(part)
        else:
            runs.append([part])
    before = sorted(range(len(runs)), key=lambda run: runs[run][0])
    sizes = [math.prod(parts[part] for part in run) for run in runs]
    return Rearrangement(
        tuple(source),
        tuple(sizes[run] for run in before),
        tuple(before.index(run) for run in range(len(runs))),
        tuple(target),
    )


def nodes_of(rearrangement: Rearrangement) -> tuple[Shape, Shape, Shape]:
    """Return how to do a rearrangement with as few reshapes as possible.

    Returns:
        (before, axes, after): The shape to reshape to, the axes to transpose it by, and the shape that this gives.
        one can choose, `before` is the source or `after` the target.
    """
    back = _to_target(inverse(rearrangement))
    ways = [
        (rearrangement.parts, rearrangement.order, rearrangement.permuted),
        _to_target(rearrangement),
        back and (back[2], tuple(back[1].index(axis) for axis in range(len(back[1]))), back[0]),
    ]
    source, target = rearrangement.source, rearrangement.target
    return min(filter(None, ways), key=lambda way: (way[0] != source) + (way[2] != target))


def common_parts(*factorizations: Sequence[int]) -> Shape | None:
    """Return the coarsest sizes into which all these factorizations of one number can be split; None if there are none.

    For example (6, 4) and (2, 12) give (2, 3, 4), but (2, 3) and (3, 2) give None.
    """
    strides = sorted({stride for sizes in factorizations for stride in _strides(sizes)}, reverse=True)
    if any(above % below for above, below in itertools.pairwise(strides)):
        return None
    return tuple(above // below for above, below in itertools.pairwise(strides))


def grouped(sizes: Sequence[int], parts: Sequence[int]) -> list[list[int]]:
    """Return for each size the indices of the parts that it consists of. No part is 1, and each divides a size."""
    groups: list[list[int]] = []
    following = 0
    for size in sizes:
        group: list[int] = []
        while math.prod(parts[part] for part in group) < size:
            group.append(following)
            following += 1
        groups.append(group)
    return groups


@functools.cache
def inverse(rearrangement: Rearrangement) -> Rearrangement:
    """Return the rearrangement that undoes another one."""
    back = [rearrangement.order.index(part) for part in range(len(rearrangement.order))]
    return Rearrangement(rearrangement.target, rearrangement.permuted, tuple(back), rearrangement.source)


@functools.lru_cache(maxsize=1 << 16)
def compose(first: Rearrangement, second: Rearrangement) -> Rearrangement | None:
    """Return `first` followed by `second` as one; None if their parts do not fit into each other."""
    if second.is_reshape:
        return Rearrangement(first.source, first.parts, first.order, second.target)
    if first.is_reshape:
        return Rearrangement(first.source, second.parts, second.order, second.target)
    common = common_parts(first.permuted, second.parts)
    if common is None:
        return None
    # The common parts lie in the middle; `of_first[i]` are those within part i of the first rearrangement.
    within = grouped(first.permuted, common)
    of_first = {part: within[place] for place, part in enumerate(first.order)}
    in_source = [index for part in range(len(first.parts)) for index in of_first[part]]
    of_second = grouped(second.parts, common)
    in_target = [index for part in second.order for index in of_second[part]]
    return of_parts(
        first.source,
        [common[index] for index in in_source],
        [in_source.index(index) for index in in_target],
        second.target,
    )


def chain(steps: Iterable[Rearrangement]) -> list[Rearrangement]:
    """Return the shortest list of rearrangements that does the same as these steps, one after the other."""
    result: list[Rearrangement] = []
    for step in steps:
        joined = compose(result[-1], step) if result else step
        if joined is None:
            result.append(step)
        else:
            result[-1:] = [joined]
    return result


def _to_target(rearrangement: Rearrangement) -> tuple[Shape, Shape, Shape] | None:
    """Return `nodes_of` a rearrangement with `after` equal to the target; None if the target's axes are not parts."""
    target = rearrangement.target
    pieces = tuple(size for size in target if size != 1)
    if common_parts(rearrangement.permuted, pieces) != pieces:
        return None
    within = dict(zip(rearrangement.order, grouped(rearrangement.permuted, pieces), strict=True))
    in_source = [piece for part in range(len(rearrangement.parts)) for piece in within[part]]
    ones = target.count(1)
    one, piece = itertools.count(), itertools.count()
    axes = tuple(next(one) if size == 1 else ones + in_source.index(next(piece)) for size in target)
    return (1,) * ones + tuple(pieces[index] for index in in_source), axes, target


def _strides(sizes: Sequence[int]) -> list[int]:
    """Return the number of elements after each boundary between two sizes, and before the first."""
    strides = [1]
    for size in reversed(sizes):
        strides.append(strides[-1] * size)
    return strides
