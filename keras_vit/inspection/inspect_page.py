"""A page that shows what a model computes for an image: predictions, attention, positions and features."""

import functools
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np

from keras_vit.graph.inner_models import without_inner_models
from keras_vit.inspection import figures
from keras_vit.inspection.attention_maps import attention_maps, mean_distances, position_similarity, rollout
from keras_vit.inspection.features import NoSuchPart, PatchGrid, blocks_of, feature_extractor, patch_grid
from keras_vit.models.classes import class_names
from keras_vit.models.info import count_macs
from keras_vit.models.model_images import image_facts, normalizes_images, published_facts
from keras_vit.models.preprocessing import normalize, resize_and_crop
from keras_vit.utils.page import add, add_facts, add_figure, add_section, new_page, write_page
from keras_vit.utils.pictures import open_picture

_MAX_BLOCKS = 12  # In a figure. Of more blocks, this many are shown.


def inspect_image(
    model: keras.Model,
    image: str | os.PathLike,
    output: str | os.PathLike = "inspect.html",
    *,
    like: str | None = None,
    note: str = "",
) -> Path:
    """Write a page that shows what a model computes for an image.

    Args:
        model: A functional or sequential model with one input, built from the layers of keras_vit.
        image: An image file of a format that Pillow reads. Like `keras_vit.preprocess_input`, the page uses its center.
        output: The HTML file to write.
        like: Name of a published model, optionally with a dot and the tag of its weights, that normalizes images in the
            same way. By default the model describes its normalization itself; see
            `keras_vit.models.model_images.image_facts`.
        note: A sentence for the top of the page, such as the origin of the weights.

    Returns:
        The path of the page. For a section that the model has no part for, the page gives the reason.

    Raises:
        FileNotFoundError: If there is no such image.
        ImportError: If matplotlib or Pillow is not installed.
        ValueError: If the image cannot be decoded, or if it is not known how to normalize it.
    """
    output = Path(output)
    if output.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"The name of the page must end in .html; received {str(output)!r}.")
    model = without_inner_models(model)
    if len(model.inputs) != 1:
        raise ValueError(f"{model.name!r} takes {len(model.inputs)} inputs; a page shows a model of one image.")
    picture, images = _read_image(image, model, like)
    view = _View(model, picture, images)

    page, main = new_page(
        f"Inside {model.name}",
        f"What {model.name} computes for {Path(image).name}. {note}".strip(),
        _predictions(model, view.images),
    )
    add_facts(add_section(main, "Model"), _facts(model))
    reasons = {}
    for heading, text, draw in _SECTIONS:
        try:
            figure = draw(view)
        except NoSuchPart as reason:
            reasons[heading] = reason
            continue
        section = add_section(main, heading)
        add(section, "p", text)
        add_figure(section, figure, heading)
    if reasons:
        add_facts(add_section(main, "Not shown"), reasons)
    write_page(output, page)
    return output


class _View:
    """A model and an image, with the results that several figures need."""

    def __init__(self, model, picture, images):
        self.model = model
        self.picture = picture  # (height, width, channels) in [0, 1]
        self.images = images  # The picture as a normalized batch of one.

    @functools.cached_property
    def grid(self) -> PatchGrid:
        return patch_grid(self.model)

    @functools.cached_property
    def attention(self) -> dict[str, np.ndarray]:
        return attention_maps(self.model, self.images)

    def features(self, blocks) -> dict[str, np.ndarray]:
        maps = feature_extractor(self.model, blocks)(self.images, training=False)
        return {name: keras.ops.convert_to_numpy(keras.ops.cast(map[0], "float32")) for name, map in maps.items()}


def _attention(view):
    grid = view.grid
    chosen = _spread(view.attention)
    return figures.attention_figure(view.picture, {name: maps[0] for name, maps in chosen.items()}, grid)


def _rollout(view):
    grid = view.grid
    return figures.overlay_figure(view.picture, rollout(view.attention.values(), grid)[0], "attention rollout")


def _distance(view):
    grid = view.grid
    return figures.distance_figure(mean_distances(view.attention, grid))


def _positions(view):
    return figures.position_figure(position_similarity(view.model))


def _pyramid(view):
    maps = view.features("pyramid")
    if len(maps) < 2:
        raise NoSuchPart(f"All feature maps of {view.model.name!r} have the same size.")
    return figures.feature_figure(view.picture, maps)


def _blocks(view):
    names = [block.name for block in blocks_of(view.model)]
    if not names:
        raise NoSuchPart(
            f"The model {view.model.name!r} has no composite blocks, because it was flattened or fused or is of "
            "another kind."
        )
    return figures.feature_figure(view.picture, view.features(list(_spread(dict.fromkeys(names)))))


_COLORS = (
    "Colors show the first three principal components of the channels: positions of the same color have similar "
    "features."
)

_SECTIONS: tuple[tuple[str, str, Callable], ...] = (
    (
        "Attention",
        "The attention of the class token to each patch, or without a class token the mean over all queries. Blocks "
        "are from left to right, heads from top to bottom. Brighter is more; each map is scaled to its own maximum.",
        _attention,
    ),
    (
        "Attention rollout",
        "The product of the attention of all blocks, averaged over heads and with the residual connections (Abnar and "
        "Zuidema, arXiv 2005.00928): an estimate of how much each patch contributes to the output.",
        _rollout,
    ),
    (
        "Attention distance",
        "The mean distance between a patch and the patches it attends to, weighted by the attention (Dosovitskiy et "
        "al., arXiv 2010.11929, figure 7). Each dot is a head, measured on this image alone.",
        _distance,
    ),
    (
        "Position embeddings",
        "Each tile shows the cosine similarity of the position embedding of one patch to those of all patches "
        "(Dosovitskiy et al., arXiv 2010.11929, figure 7).",
        _positions,
    ),
    (
        "Pyramid",
        f"The last feature map of every stride. {_COLORS}",
        _pyramid,
    ),
    ("Blocks", f"The output of each block. {_COLORS}", _blocks),
)


def _spread(items: Mapping) -> dict:
    """Return the items that a figure has room for, evenly spread from the first to the last."""
    chosen = np.linspace(0, len(items) - 1, min(len(items), _MAX_BLOCKS)).round().astype(int)
    return dict(list(items.items())[index] for index in chosen)


def _read_image(path, model, like):
    """Read the center of an image as `(height, width, channels)` in [0, 1], and as a batch of one for the model."""
    height, width, channels = model.inputs[0].shape[1:]
    facts = image_facts(model) if like is None else published_facts(like)[1]
    opened = open_picture(path, channels)
    pixels = np.asarray(opened).reshape(1, opened.height, opened.width, channels)
    pixels = resize_and_crop(pixels, (height, width), facts.crop_fraction, facts.interpolation)
    images = normalize(pixels, None if normalizes_images(model) else facts.statistics)
    picture, images = map(keras.ops.convert_to_numpy, (pixels[0] / 255, images))
    return picture, images


def _predictions(model, images, count=5):
    """Return the classes with the highest scores as highlights of the page, or none if the output is not scores."""
    scores, *_ = keras.tree.flatten(model(images, training=False))
    if len(scores.shape) != 2:
        return []
    scores = keras.ops.convert_to_numpy(keras.ops.cast(scores, "float32"))
    are_probabilities = np.all(scores >= 0) and np.isclose(scores.sum(), 1, atol=1e-2)
    best = np.argsort(-scores[0])[:count]
    names = class_names(model) or [f"class {index}" for index in range(scores.shape[1])]
    return [(f"{100 * scores[0, i]:.1f} %" if are_probabilities else f"{scores[0, i]:.2f}", names[i]) for i in best]


def _facts(model):
    blocks = len(blocks_of(model))
    return {
        "input": " x ".join(map(str, model.inputs[0].shape[1:])),
        "output": ", ".join(" x ".join(map(str, tensor.shape[1:])) for tensor in model.outputs),
        "parameters": f"{model.count_params():,}",
        "multiply-accumulates": f"{count_macs(model):,} per image",
        **({"blocks": blocks} if blocks else {}),
    }
