"""How a value is stored: which of its axes come first, which are split, and which are merged."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass

from keras_vit.edge.onnx.rearrangement import Rearrangement, Shape, common_parts, grouped, of_parts


@dataclass(frozen=True)
class Layout:
    """A way to store arrays of one rank whose sizes may differ, such as channels first.

    Attributes:
        splits: For each axis the sizes of its parts: (0,) for an axis of any size that stays whole, () for one that
            must be 1.
        order: The indices of all parts in the order in which they are stored.
        groups: The number of parts that each stored axis consists of.
    """

    splits: tuple[Shape, ...]
    order: Shape
    groups: Shape

    def of(self, shape: Shape) -> Rearrangement | None:
        """Return the rearrangement that stores an array of this shape; None if it cannot be stored this way."""
        return _of(self, shape)

    def place(self, axis: int, shape: Shape) -> int | None:
        """Return the stored axis that holds an axis and nothing else; None if there is none.

        Args:
            axis: The axis, not negative.
            shape: The shape of the array.
        """
        if len(self.splits[axis]) != 1:
            return None
        axes = [each for each, split in enumerate(self.splits) for _ in split]
        for place, parts in enumerate(self.stored_parts()):
            held = [axes[part] for part in parts]
            if axis in held:
                return place if all(other == axis or shape[other] == 1 for other in held) else None
        raise AssertionError("Every part is stored somewhere.")

    def places(self, axes: Shape, shape: Shape) -> list[int] | None:
        """Return the stored axes that hold these axes and nothing else; None if there are none."""
        owners = [each for each, split in enumerate(self.splits) for _ in split]
        found = []
        for place, parts in enumerate(self.stored_parts()):
            held = {owners[part] for part in parts if shape[owners[part]] > 1}
            if held and held <= set(axes):
                found.append(place)
            elif held & set(axes):
                return None
        return found

    def stored_parts(self) -> list[Shape]:
        """Return the parts that each stored axis consists of."""
        parts = iter(self.order)
        return [tuple(itertools.islice(parts, count)) for count in self.groups]


@functools.cache
def plain(rank: int) -> Layout:
    """Return the layout that stores arrays as they are."""
    return Layout(((0,),) * rank, tuple(range(rank)), (1,) * rank)


@functools.cache
def layout_like(rearrangement: Rearrangement) -> Layout | None:
    """Return the layout that stores an array of the rearrangement's source shape as its target; None if there is none.

    Axes of size 1 that the rearrangement has nothing to say about must be 1 in every array of this layout.
    """
    source, target = rearrangement.source, rearrangement.target
    by_axis = common_parts(source, rearrangement.parts)
    if by_axis is None:
        return None
    within = grouped(rearrangement.parts, by_axis)
    order = [index for part in rearrangement.order for index in within[part]]
    permuted = [by_axis[index] for index in order]
    stored = common_parts(permuted, target)
    if stored is None:
        return None
    # Boundaries between stored axes may cut through a part.
    pieces = dict(zip(order, grouped(permuted, stored), strict=True))
    in_source = [piece for index in range(len(by_axis)) for piece in pieces[index]]
    sizes = [stored[piece] for piece in in_source]
    splits = tuple(
        (0,) if len(parts) == 1 else tuple(sizes[part] for part in parts) for parts in grouped(source, sizes)
    )
    return Layout(
        splits,
        tuple(in_source.index(piece) for piece in range(len(stored))),
        tuple(len(parts) for parts in grouped(target, stored)),
    )


@functools.lru_cache(maxsize=1 << 16)
def _of(layout: Layout, shape: Shape) -> Rearrangement | None:
    if len(shape) != len(layout.splits):
        return None
    sizes: list[int] = []
    for size, split in zip(shape, layout.splits, strict=True):
        if split == (0,):
            sizes.append(size)
        elif size == 1:
            sizes += [1] * len(split)
        elif split and math.prod(split) == size:
            sizes += split
        else:
            return None
    target = tuple(math.prod(sizes[part] for part in parts) for parts in layout.stored_parts())
    return of_parts(shape, sizes, layout.order, target)
