"""Train a model whose kernels become sparse: the smallest weights are set to zero and stay zero."""

import keras
import numpy as np
import tensorflow as tf

from keras_vit.graph.flattening import leaves
from keras_vit.utils.tfmot import tfmot

_PATTERNS = ("magnitude", "2:4")
_KINDS = (keras.layers.Dense, keras.layers.Conv2D)


class Prune(keras.callbacks.Callback):
    """Set the smallest weights of dense layers' and convolutions' kernels to zero during training.

    The masks are those of tensorflow-model-optimization. With "magnitude", the sparsity of each kernel grows by the
    cubic schedule of Zhu and Gupta (arXiv 1710.01878, section 3), and a weight that was set to zero can return while it
    grows. With "2:4", two of four neighboring weights of an output are zero from the beginning of the pruning on
    (Mishra et al., arXiv 2104.08378). Biases, depthwise convolutions, normalizations and embeddings are not pruned.

    Zeros make a compressed file smaller, not the file itself, and no runtime that keras_vit measures computes faster
    with them. Prune the model that is exported: a fused one (`keras_vit.fuse`), or a quantized one, which is fused.
    Fusing afterwards subtracts means from kernels, which fills zeros.

    Args:
        sparsity: The fraction of zeros at the end, for "magnitude". Always 0.5 for "2:4".
        pattern: "magnitude" or "2:4".
        begin: When pruning begins, as a fraction of the training.
        end: From when on the masks stay the same, as a fraction of the training.
        every_steps: Number of steps between two updates of the masks.

    Raises:
        ValueError: A setting is out of range; or, at the beginning of the training, the model has nothing to prune or
            the optimizer keeps a moving average of the weights, which would not be sparse.
        ImportError: tensorflow-model-optimization is not installed. The message gives the pip command.
    """

    def __init__(
        self,
        sparsity: float = 0.5,
        pattern: str = "magnitude",
        *,
        begin: float = 0.0,
        end: float = 0.5,
        every_steps: int = 10,
    ):
        super().__init__()
        if pattern not in _PATTERNS:
            raise ValueError(f"pattern must be one of {_PATTERNS}; received {pattern!r}.")
        if not 0 < sparsity < 1 or (pattern == "2:4" and sparsity != 0.5):
            raise ValueError(f"sparsity must be above 0 and below 1, and 0.5 for '2:4'; received {sparsity!r}.")
        if not 0 <= begin < end <= 1:
            raise ValueError(f"begin and end must be 0 <= begin < end <= 1; received begin={begin}, end={end}.")
        if every_steps < 1:
            raise ValueError(f"every_steps must be at least 1; received {every_steps}.")
        self.sparsity, self.pattern = sparsity, pattern
        self.begin, self.end, self.every_steps = begin, end, every_steps

    def on_train_begin(self, logs=None):
        if getattr(self.model.optimizer, "ema_decay", None) or getattr(self.model.optimizer, "use_ema", False):
            raise ValueError("Prune needs an optimizer without a moving average of the weights: pass ema_decay=None.")
        kernels = [layer.kernel for _, layer in leaves(self.model) if isinstance(layer, _KINDS) and layer.trainable]
        self._kernels = {id(kernel): kernel for kernel in kernels if _is_prunable(kernel)}
        if not self._kernels:
            raise ValueError(f"{self.model.name} has no trainable dense layer or convolution to prune.")
        steps = self.params["epochs"] * self.params["steps"]
        self._first, self._last = int(self.begin * steps), max(int(self.end * steps), 1)
        schedule = tfmot(tf, "sparsity.keras.pruning_schedule", "pruning").PolynomialDecay(
            0.0, self.sparsity, self._first, self._last, frequency=self.every_steps
        )
        implementation = tfmot(tf, "sparsity.keras.pruning_impl", "pruning")
        self._pruning = implementation.Pruning(
            lambda: tf.constant(self._step),
            lambda: [],
            schedule,
            [1, 1],
            "AVG",
            (2, 4) if self.pattern == "2:4" else None,
        )
        # Of a run that is continued, the zeros are the mask.
        self._masks = {key: tf.cast(kernel != 0, tf.float32) for key, kernel in self._kernels.items()}

    def on_train_batch_end(self, batch, logs=None):
        self._step = int(self.model.optimizer.iterations)
        if self._step < self._first:
            return
        due = (self._step - self._first) % self.every_steps == 0 or self._step == self._last
        for key, kernel in self._kernels.items():
            if due and self._step <= self._last:
                weights = tf.convert_to_tensor(kernel)
                self._masks[key] = self._pruning._maybe_update_block_mask(weights)[1]
            kernel.assign(kernel * tf.cast(self._masks[key], kernel.dtype))


def _is_prunable(kernel) -> bool:
    """Return whether a kernel has several inputs for each output."""
    return len(kernel.shape) in (2, 4) and np.prod(kernel.shape[:-1]) > 1
