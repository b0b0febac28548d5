"""Training on batches of several image sizes, for models whose graphs are of one size."""

import keras
import tensorflow as tf

from keras_vit.graph.flattening import leaves
from keras_vit.graph.rebuilding import as_functional
from keras_vit.graph.resizing import resize_model
from keras_vit.training.steps.recomputation import recompute, recomputes
from keras_vit.training.steps.stateless import AsLayer, computed_with


def train_at_sizes(model: keras.Model, sizes: tuple[int | tuple[int, int], ...]) -> None:
    """Makes a model take images of several sizes in `model.fit`, such as those of `MultiScale`.

    So are MobileViT (Mehta and Rastegari, arXiv 2110.02178, section 3.2) and EfficientViT of MIT trained. For each size
    the model is made anew, see `keras_vit.resize_model`, and computes with the values of the variables of `model`:
    these alone are trained, and statistics of BatchNormalization and random states are theirs.

    The model stays what it was: compile, fit and save it as always; a loaded or cloned one takes its own size alone.
    It works with batches whose size is known only when they come (None, None, None, 3), with `use_sam`, `distill` and
    `recompute`, of which the last one is called before this. Each further size takes memory for a copy of the weights,
    which is never used. On several replicas, BatchNormalization can't be synchronized.

    Args:
        model: A functional or sequential model of images, none of whose weights depend on the images' size, as position
            embeddings do.
        sizes: Heights and widths in pixels: a number for a square. The model's own is always among them.

    Raises:
        TypeError: The model is neither functional nor sequential.
        ValueError: A size is no size, the model cannot take it, or has weights that depend on it.
    """
    functional = as_functional(model)
    own = tuple(functional.inputs[0].shape[1:])
    kept = list(leaves(model))
    dependent = [name for name, layer in kept if hasattr(layer, "weights_from")]
    if dependent:
        raise ValueError(
            f"{model.name} can't be trained at several sizes: the weights of {', '.join(dependent[:5])} depend on the "
            "size of the images. Train it at one, and use keras_vit.resize_model."
        )
    variables = [variable for _, layer in kept for variable in layer.variables]
    ways = {own[:2]: (AsLayer(lambda inputs, training: call(*inputs, training=training), model.name), variables)}
    call = model.call
    for size in sizes:
        size = (size, size) if isinstance(size, int) else tuple(size)
        if size not in ways:
            other = resize_model(model, (*size, own[2]))
            if recomputes(model):
                recompute(other)
            ways[size] = other, _like(variables, other, model)

    def at_its_size(inputs, training):
        (images,) = keras.tree.flatten(inputs)
        if isinstance(images, keras.KerasTensor):
            return call(images, training=training)
        if training and tf.distribute.get_strategy().num_replicas_in_sync > 1:
            _refuse_synchronized(model)
        values = [tf.convert_to_tensor(variable.value) for variable in variables]
        outputs, new = _dispatched(images, values, ways, own[2], training, model.name)
        for place, value in new.items():
            variables[place].assign(value)
        return outputs

    entrance = AsLayer(at_its_size, model.name)
    # A function, since Keras would take a layer for a part of the model.
    model.call = lambda inputs, training=None, mask=None: entrance(inputs, training=bool(training))
    model.input_spec = keras.layers.InputSpec(shape=(None, None, None, own[2]))
    # Steps that were compiled before are forgotten.
    model.train_function = model.test_function = model.predict_function = None


def _like(variables, other, model):
    """The other model's variables, in the order of these."""
    others = [variable for _, layer in leaves(other) for variable in layer.variables]
    for variable, same in zip(variables, others, strict=True):
        if variable.shape != same.shape:
            raise ValueError(
                f"{model.name} can't be trained at several sizes: {variable.path} is {tuple(variable.shape)} at its "
                f"own size and {tuple(same.shape)} at another."
            )
    return others


def _dispatched(images, values, ways, channels, training, name):
    """Outputs, and new values of variables by place, of the model for the images' size."""
    known = tuple(images.shape[1:3])
    if None not in known:
        if known not in ways:
            raise ValueError(f"{name} is trained at {_listed(ways)}; received images of {known[0]} x {known[1]}.")
        model, variables = ways[known]
        return computed_with(model, (images,), variables, values, training)

    traced = {}  # The structure of what each way gives, which is the same for all.

    def way(size, model, variables):
        def run():
            of_size = tf.ensure_shape(images, (None, *size, channels))
            outputs, new = computed_with(model, (of_size,), variables, values, training)
            traced.update(outputs=outputs, places=list(new))
            return [*keras.tree.flatten(outputs), *new.values()]

        return run

    fits = tf.reduce_all(tf.constant(list(ways)) == tf.shape(images)[1:3], axis=1)
    message = f"{name} is trained at {_listed(ways)}; received images of the shape"
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_any(fits), [message, tf.shape(images)])]):
        place = tf.argmax(tf.cast(fits, tf.int32), output_type=tf.int32)
    results = tf.nest.flatten(tf.switch_case(place, [way(size, *way_of) for size, way_of in ways.items()]))
    outputs = keras.tree.pack_sequence_as(traced["outputs"], results[: len(results) - len(traced["places"])])
    return outputs, dict(zip(traced["places"], results[len(results) - len(traced["places"]) :], strict=True))


def _refuse_synchronized(model):
    # TensorFlow lets replicas wait for each other in no branch of a graph.
    for name, layer in leaves(model):
        if getattr(layer, "synchronized", False):
            raise ValueError(
                f"{model.name} can't be trained at several sizes on several replicas: its layer {name} is synchronized "
                "between them. Train on one device, or call model.fit without keras_vit.training.synchronize."
            )


def _listed(ways):
    return ", ".join(f"{height} x {width}" for height, width in ways)
