"""The base of every layer that is made of other layers."""

import contextlib
import threading
from collections.abc import Iterator

import keras

_mode = threading.local()


@contextlib.contextmanager
def opened() -> Iterator[None]:
    """While open, calling a `Composite` runs its parts directly, so that a functional model records each of them."""
    before = getattr(_mode, "open", False)
    _mode.open = True
    try:
        yield
    finally:
        _mode.open = before


class Composite(keras.layers.Layer):
    """A layer that owns no weights itself: all arithmetic happens in its parts, small leaf layers or other composites.

    That is what lets `keras_vit.flatten` turn any model into a flat graph of leaves, on which folding, quantization,
    export and the look inside a model all work without knowing the family. In `call`, a composite may use its parts
    and plain layout operations (reshape, transpose, slice) and nothing else.
    """

    def parts(self) -> dict[str, keras.layers.Layer]:
        """The layers it is made of, by the name of the attribute that holds them."""
        return {name: part for name, part in vars(self).items() if isinstance(part, keras.layers.Layer)}

    def config_at(self, input_shape: tuple, *_) -> dict:
        """The configuration for another image size, see `keras_vit.resize_model`: a map's size is its input's."""
        config = self.get_config()
        return {**config, "size": tuple(input_shape[1:3])} if "size" in config else config

    def __call__(self, *args, **kwargs):
        if getattr(_mode, "open", False):
            return self.call(*args, **kwargs)
        return super().__call__(*args, **kwargs)
