"""The names of layers in the names of a file's tensors and nodes."""

from __future__ import annotations

import re
from collections.abc import Collection


def layers_in(name: str, layers: Collection[str]) -> set[str]:
    """Return the layers that the name of a .tflite file's tensor mentions, of some that are known.

    The name has the paths of one operation or several: "model/layer/op;model/other_layer/op".
    """
    return {_layer_of(piece, layers) for piece in re.split(r"[;/]", name)} & set(layers)


def _layer_of(piece: str, layers: Collection[str]) -> str:
    """Return the layer in a piece of a tensor's name, without the number that TensorFlow appends to used names."""
    numbered = re.sub(r"_\d+$", "", piece)
    return numbered if numbered in layers else piece
