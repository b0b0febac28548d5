"""The comparison of a file with its model that is part of every export."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_vit.edge.devices.computation import matching, of_file, of_model
from keras_vit.edge.devices.layer_by_layer import layer_differences, parting
from keras_vit.edge.devices.opening import open_file
from keras_vit.edge.devices.verify import Comparison
from keras_vit.edge.inputs import input_batches, model_inputs
from keras_vit.edge.quantization.fake_quant import FakeQuant, QuantizationScheme
from keras_vit.edge.quantization.quantize import is_quantized
from keras_vit.edge.quantization.schemes import SCHEMES, Scheme
from keras_vit.graph.factors import only_records_facts, scale_and_shift
from keras_vit.graph.flat_graph import Graph, Tensor
from keras_vit.graph.flattening import leaves
from keras_vit.graph.reading import as_functional
from keras_vit.layers import Preprocessing
from keras_vit.utils.normalization import scale_and_offset

# The least signal-to-noise ratio in dB of a file's outputs to those of its model, by the type of the kernels. Files
# that are right have about twice as many; one in which a layer computes with the range of another has less than 3. A
# float model, which has not learned to be rounded, can lose that much by kernels of four bits.
_LIMITS = {"float32": 50, "float16": 30, "int8": 10, "int4": 10}
_LIMIT_OF_UNTRAINED_INT4 = 1
# The rounding of float16 and bfloat16 in the model, whose file computes in float32, leaves fewer.
_LIMIT_OF_HALF_PRECISION = 15

_SAMPLES = 2


class SelfCheck:
    """What a model computes, to be compared with what its file computes.

    It holds outputs and not the model, which can be released while it is converted.

    Args:
        model: The model that the file must agree with.
        scheme: The scheme of the file, for the limit.
        images: What to compute on, of which the first two samples are used; None for what `sample_inputs` returns.
    """

    def __init__(self, model: keras.Model, scheme: Scheme, images: Any):
        computation = of_model(model)
        if images is None:
            batches = input_batches(sample_inputs(model), computation.inputs, _SAMPLES)
        else:
            batches = input_batches(images, computation.inputs, _SAMPLES, model)
        values, _ = next(batches)
        self._values = [value[:_SAMPLES] for value in values]
        self._outputs = computation.run(self._values)
        self._reference = dataclasses.replace(computation, run=lambda values: self._outputs)
        self._precision = scheme.name
        self._limit = _limit(model, scheme)

    def check(self, file: str | os.PathLike, model: Callable[[], keras.Model | None]) -> None:
        """Compare the outputs of a file with those of the model.

        Args:
            file: The file.
            model: Returns the model, to find the layer at which the file parts from it; None if it is not known any
                more.

        Raises:
            RuntimeError: They differ by more than the limit of the precision.
        """
        with open_file(file) as interpreter:
            interpreter.allocate()
            outputs = matching(of_file(interpreter), self._reference).run(self._values)
        comparison = Comparison("the file")
        comparison.add(self._outputs, outputs, None)
        snr = comparison.result().snr_db
        if not snr >= self._limit:  # Also if it is not a number.
            raise RuntimeError(
                f"The outputs of the {self._precision} file are not those of the model: their signal-to-noise ratio "
                f"over {len(self._values[0])} images is {snr:.1f} dB, where at least {self._limit} dB are needed."
                f"{self._where(file, model())} No file was written. If these images are unsuited to the model, pass "
                "others as `verify`; `verify=False` writes the file without the comparison."
            )

    def _where(self, file: str | os.PathLike, model: keras.Model | None) -> str:
        """Return a sentence about the layer at which the file parts from the model."""
        if model is None:
            return ""
        values = dict(zip((name for name, _ in self._reference.inputs), self._values, strict=True))
        found = parting(layer_differences(model, file, values))
        return f" They part at the layer {found}." if found else " No layer of the file falls below 20 dB."


def _limit(model: keras.Model, scheme: Scheme) -> float:
    kernels = {SCHEMES[name].weights for name in scheme.overrides.values()} | {scheme.weights}
    limit = min(_LIMITS[weights] for weights in kernels)
    if any(layer.compute_dtype in ("float16", "bfloat16") for _, layer in leaves(model)):
        limit = min(limit, _LIMIT_OF_HALF_PRECISION)
    return min(limit, _LIMIT_OF_UNTRAINED_INT4) if "int4" in kernels and not is_quantized(model) else limit


def sample_inputs(model: keras.Model, count: int = _SAMPLES) -> dict[str, np.ndarray]:
    """Return random values for each input of a model, in the range that the model is known to take.

    For a quantized model, this is the range of the first grid behind the input. For a float model of keras_vit, it is
    that of images from 0 to 255, normalized as the model's. For others, it is -1 to 1, or 0 to 255 for integers.

    Args:
        model: A functional or sequential model.
        count: The number of samples.

    Returns:
        An array (count, ...) for each input, by its name: smooth images if its shape is that of an image, normally
        distributed numbers otherwise.
    """
    model = as_functional(model)
    random = np.random.default_rng(0)
    samples = {}
    for (name, _), tensor in zip(model_inputs(model), Graph(model).inputs, strict=True):
        shape = [size or 1 for size in tensor.shape[1:]]
        lowest, highest = _range(tensor) or ((-1, 1) if "float" in tensor.dtype else (0, 255))
        if len(shape) == 3:
            values = _smooth(random, (count, *shape))
        else:
            values = (random.normal(size=(count, *shape)).clip(-3, 3) + 3) / 6
        samples[name] = (lowest + (highest - lowest) * values).astype("float32")
    return samples


def _smooth(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return random images with values from 0 to 1 that vary slowly, as those of photographs do."""
    coarse = random.random((shape[0], *(min(size, 4) for size in shape[1:3]), shape[3]))
    images = keras.ops.image.resize(coarse, shape[1:3], "bilinear", data_format="channels_last")
    return keras.ops.convert_to_numpy(images)


def _range(tensor: Tensor) -> tuple | None:
    """Return the lowest and the highest value of an input that a model is known to take; None if they are not known."""
    for node in (user.node for user in tensor.users if user.node is not None):
        if node.is_a(FakeQuant):
            return node.source.range
        facts = only_records_facts(node)
        passes = facts or node.is_a(QuantizationScheme)
        found = (np.float32(1), np.float32(0)) if passes else scale_and_shift(node)
        after = None if found is None else _range(node.calls[0].outputs[0])
        if found is not None and after is not None and np.all(found[0]):
            return tuple((bound - found[1]) / found[0] for bound in after)
        if facts:
            values = scale_and_offset(node.source.mean, node.source.std, node.inputs[0].shape[-1])
            scale, offset = (np.asarray(each, "float32") for each in values)
            return offset, offset + 255 * scale
        if node.is_a(Preprocessing):
            return 0, 255
    return None
