"""The shape of the training loss around a model's weights.

"When Vision Transformers Outperform ResNets without Pre-training or Strong Data Augmentations" (Chen et al., arXiv
2106.01548, section 3 and table 1) compares models by the largest eigenvalue of the Hessian and by the average loss
nearby. The pictures are those of "Visualizing the Loss Landscape of Neural Nets" (Li et al., arXiv 1712.09913).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_vit.graph.flattening import leaves
from keras_vit.training.objectives.scores import gives_logits
from keras_vit.utils.missing import needs
from keras_vit.utils.tables import table

Loss = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Landscape:
    """How sharp the minimum is that a model was trained to.

    Attributes:
        loss: The mean loss of the images.
        eigenvalue: The largest eigenvalue of the Hessian of this loss.
        layer_eigenvalues: The largest eigenvalue of the part of the Hessian that belongs to each layer of the model,
            by the name of the layer. Empty if they were not asked for.
        average_loss: The mean loss over normally distributed changes of the weights, L^N in table 1 of the paper.
    """

    loss: float
    eigenvalue: float
    layer_eigenvalues: dict[str, float]
    average_loss: float

    def to_dict(self) -> dict:
        """Return the attributes as a dictionary of JSON types."""
        return dict(vars(self))

    def __str__(self):
        rows = [
            ("loss", f"{self.loss:.4g}"),
            ("average loss nearby", f"{self.average_loss:.4g}"),
            ("largest eigenvalue of the Hessian", f"{self.eigenvalue:.4g}"),
            *((f"  of {name}", f"{value:.4g}") for name, value in self.layer_eigenvalues.items()),
        ]
        return table(("", "value"), rows)


class LossSurface:
    """The loss of a model on some images, as a function of its trainable weights, which it does not change.

    Args:
        model: A model, in inference mode.
        batches: Batches (images, labels) that all have the same size; the loss is their mean.
        loss: A function of labels and outputs that returns the mean loss of a batch, such as a Keras loss.
    """

    def __init__(self, model: keras.Model, batches: Sequence[tuple[Any, Any]], loss: Loss):
        self.variables = list(model.trainable_variables)
        self._batches = [tuple(map(tf.convert_to_tensor, batch)) for batch in batches]
        self._start = [tf.convert_to_tensor(variable.value) for variable in self.variables]
        self._losses: list[Callable] = []

        @tf.function
        def loss_at(values, images, labels):
            with keras.StatelessScope(list(zip(self.variables, values, strict=True))):
                return tf.cast(loss(labels, model(images, training=False)), values[0].dtype)

        @tf.function
        def product(direction, images, labels):
            with tf.GradientTape() as outer:
                outer.watch(self._start)
                with tf.GradientTape() as inner:
                    inner.watch(self._start)
                    value = loss_at(self._start, images, labels)
                gradients = inner.gradient(value, self._start, unconnected_gradients="zero")
                along = tf.add_n([tf.reduce_sum(g * d) for g, d in zip(gradients, direction, strict=True)])
            return outer.gradient(along, self._start, unconnected_gradients="zero")

        self._loss_at, self._product = loss_at, product

    def loss(self, direction: Sequence[np.ndarray] | None = None, size: float = 1.0) -> float:
        """Return the loss at the weights plus a direction times a number. None is the weights themselves."""
        values = self._start
        if direction is not None:
            values = [v + tf.cast(size * d, v.dtype) for v, d in zip(values, direction, strict=True)]
        return float(np.mean([self._loss_at(values, *batch) for batch in self._batches]))

    def hessian_product(self, direction: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the product of the Hessian with a direction, which has the shapes of the weights."""
        direction = [tf.cast(d, v.dtype) for d, v in zip(direction, self._start, strict=True)]
        products = [self._product(direction, *batch) for batch in self._batches]
        return [np.mean([np.asarray(part) for part in parts], axis=0) for parts in zip(*products, strict=True)]

    def largest_eigenvalue(self, within: Sequence[int] | None = None, *, tolerance: float = 1e-4) -> float:
        """Return the largest eigenvalue of the Hessian, by the Lanczos method.

        Args:
            within: The indices of the variables whose part of the Hessian is meant; all by default.
            tolerance: The relative accuracy.
        """
        with needs("scipy", "eigenvalues of the Hessian", "train"):
            from scipy.sparse.linalg import LinearOperator, eigsh

        shapes = [tuple(v.shape) for v in self._start]
        chosen = list(range(len(shapes))) if within is None else list(within)
        sizes = [int(np.prod(shapes[index])) for index in chosen]
        ends = np.cumsum([0, *sizes])

        def multiply(vector):
            direction = [np.zeros(shape, "float32") for shape in shapes]
            for index, start, end in zip(chosen, ends[:-1], ends[1:], strict=True):
                direction[index] = vector[start:end].reshape(shapes[index]).astype("float32")
            product = self.hessian_product(direction)
            return np.concatenate([product[index].ravel() for index in chosen]).astype("float64")

        total = int(ends[-1])
        if total <= 2:  # The Lanczos method needs more.
            matrix = np.stack([multiply(row) for row in np.eye(total)])
            return float(np.linalg.eigvalsh(matrix)[-1])
        operator = LinearOperator((total, total), matvec=multiply, dtype="float64")
        start = np.random.default_rng(0).normal(size=total)
        return float(eigsh(operator, k=1, which="LA", tol=tolerance, v0=start, return_eigenvectors=False)[0])

    def average_loss(self, deviation: float, samples: int = 10, seed: int = 0) -> float:
        """Return the mean loss over normally distributed changes of the weights.

        Args:
            deviation: The standard deviation of the changes.
            samples: The number of changes.
            seed: Their seed.
        """
        random = np.random.default_rng(seed)
        return float(
            np.mean([self.loss([random.normal(size=v.shape) for v in self._start], deviation) for _ in range(samples)])
        )

    def filter_normalized_directions(self, count: int = 2, seed: int = 0) -> list[list[np.ndarray]]:
        """Return random directions in which each unit has the norm of its weights (arXiv 1712.09913, section 4).

        A unit is the part of a kernel that computes one output. Biases and the scales of norms do not change.
        """
        random = np.random.default_rng(seed)
        return [[_like_the_units(np.asarray(v), random) for v in self._start] for _ in range(count)]

    def grid(self, radius: float = 1.0, steps: int = 21, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Return the losses on a square of the plane of two filter-normalized directions.

        Args:
            radius: Half of the side of the square.
            steps: The number of points along a side.
            seed: The seed of the directions.

        Returns:
            The coordinates (steps,), and the losses (steps, steps); the first axis belongs to the first direction.
        """
        first, second = self.filter_normalized_directions(2, seed)
        places = np.linspace(-radius, radius, steps)
        losses = [
            [self.loss([a * x + b * y for a, b in zip(first, second, strict=True)]) for y in places] for x in places
        ]
        return places, np.array(losses)


def landscape(
    model: keras.Model,
    batches: Sequence[tuple[Any, Any]],
    loss: Loss | None = None,
    *,
    layers: bool = False,
    deviation: float = 0.01,
    samples: int = 10,
    seed: int = 0,
) -> Landscape:
    """Measure how sharp the loss is around a model's weights.

    The largest eigenvalue of the Hessian tells how fast the loss rises in the steepest direction. Sharpness-aware
    minimization (`use_sam`) leads to smaller ones.

    Args:
        model: A classifier, or any model with `loss`. All its trainable weights count.
        batches: Batches (images, labels) of the training data that all have the same size, as the model takes them.
        loss: A function of labels and outputs that returns the mean loss. By default, the cross-entropy with one-hot
            labels, without label smoothing.
        layers: Whether to measure each layer of the model too, which takes longer.
        deviation: The standard deviation of the changes of the weights for the average loss.
        samples: The number of these changes.
        seed: The seed of these changes.
    """
    surface = LossSurface(model, batches, classification_loss(model) if loss is None else loss)
    by_layer = {}
    if layers:
        by_layer = {name: surface.largest_eigenvalue(indices) for name, indices in _of_layers(model, surface.variables)}
    return Landscape(
        loss=surface.loss(),
        eigenvalue=surface.largest_eigenvalue(),
        layer_eigenvalues=by_layer,
        average_loss=surface.average_loss(deviation, samples, seed),
    )


def classification_loss(model: keras.Model) -> keras.losses.Loss:
    """Return the cross-entropy of a classifier's outputs, for one-hot labels."""
    return keras.losses.CategoricalCrossentropy(from_logits=gives_logits(model))


def surface_figure(places: np.ndarray, losses: np.ndarray, title: str = ""):
    """Return a figure of the contours of `LossSurface.grid`."""
    from keras_vit.inspection.figures import new_figure

    figure = new_figure(5, 4)
    axes = figure.subplots()
    contours = axes.contourf(places, places, np.log10(np.maximum(losses.T, 1e-12)), levels=20, cmap="viridis")
    figure.colorbar(contours, label="logarithm of the loss (base 10)")
    axes.plot(0, 0, "w+")
    axes.set(xlabel="first direction", ylabel="second direction", title=title)
    return figure


def _of_layers(model, variables) -> Iterator[tuple[str, list[int]]]:
    places = {id(variable): index for index, variable in enumerate(variables)}
    found: dict[str, list[int]] = {}
    for name, layer in leaves(model):
        indices = [places[id(variable)] for variable in layer.trainable_variables]
        if indices:
            found.setdefault(name.split(".")[0], []).extend(indices)
    yield from found.items()


def _like_the_units(weights, random):
    if weights.ndim <= 1:
        return np.zeros_like(weights)
    direction = random.normal(size=weights.shape)
    axes = tuple(range(weights.ndim - 1))
    wanted, given = (np.sqrt((values**2).sum(axis=axes, keepdims=True)) for values in (weights, direction))
    return (direction * wanted / np.maximum(given, 1e-12)).astype(weights.dtype)
