"""What a model does with one image, as a page: its answers, its attention, its positions and its features."""

import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np

from keras_vit.graph.rebuilding import as_functional
from keras_vit.inspection import figures
from keras_vit.inspection.attention_maps import attention_maps, mean_distances, position_similarity, rollout
from keras_vit.inspection.features import NoSuchPart, blocks_of, feature_extractor, patch_grid
from keras_vit.models.info import count_macs
from keras_vit.models.preprocessing import image_facts, normalizes_images
from keras_vit.models.registry import variant
from keras_vit.utils.missing import needs
from keras_vit.utils.page import add, add_facts, add_section, new_page, png_address, write_page

_SHOWN = 12  # Blocks in a figure; of more, so many evenly spread ones.


def inspect_image(
    model: keras.Model,
    image: str | os.PathLike,
    output: str | os.PathLike = "inspect.html",
    *,
    like: str | None = None,
    note: str = "",
) -> Path:
    """Writes a page of all that can be seen of a model at work on an image.

    Args:
        model: A functional or sequential model of keras_vit's layers with one input.
        image: A picture's file, of a kind that pillow reads.
        output: The page to write, as HTML.
        like: Name of the published model whose normalization of images is the model's; by default the model's own name.
        note: A sentence to put below the title, such as where the weights are from.

    Returns:
        The path of the page. What the model has no part for is a sentence in it.

    Raises:
        FileNotFoundError: There is no such image.
        ValueError: The image can't be read, or it is not known how the model takes images.
    """
    output = Path(output)
    if output.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"The page's name ends in .html; received {str(output)!r}.")
    model = as_functional(model)
    picture = _picture(image, model.inputs[0].shape)
    images = _as_input(model, picture, like)

    answers = _answers(model, images)
    page, main = new_page(
        f"Inside {model.name}", f"What {model.name} makes of {Path(image).name}. {note}".strip(), answers, _STYLE
    )
    add_facts(add_section(main, "Model"), _facts(model))
    sight = _Sight(model, picture, images)
    absent = {}
    for heading, text, draw in _SECTIONS:
        try:
            figure = draw(sight)
        except NoSuchPart as reason:
            absent[heading] = reason
            continue
        section = add_section(main, heading)
        add(section, "p", text)
        add(add(section, "figure"), "img", src=png_address(_png(figure)), alt=heading)
    if absent:
        add_facts(add_section(main, "Not shown"), absent)
    write_page(output, page)
    return output


class _Sight:
    """A model's view of an image; what several figures need is computed once."""

    def __init__(self, model, picture, images):
        self.model = model
        self.picture = picture
        self.images = images
        self._attention = None

    @property
    def attention(self) -> dict[str, np.ndarray]:
        """On the grid of patches: a model without one has no figure of its attention."""
        self.grid = patch_grid(self.model)
        if self._attention is None:
            self._attention = attention_maps(self.model, self.images)
        return self._attention

    def features(self, blocks) -> dict[str, np.ndarray]:
        maps = feature_extractor(self.model, blocks)(self.images, training=False)
        return {name: keras.ops.convert_to_numpy(keras.ops.cast(map[0], "float32")) for name, map in maps.items()}


def _attention(sight):
    chosen = _spread(sight.attention)
    return figures.attention_figure(sight.picture, {name: a[0] for name, a in chosen.items()}, sight.grid)


def _rollout(sight):
    return figures.rollout_figure(sight.picture, rollout(sight.attention.values(), sight.grid)[0])


def _distance(sight):
    return figures.distance_figure(mean_distances(sight.attention, sight.grid))


def _positions(sight):
    return figures.position_figure(position_similarity(sight.model))


def _pyramid(sight):
    maps = sight.features("pyramid")
    if len(maps) < 2:
        raise NoSuchPart(f"All feature maps of {sight.model.name!r} have one size: it is no pyramid.")
    return figures.feature_figure(sight.picture, maps)


def _blocks(sight):
    names = [block.name for block in blocks_of(sight.model)]
    if not names:
        raise NoSuchPart(f"The model {sight.model.name!r} has no composite blocks; flattening and fusing open them.")
    return figures.feature_figure(sight.picture, sight.features(list(_spread(dict.fromkeys(names)))))


_SECTIONS: tuple[tuple[str, str, Callable], ...] = (
    (
        "Attention",
        "What the class token takes from each patch, or where there is none the mean of all patches: blocks from left "
        "to right, heads from top to bottom. Brighter is more; each picture is scaled to its own largest value.",
        _attention,
    ),
    (
        "Attention rollout",
        "The attention of all blocks multiplied, the mean of their heads and the residual connections included "
        "(Abnar and Zuidema, arXiv 2005.00928): how much of each patch can reach the answer.",
        _rollout,
    ),
    (
        "Attention distance",
        "How far each head looks, weighted by its attention (Dosovitskiy et al., arXiv 2010.11929, figure 7). A dot is "
        "a head, on this image alone.",
        _distance,
    ),
    (
        "Position embeddings",
        "Each tile is a patch's place: how alike its learned position is to those of all others (arXiv 2010.11929, "
        "figure 7).",
        _positions,
    ),
    (
        "Pyramid",
        "The last feature map of every stride. Colours are the three main components of its channels: what has one "
        "colour looks alike to the model.",
        _pyramid,
    ),
    ("Blocks", "The features that each block gives on, coloured in the same way.", _blocks),
)


def _spread(items: Mapping) -> dict:
    """At most so many of a dictionary's items as a figure shows, evenly spread, the first and the last included."""
    chosen = sorted({round(place) for place in np.linspace(0, len(items) - 1, min(len(items), _SHOWN))})
    return dict(list(items.items())[place] for place in chosen)


def _picture(path, shape):
    """The middle of an image at the model's size, (height, width, channels) in [0, 1]."""
    height, width, channels = shape[1:]
    if channels not in (1, 3):
        raise ValueError(f"A picture has 1 or 3 channels; the model takes images of {channels}.")
    with needs("pillow", "reading a picture", "inspect"):
        from PIL import Image, ImageOps
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no image {os.fspath(path)!r}.")
    try:
        with Image.open(path) as file:
            upright = ImageOps.exif_transpose(file).convert("RGB" if channels == 3 else "L")
    except Exception as error:  # What a damaged file raises depends on its kind and on where it is damaged.
        raise ValueError(f"{os.fspath(path)!r} is damaged or no image that pillow reads: {error}") from error
    fitted = ImageOps.fit(upright, (width, height), Image.Resampling.BICUBIC)
    return np.asarray(fitted, "float32").reshape(height, width, channels) / 255


def _as_input(model, picture, like):
    """A picture (height, width, channels) in [0, 1] as a batch of one, normalized as the model was trained."""
    if normalizes_images(model):
        return 255 * picture[np.newaxis]
    statistics = image_facts(model).statistics if like is None else variant(like).statistics
    mean, std = (np.asarray(value, "float32") for value in (statistics.mean, statistics.std))
    return (picture[np.newaxis] - mean) / std


def _answers(model, images, count=5):
    """The highest of a model's class scores, as highlights; none if it gives something else."""
    scores, *_ = keras.tree.flatten(model(images, training=False))
    if len(scores.shape) != 2:
        return []
    scores = keras.ops.convert_to_numpy(keras.ops.cast(scores, "float32"))
    are_probabilities = np.all(scores >= 0) and np.isclose(scores.sum(), 1, atol=1e-2)
    best = np.argsort(-scores[0])[:count]
    return [(f"{100 * scores[0, i]:.1f} %" if are_probabilities else f"{scores[0, i]:.2f}", f"class {i}") for i in best]


def _facts(model):
    blocks = len(blocks_of(model))
    return {
        "input": " x ".join(map(str, model.inputs[0].shape[1:])),
        "output": ", ".join(" x ".join(map(str, tensor.shape[1:])) for tensor in model.outputs),
        "parameters": f"{model.count_params():,}",
        "multiply-accumulates": f"{count_macs(model):,} an image",
        **({"blocks": blocks} if blocks else {}),
    }


def _png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, bbox_inches="tight")
    return buffer.getvalue()


_STYLE = """
section figure { margin-top: 12px; padding: 12px; background: #fff; border: 1px solid var(--line);
  border-radius: 8px; overflow-x: auto; }
section img { display: block; max-width: 100%; margin: auto; }
"""
