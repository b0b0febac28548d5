"""Train models with a fixed image size on batches of several image sizes."""

import functools
from collections.abc import Iterator

import keras
import tensorflow as tf

from keras_vit.graph.flattening import leaves
from keras_vit.graph.rebuilding import as_functional
from keras_vit.graph.resizing import resize_model
from keras_vit.training.steps.stateless import FunctionLayer, call_with_values
from keras_vit.training.steps.step import Override, StepOptions, change_step


def train_at_sizes(model: keras.Model, sizes: tuple[int | tuple[int, int], ...]) -> None:
    """Train a model on images of several sizes in `model.fit`, such as those of `MultiScale`.

    MobileViT (Mehta and Rastegari, arXiv 2110.02178, section 3.2) and EfficientViT from MIT are trained in this way.
    The model is rebuilt for each size (see `keras_vit.resize_model`), but all sizes share the variables of `model`:
    its weights, the statistics of batch normalization and the random states.

    Compile, fit and save the model as usual. The sizes are not saved: a loaded or cloned model only accepts its own
    size. `restore_step` undoes the change. The size of a batch may be unknown until run time, as in the shape (None,
    None, None, 3). The function can be combined with `use_sam`, `distill` and `recompute`. Each additional size needs
    memory for an unused copy of the weights. On several replicas, batch normalization can't be synchronized.

    Args:
        model: A functional or sequential model that takes images. None of its weights may depend on the image size, as
            those of position embeddings do.
        sizes: The image sizes in pixels: (height, width), or a single number for square images. The model's own size
            is always included.

    Raises:
        TypeError: If the model is neither functional nor sequential.
        ValueError: If a size is invalid, the model does not work at a size, or it has weights that depend on the size.
    """
    change_step(model, sizes=Sizes(model, sizes))


class Sizes:
    """The option of a training step that `train_at_sizes` sets.

    Attributes:
        other_models: The model rebuilt at each of the other sizes.
    """

    def __init__(self, model: keras.Model, sizes: tuple[int | tuple[int, int], ...]):
        own = tuple(as_functional(model).inputs[0].shape[1:])
        layers = list(leaves(model))
        dependent = [name for name, layer in layers if hasattr(layer, "weights_from")]
        if dependent:
            raise ValueError(
                f"{model.name} can't be trained at several sizes: the weights of {', '.join(dependent[:5])} depend on "
                "the size of the images. Train it at one size, and use keras_vit.resize_model."
            )
        self._channels = own[2]
        self._own_call = functools.partial(type(model).call, model)
        self._variables = [variable for _, layer in layers for variable in layer.variables]
        own_layer = FunctionLayer(lambda inputs, training: self._own_call(*inputs, training=training), model.name)
        # By size: a layer that computes the model, and its variables in the order of those of the original model.
        self._at_size = {own[:2]: (own_layer, self._variables)}
        self.other_models = []
        for size in sizes:
            height, width = (size, size) if isinstance(size, int) else size
            if (height, width) not in self._at_size:
                other = resize_model(model, (height, width, own[2]))
                self.other_models.append(other)
                self._at_size[height, width] = other, _same_variables(self._variables, other, model)

    def overrides(self, model: keras.Model, options: StepOptions) -> Iterator[Override]:
        layer = FunctionLayer(functools.partial(self._call, model), model.name)
        # Set a function, because Keras would track a layer as a part of the model.
        yield Override(model, "call", lambda inputs, training=None, mask=None: layer(inputs, training=bool(training)))
        yield Override(model, "input_spec", keras.layers.InputSpec(shape=(None, None, None, self._channels)))

    def _call(self, model, inputs, training):
        (images,) = keras.tree.flatten(inputs)
        if isinstance(images, keras.KerasTensor):
            return self._own_call(images, training=training)
        if training and tf.distribute.get_strategy().num_replicas_in_sync > 1:
            _check_not_synchronized(model)
        values = [tf.convert_to_tensor(variable.value) for variable in self._variables]
        outputs, new = self._outputs(model.name, images, values, training)
        for index, value in new.items():
            self._variables[index].assign(value)
        return outputs

    def _outputs(self, name, images, values, training):
        """Return the outputs for images of one of the sizes, and the new values of variables by index."""
        message = f"{name} is trained at {', '.join(f'{height} x {width}' for height, width in self._at_size)}"
        size = tuple(images.shape[1:3])
        if None not in size:
            if size not in self._at_size:
                raise ValueError(f"{message}; received images of {size[0]} x {size[1]}.")
            layer, variables = self._at_size[size]
            return call_with_values(layer, (images,), variables, values, training)

        traced = {}  # The structure of the outputs and the indices of new values are the same at all sizes.

        def branch(size, layer, variables):
            def run():
                of_size = tf.ensure_shape(images, (None, *size, self._channels))
                outputs, new = call_with_values(layer, (of_size,), variables, values, training)
                traced.update(outputs=outputs, indices=list(new))
                return [*keras.tree.flatten(outputs), *new.values()]

            return run

        fits = tf.reduce_all(tf.constant(list(self._at_size)) == tf.shape(images)[1:3], axis=1)
        received = [f"{message}; received images of the shape", tf.shape(images)]
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_any(fits), received)]):
            choice = tf.argmax(tf.cast(fits, tf.int32), output_type=tf.int32)
        branches = [branch(size, *at_size) for size, at_size in self._at_size.items()]
        results = tf.nest.flatten(tf.switch_case(choice, branches))
        count = len(results) - len(traced["indices"])
        outputs = keras.tree.pack_sequence_as(traced["outputs"], results[:count])
        return outputs, dict(zip(traced["indices"], results[count:], strict=True))


def _same_variables(variables, other, model):
    """Return the variables of the resized model in the order of the given variables, after checking their shapes."""
    others = [variable for _, layer in leaves(other) for variable in layer.variables]
    for variable, same in zip(variables, others, strict=True):
        if variable.shape != same.shape:
            raise ValueError(
                f"{model.name} can't be trained at several sizes: {variable.path} has shape {tuple(variable.shape)} "
                f"at its own size and {tuple(same.shape)} at another."
            )
    return others


def _check_not_synchronized(model):
    # TensorFlow can't synchronize replicas within a conditional branch of a graph.
    for name, layer in leaves(model):
        if getattr(layer, "synchronized", False):
            raise ValueError(
                f"{model.name} can't be trained at several sizes on several replicas: its layer {name} is synchronized "
                "across replicas. Train on one device, or call model.fit without keras_vit.training.synchronize."
            )
