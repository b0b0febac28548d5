"""The bases of the layers that are made of other layers."""

import contextlib
import threading
from collections.abc import Iterator

import keras

_mode = threading.local()


@contextlib.contextmanager
def opened() -> Iterator[None]:
    """Make calls of a `Composite` run its parts directly, so that a functional model records each of them."""
    before = getattr(_mode, "open", False)
    _mode.open = True
    try:
        yield
    finally:
        _mode.open = before


class Composite(keras.layers.Layer):
    """Base class of a layer that has no weights itself but is made of other layers, its parts.

    All arithmetic happens in the parts, which are small leaf layers or other composites. So `keras_vit.flatten` can
    turn any model into a flat graph of leaf layers, on which fusing, quantization, export and inspection work without
    knowing the model's family. In `call`, a composite may use only its parts and plain layout operations (reshape,
    transpose, slice).

    The parts of a composite that is created with `trainable=False`, such as one that is loaded, are frozen too. Parts
    that were frozen or made trainable on their own stay so when the composite is saved and loaded.
    """

    def __setattr__(self, name, value):
        # Keras freezes the parts that a layer has when `trainable` is set, not those that it gets later.
        if isinstance(value, keras.layers.Layer) and not self.trainable:
            value.trainable = False
        super().__setattr__(name, value)

    def get_config(self):
        config = super().get_config()
        parts = parts_below(self)
        different = {path: part.trainable for path, part, whole in parts if part.trainable != whole.trainable}
        return {**config, "trainable_parts": different} if different else config

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        different = config.pop("trainable_parts", {})
        composite = super().from_config(config)
        for path, part, _ in parts_below(composite):
            if path in different:
                part.trainable = different[path]
        return composite

    def parts(self) -> dict[str, keras.layers.Layer]:
        """Return the layers that it is made of, by the name of the attribute that holds them."""
        return {name: part for name, part in vars(self).items() if isinstance(part, keras.layers.Layer)}

    def config_at(self, input_shape: tuple, *_) -> dict:
        """Return the configuration for another image size, see `keras_vit.resize_model`."""
        config = self.get_config()
        return {**config, "size": tuple(input_shape[1:3])} if "size" in config else config

    def __call__(self, *args, **kwargs):
        if getattr(_mode, "open", False):
            # The class's own: a training step may have replaced the attribute of this layer.
            return type(self).call(self, *args, **kwargs)
        return super().__call__(*args, **kwargs)


def parts_below(composite: Composite, prefix: str = "") -> Iterator[tuple[str, keras.layers.Layer, Composite]]:
    """Yield the path of each part and of its parts, the part, and the composite that it belongs to; wholes first."""
    for name, part in composite.parts().items():
        yield f"{prefix}{name}", part, composite
        if isinstance(part, Composite):
            yield from parts_below(part, f"{prefix}{name}.")


class SequentialComposite(Composite):
    """Base class of a composite that calls parts one after the other, each on the output of the one before it.

    A subclass passes these parts to `set_sequence` once, in `__init__`.
    """

    def set_sequence(self, parts: dict[str, keras.layers.Layer]) -> None:
        """Set the parts that are called in sequence, by the name of the attribute that holds each, in this order."""
        for name, part in parts.items():
            setattr(self, name, part)
        self._sequence = tuple(parts)

    def sequence(self) -> list[keras.layers.Layer]:
        """Return the parts that are called in sequence."""
        return [getattr(self, name) for name in self._sequence]

    def build(self, input_shape):
        for part in self.sequence():
            part.build(input_shape)
            input_shape = part.compute_output_shape(input_shape)

    def call(self, inputs):
        for part in self.sequence():
            inputs = part(inputs)
        return inputs

    def compute_output_shape(self, input_shape):
        for part in self.sequence():
            input_shape = part.compute_output_shape(input_shape)
        return tuple(input_shape)
