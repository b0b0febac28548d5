"""A flat model in which every layer and operation is exactly one integer operator of TensorFlow Lite.

Schemes that compute everything in integers need a grid for every number between two operators. So a layer that is
several operators, such as a LayerNorm, becomes these operators, each with a name of its own. A layer without a form of
its own in the table below is opened: its `call` is traced into operations of `keras.ops`, and each of them has a form.
That holds for a user's own layers too. Where other steps are better in integers than those of `call`, a layer has a
method `integer_call` that takes and gives the same.
"""

import collections
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_vit.edge.quantization.integer_layers import AddConstant, MultiplyConstant, ReciprocalRoot
from keras_vit.graph.initial_weights import InitialWeights, weights_by_name
from keras_vit.graph.reading import PERMUTATIONS, RESHAPES, SLICES, TRANSPOSE, calls_before, producer
from keras_vit.graph.rebuilding import rebuild
from keras_vit.layers import ClassToken, FloatMatMul, LearnedTokens, MatMul, RegisterTokens

# Rows up to this length have a softmax of one operator. Its output grid is fixed, with steps of 1/256: too coarse for
# the small probabilities of long rows. They are computed from exponentials, on a grid of their own; that is also three
# times as fast on a CPU.
MAX_SOFTMAX_ROW = 64

# A smaller number that is added before a division or reciprocal root, or is the least that is divided by, only
# prevents a division by zero.
_MAX_EPSILON = 1e-3


def integer_form(flat: keras.Model, bits_of: Callable[[str], int | None]) -> keras.Model:
    """Return a flat model whose layers and operations are one integer operator each.

    Args:
        flat: A model returned by `keras_vit.fuse`. It must not be used afterwards.
        bits_of: From the name of a layer to the bits of its integers: 8, 16, or None if it computes in float.

    Returns:
        A flat functional model with the same outputs, up to rounding. What has replaced a layer has its name in front,
        and the last of it has its name. A layer that computes in float and has no integer form stays whole.

    Raises:
        ValueError: A layer of integers has no integer form. The message names it and its operation.
    """
    return rebuild(flat, lambda layer: layer, _Lowering(bits_of))


@dataclasses.dataclass(frozen=True)
class _Constant:
    """Numbers that do not depend on the image.

    Attributes:
        value: The numbers.
        trainable: Whether they are a layer's weights, which may be trained on.
    """

    value: np.ndarray
    trainable: bool = False


class _Lowering:
    """Calls the integer form of an operation in place of the operation.

    Args:
        bits_of: See `integer_form`.
    """

    def __init__(self, bits_of: Callable[[str], int | None]):
        self._bits_of = bits_of
        self._names: set[str] = set()
        self.epsilons: dict[int, float] = {}  # By id of a tensor: what would have been added to it.
        self.swapped: dict[int, Any] = {}  # By id of a tensor: the tensor whose last two axes it has swapped.

    def __call__(self, operation, *args, **kwargs):
        name = operation.name
        # Keras adds a mask of None to the arguments of some layers.
        kwargs = {key: value for key, value in kwargs.items() if value is not None and key != "training"}
        try:
            return self.lower(operation, name, args, kwargs)
        except NoFormError as error:
            if self._bits_of(name) is None and isinstance(operation, keras.layers.Layer):
                place, weights = Place(self, name, None), _arrays(operation)
                return place.call(type(operation), *args, config=operation.get_config(), weights=weights, **kwargs)
            raise ValueError(
                f"{name!r}, a {type(operation).__name__}, cannot be computed in integers: there is no integer operator "
                f'for {error}. Keep it in float with overrides={{"{name}": "float32"}}.'
            ) from error

    def lower(self, operation, name, args, kwargs):
        """Call the form of an operation on these arguments and return its output."""
        place = Place(self, name, self._bits_of(name))
        form = _FORMS.get(type(operation))
        if form is not None:
            return form(place, operation, *args, **kwargs)
        if isinstance(operation, keras.layers.Layer):
            return self._open(operation, name, args, kwargs)
        raise NoFormError(f"the operation {type(operation).__name__}")

    def unique(self, name):
        """Return a name that no other operation has."""
        number, free = 0, name
        while free in self._names:
            number += 1
            free = f"{name}_{number}"
        self._names.add(free)
        return free

    def _open(self, layer, name, args, kwargs):
        weights = {key: value for key, value in vars(layer).items() if isinstance(value, keras.Variable)}
        stand_ins = {key: keras.Input(batch_shape=value.shape, dtype=value.dtype) for key, value in weights.items()}
        constants = {
            id(stand_ins[key]): _Constant(keras.ops.convert_to_numpy(weight), weight.trainable)
            for key, weight in weights.items()
        }
        # Past Keras, which would track them as parts of the layer.
        vars(layer).update(stand_ins)
        try:
            return self.trace(getattr(layer, "integer_call", layer.call), name, args, kwargs, constants)
        finally:
            vars(layer).update(weights)

    def trace(self, function, name, args, kwargs, constants=None):
        """Call the forms of the operations that a function consists of.

        Args:
            function: A function of tensors.
            name: The name of what gives its output; the names of other operations start with it.
            args, kwargs: The arguments of the function.
            constants: Constants by id of the tensor that stands for them in the function.
        """
        inputs = [each for each in keras.tree.flatten((args, kwargs)) if isinstance(each, keras.KerasTensor)]
        fresh = {id(tensor): keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype) for tensor in inputs}
        args, kwargs = keras.tree.map_structure(lambda each: fresh.get(id(each), each), (args, kwargs))
        try:
            outputs = function(*args, **kwargs)
        except Exception as error:  # Its class depends on the backend.
            raise NoFormError("what it computes outside keras.ops") from error
        values = {**(constants or {}), **{id(fresh[id(tensor)]): tensor for tensor in inputs}}
        ends = keras.tree.flatten(outputs)
        calls = [call for call in calls_before(ends) if not call.is_input]
        users = collections.defaultdict(list)
        for call in calls:
            for tensor in call.input_tensors:
                users[id(tensor)].append((call, tensor))
        for call in calls:
            (output,) = call.output_tensors
            taken, named = call.arguments.fill_in(values)
            if not any(isinstance(each, keras.KerasTensor) for each in keras.tree.flatten((taken, named))):
                values[id(output)] = _evaluated(call.operation, taken, named)
                continue
            epsilon = _epsilon(call, taken)
            if epsilon and all(_divides(*user) for user in users[id(output)]):
                (values[id(output)],) = (each for each in taken if isinstance(each, keras.KerasTensor))
                self.epsilons[id(values[id(output)])] = epsilon
                continue
            is_last = len(ends) == 1 and output is ends[0]
            own = name if is_last else f"{name}.{type(call.operation).__name__.lower()}"
            values[id(output)] = self.lower(call.operation, own, taken, named)
        return keras.tree.map_structure(lambda tensor: values[id(tensor)], outputs)


class NoFormError(ValueError):
    """Something has no integer operator. The message is the subject of a sentence."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a form is called.

    Attributes:
        lowering: What calls it.
        name: The name of the last operator of the form.
        bits: The bits of the integers; None for float.
    """

    lowering: _Lowering
    name: str
    bits: int | None

    def before(self, step: str) -> "Place":
        """Return the place of an earlier operator of the form."""
        return dataclasses.replace(self, name=f"{self.name}.{step}")

    def call(
        self, kind: type[keras.Operation], *args, config: dict | None = None, weights: dict | None = None, **kwargs
    ):
        """Call a new operator of this place's name.

        Args:
            kind: Its class.
            *args, **kwargs: What it is called with.
            config: Its configuration without the name.
            weights: Its weights by name.
        """
        operation = kind.from_config({**(config or {}), "name": self.lowering.unique(self.name)})
        initial = InitialWeights(operation, weights) if weights else None
        output = operation(*args, **kwargs)
        if initial:
            initial.finish()
        return output


def _evaluated(operation, args, kwargs):
    """Return what an operation gives for constants."""
    constants = [each for each in keras.tree.flatten((args, kwargs)) if isinstance(each, _Constant)]
    args, kwargs = keras.tree.map_structure(
        lambda each: each.value if isinstance(each, _Constant) else each, (args, kwargs)
    )
    value = keras.ops.convert_to_numpy(operation(*args, **kwargs))
    return _Constant(value, any(each.trainable for each in constants))


def _epsilon(call, taken):
    """Return the small number that a call adds, or that is its smallest output; None if it does anything else."""
    if type(call.operation) not in (_ADD, _MAXIMUM):
        return None
    numbers = [each for each in taken if not isinstance(each, keras.KerasTensor)]
    if len(numbers) != 1 or isinstance(numbers[0], _Constant) or np.size(numbers[0]) != 1:
        return None
    number = float(np.asarray(numbers[0]).item())
    return number if 0 < number <= _MAX_EPSILON else None


def _divides(call, tensor):
    """Return whether a call divides by a tensor or takes its reciprocal root."""
    if type(call.operation) in _DIVISIONS:
        return call.arguments.args[0] is not tensor
    return type(call.operation) is _RSQRT


def _as_constant(value) -> _Constant | None:
    """Return an operand as a constant; None for a tensor."""
    if isinstance(value, keras.KerasTensor):
        return None
    if isinstance(value, _Constant):
        return value
    return _Constant(np.asarray(keras.ops.convert_to_numpy(value), np.float32))


def _with_constant(place, kind, x, constant):
    value = constant.value.astype(np.float32)
    # In a file the batch is 1, and a constant does not have its axis.
    value = value.reshape(value.shape[next((i for i, size in enumerate(value.shape) if size != 1), value.ndim) :])
    config = {"shape": value.shape, "trainable": constant.trainable, "dtype": "float32"}
    return place.call(kind, x, config=config, weights={"constant": value})


def _add(place, operation, a, b):
    constant = _as_constant(a) or _as_constant(b)
    if constant is None:
        return place.call(_ADD, a, b)
    return _with_constant(place, AddConstant, b if _as_constant(a) else a, constant)


def _subtract(place, operation, a, b):
    if _as_constant(a):
        return _add(place, None, _negative(place.before("negative"), None, b), a)
    constant = _as_constant(b)
    if constant is None:
        return place.call(_SUBTRACT, a, b)
    return _add(place, None, a, _Constant(-constant.value, constant.trainable))


def _multiply(place, operation, a, b):
    constant = _as_constant(a) or _as_constant(b)
    if constant is None:
        return place.call(_MULTIPLY, a, b)
    return _with_constant(place, MultiplyConstant, b if _as_constant(a) else a, constant)


def _negative(place, operation, x):
    return _multiply(place, None, x, -1.0)


def _square(place, operation, x):
    return place.call(_MULTIPLY, x, x)


def _power(place, operation, x, exponent):
    if _as_constant(exponent) is None or np.any(np.asarray(_as_constant(exponent).value) != 2):
        raise NoFormError("a power other than 2")
    return _square(place, None, x)


def _rsqrt(place, operation, x):
    epsilon = place.lowering.epsilons.get(id(x), 1e-12)
    return place.call(ReciprocalRoot, x, config={"epsilon": epsilon, "dtype": "float32"})


def _divide(place, operation, a, b):
    """Divide as a product with the reciprocal root, twice: there is no integer division, and no other table."""
    constant = _as_constant(b)
    if constant is not None:
        return _multiply(place, None, a, _Constant(1 / constant.value, constant.trainable))
    root = _rsqrt(place.before("root"), None, b)
    return _multiply(place, None, _multiply(place.before("half"), None, a, root), root)


def _softmax(place, operation, x):
    axis = operation.axis % len(x.shape)
    if place.bits != 8 or x.shape[axis] <= MAX_SOFTMAX_ROW:
        if axis == len(x.shape) - 1:
            return place.call(_SOFTMAX, x, config={"axis": -1})
        swap = _SWAPAXES(axis, -1)
        rows = _swapaxes(place.before("rows"), swap, x)
        return _swapaxes(place, swap, place.before("softmax").call(_SOFTMAX, rows, config={"axis": -1}))
    largest = place.before("max").call(_MAX, x, config={"axis": [axis], "keepdims": True})
    below = place.before("below_max").call(_SUBTRACT, x, largest)
    exponentials = place.before("exp").call(_EXP, below)
    total = _reduce(place.before("sum"), _SUM(axis=axis, keepdims=True), exponentials)
    return _divide(place, None, exponentials, total)


def _gelu(place, operation, x):
    """Apply GELU. There is no operator for it in 16 bits, so there it has its tanh form, as x sigmoid(2 u)."""
    if place.bits != 16:
        return place.call(_GELU, x, config={"approximate": operation.approximate})
    square = _square(place.before("square"), None, x)
    factor = 2 * math.sqrt(2 / math.pi)
    inner = _multiply(place.before("cubic"), None, square, factor * 0.044715)
    inner = _add(place.before("linear"), None, inner, factor)
    inner = _multiply(place.before("inner"), None, inner, x)
    return _multiply(place, None, x, place.before("sigmoid").call(_SIGMOID, inner))


def _silu(place, operation, x):
    return _multiply(place, None, x, place.before("sigmoid").call(_SIGMOID, x))


def _hard_sigmoid(place, operation, x):
    shifted = _add(place.before("shift"), None, x, 3.0)
    return _multiply(place, None, place.before("relu6").call(_RELU6, shifted), 1 / 6)


def _hard_silu(place, operation, x):
    return _multiply(place, None, x, _hard_sigmoid(place.before("gate"), None, x))


def _relu(place, operation, x):
    """A ReLU of an activation's name, with or without its upper limit."""
    if getattr(operation, "negative_slope", 0) or getattr(operation, "threshold", 0):
        raise NoFormError("a ReLU with a slope or threshold")
    limit = getattr(operation, "max_value", None)
    if limit not in (None, 6, 6.0):
        raise NoFormError(f"a ReLU with the limit {limit}")
    return place.call(_RELU if limit is None else _RELU6, x)


def _reduce(place, operation, x):
    axes = range(len(x.shape)) if operation.axis is None else operation.axis
    axes = [axes] if isinstance(axes, int) else list(axes)
    config = {"axis": [axis % len(x.shape) for axis in axes], "keepdims": operation.keepdims}
    if type(operation) is _SUM and place.bits == 16:  # There is no operator for sums in 16 bits.
        mean = place.before("mean").call(_MEAN, x, config=config)
        return _multiply(place, None, mean, float(math.prod(x.shape[axis] for axis in config["axis"])))
    return place.call({_AMAX: _MAX}.get(type(operation), type(operation)), x, config=config)


def _matmul(place, operation, a, b):
    constant = _as_constant(a) or _as_constant(b)
    if constant is not None:
        if constant.value.ndim != 2:
            raise NoFormError(f"a product with a constant of {constant.value.ndim} axes")
        if _as_constant(a):
            return _with_constant_on_the_left(place, constant, b)
        return _dense(place, a, constant.value, constant.trainable)
    transposed = id(b) in place.lowering.swapped
    b = place.lowering.swapped.get(id(b), b)
    return place.call(MatMul, a, b, config={"transpose_b": transposed})


def _dense(place, x, kernel, trainable):
    config = {"units": kernel.shape[1], "use_bias": False, "trainable": trainable, "dtype": "float32"}
    return place.call(keras.layers.Dense, x, config=config, weights={"kernel": kernel})


def _with_constant_on_the_left(place, constant, x):
    """A dense layer between two transposes, whose kernel has a range for each output channel."""
    swap = _SWAPAXES(-1, -2)
    columns = _swapaxes(place.before("columns"), swap, x)
    product = _dense(place.before("product"), columns, constant.value.T, constant.trainable)
    return _swapaxes(place, swap, product)


def _product_of_two(place, layer, a, b):
    return place.call(MatMul, a, b, config={"transpose_b": layer.transpose_b, "dtype": layer.dtype_policy.name})


def _with_kernel(place, layer, x):
    """A layer with a kernel, and its activation as an operator of its own."""
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise NoFormError("a convolution with the channels first")
    activation, is_linear = layer.activation, layer.activation is keras.activations.linear
    first = place if is_linear else place.before("linear")
    config = {**layer.get_config(), "activation": "linear"}
    output = first.call(type(layer), x, config=config, weights=_arrays(layer))
    return output if is_linear else _apply(place, activation, output)


def _activation(place, layer, x):
    return _apply(place, layer.activation, x)


def _apply(place, function, x):
    """Apply an activation function. Keras' own have the names of operations, and some take no symbolic tensors."""
    if getattr(keras.activations, function.__name__, None) is function:
        function = getattr(ops, function.__name__, function)
    return place.lowering.trace(function, place.name, (x,), {})


def _arrays(layer):
    return {name: keras.ops.convert_to_numpy(weight) for name, weight in weights_by_name(layer).items()}


def _learned_tokens(place, layer, x):
    return place.call(LearnedTokens, x, config=layer.get_config(), weights=_arrays(layer))


def _tokens_from(place, x, tokens):
    """Return learned tokens (1, count, width), for the batch of a tensor."""
    value = keras.ops.convert_to_numpy(tokens)[0]
    config = {"num_tokens": value.shape[0], "width": value.shape[1], "trainable": tokens.trainable, "dtype": "float32"}
    return place.call(LearnedTokens, x, config=config, weights={"tokens": value})


def _class_token(place, layer, x):
    token = _tokens_from(place.before("token"), x, layer.token)
    return place.call(_CONCATENATE, [token, x], config={"axis": 1})


def _register_tokens(place, layer, x):
    parts = [_tokens_from(place.before("tokens"), x, layer.tokens), x]
    if layer.after:
        key = slice(None)
        before = place.before("before").call(_GET_ITEM, x, (key, slice(None, layer.after)))
        parts = [before, parts[0], place.before("after").call(_GET_ITEM, x, (key, slice(layer.after, None)))]
    return place.call(_CONCATENATE, parts, config={"axis": 1})


def _batch_normalization(place, layer, x):
    shape = [1] * len(x.shape)
    shape[layer.axis] = x.shape[layer.axis]
    mean, variance = (ops.convert_to_numpy(each) for each in (layer.moving_mean, layer.moving_variance))
    scale = (ops.convert_to_numpy(layer.gamma) if layer.scale else 1) / np.sqrt(variance + layer.epsilon)
    shift = (ops.convert_to_numpy(layer.beta) if layer.center else 0) - mean * scale
    scaled = _multiply(place.before("scale"), None, x, _Constant(scale.reshape(shape), layer.trainable))
    return _add(place, None, scaled, _Constant(shift.reshape(shape), layer.trainable))


def _layer_normalization(place, layer, x):
    """Keras' own layer, whose `call` is one operation, as the formula."""
    if getattr(layer, "rms_scaling", False):
        raise NoFormError("the option rms_scaling")
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]

    def formula(x):
        centered = x - ops.mean(x, axis=axes, keepdims=True)
        return centered * ops.rsqrt(ops.mean(ops.square(centered), axis=axes, keepdims=True) + layer.epsilon)

    scaled = layer.scale or layer.center
    output = place.lowering.trace(formula, f"{place.name}.normalized" if scaled else place.name, (x,), {})
    steps = [(_multiply, layer.gamma)] if layer.scale else []
    steps += [(_add, layer.beta)] if layer.center else []
    for number, (form, weight) in enumerate(steps):
        constant = _Constant(ops.convert_to_numpy(weight), weight.trainable)
        output = form(place if number == len(steps) - 1 else place.before("scale"), None, output, constant)
    return output


def _swapaxes(place, operation, x):
    axes = list(range(len(x.shape)))
    first, second = operation.axis1 % len(axes), operation.axis2 % len(axes)
    axes[first], axes[second] = second, first
    output = place.call(TRANSPOSE, x, config={"axes": axes})
    if {first, second} == {len(axes) - 1, len(axes) - 2}:
        place.lowering.swapped[id(output)] = x
    return output


def _concatenate(place, operation, tensors):
    if any(_as_constant(each) for each in tensors):
        raise NoFormError("a concatenation with a constant")
    return place.call(_CONCATENATE, list(tensors), config={"axis": operation.axis})


def _extreme(place, operation, a, b):
    if _as_constant(a) or _as_constant(b):
        constant, x = (_as_constant(a), b) if _as_constant(a) else (_as_constant(b), a)
        if type(operation) is _MAXIMUM:
            return _at_least(place, x, constant)
        # The smaller of two numbers is the larger of their negatives, negated.
        negative = _negative(place.before("negative"), None, x)
        bound = _Constant(-constant.value, constant.trainable)
        return _negative(place, None, _at_least(place.before("bounded"), negative, bound))
    return place.call(type(operation), a, b)


def _at_least(place, x, constant):
    """The larger of a tensor and a constant, as a ReLU of their difference."""
    if not np.any(constant.value):
        return place.call(_RELU, x)
    above = place.before("relu").call(_RELU, _subtract(place.before("difference"), None, x, constant))
    return _add(place, None, above, constant)


def _resize(place, operation, x):
    given = (operation.interpolation, operation.data_format, operation.antialias)
    if given != ("bilinear", "channels_last", False):
        raise NoFormError("a resizing that is not bilinear, channels last, and without antialiasing")
    return _same(place, operation, x)


def _cast(place, operation, x, *args, **kwargs):
    if not keras.backend.is_float_dtype(operation.dtype):
        raise NoFormError(f"a cast to {operation.dtype}")
    return x


def _reshape(place, operation, x):
    """A reshaping whose shape has the batch first, of any size."""
    shape = operation.compute_output_spec(x).shape
    return place.call(_RESHAPE, x, config={"newshape": (-1, *shape[1:])})


def _same(place, operation, *args, **kwargs):
    """An operation that is one operator already."""
    return place.call(type(operation), *args, config=operation.get_config(), **kwargs)


def class_of_function(function: Callable) -> type:
    """Return the class of the operation that a function of `keras.ops` adds to a model."""
    return type(producer(function(keras.KerasTensor((1, 4, 4, 4)))))


def _binary(function):
    return class_of_function(lambda x: function(x, x))


_ADD, _SUBTRACT, _MULTIPLY = map(_binary, (ops.add, ops.subtract, ops.multiply))
_DIVISIONS = (_binary(ops.divide), _binary(ops.true_divide))
_MAXIMUM, _MINIMUM = map(_binary, (ops.maximum, ops.minimum))
_SOFTMAX, _GELU, _SIGMOID, _TANH, _EXP, _RSQRT, _RELU, _RELU6 = map(
    class_of_function, (ops.softmax, ops.gelu, ops.sigmoid, ops.tanh, ops.exp, ops.rsqrt, ops.relu, ops.relu6)
)
_MEAN, _SUM, _MAX, _AMAX = map(class_of_function, (ops.mean, ops.sum, ops.max, ops.amax))
_SWAPAXES, _GET_ITEM = class_of_function(lambda x: ops.swapaxes(x, 1, 2)), class_of_function(lambda x: x[:, :1])
_CONCATENATE, _CAST = (
    class_of_function(lambda x: ops.concatenate([x, x])),
    class_of_function(lambda x: ops.cast(x, "float16")),
)
_RESHAPE = class_of_function(lambda x: ops.reshape(x, (-1, 2)))
_PAD = class_of_function(lambda x: ops.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0))))
_MAX_POOL, _AVERAGE_POOL = (
    class_of_function(lambda x: ops.max_pool(x, 2)),
    class_of_function(lambda x: ops.average_pool(x, 2)),
)
_RESIZE = class_of_function(lambda x: ops.image.resize(x, (2, 2)))

_PLAIN = (*(kind for kind in (*RESHAPES, *PERMUTATIONS, *SLICES) if not issubclass(kind, keras.layers.Layer)),)

_FORMS: dict[type, Callable] = {
    **dict.fromkeys((kind for kind in _PLAIN if kind is not _SWAPAXES), _same),
    **dict.fromkeys((_EXP, _SIGMOID, _TANH, _RELU, _RELU6, _PAD, _MAX_POOL, _AVERAGE_POOL), _same),
    **dict.fromkeys((_MEAN, _SUM, _MAX, _AMAX), _reduce),
    **dict.fromkeys(_DIVISIONS, _divide),
    **dict.fromkeys((_MAXIMUM, _MINIMUM), _extreme),
    **dict.fromkeys((keras.layers.Dense, keras.layers.Conv2D, keras.layers.DepthwiseConv2D), _with_kernel),
    **dict.fromkeys((MatMul, FloatMatMul), _product_of_two),
    _SWAPAXES: _swapaxes,
    _RESHAPE: _reshape,
    _ADD: _add,
    _SUBTRACT: _subtract,
    _MULTIPLY: _multiply,
    _RSQRT: _rsqrt,
    _SOFTMAX: _softmax,
    _GELU: _gelu,
    _CONCATENATE: _concatenate,
    _RESIZE: _resize,
    _CAST: _cast,
    _binary(ops.matmul): _matmul,
    class_of_function(ops.negative): _negative,
    class_of_function(ops.square): _square,
    _binary(ops.power): _power,
    class_of_function(ops.silu): _silu,
    class_of_function(ops.hard_sigmoid): _hard_sigmoid,
    class_of_function(ops.hard_silu): _hard_silu,
    class_of_function(keras.activations.relu): _relu,
    keras.layers.Activation: _activation,
    LearnedTokens: _learned_tokens,
    ClassToken: _class_token,
    RegisterTokens: _register_tokens,
    keras.layers.BatchNormalization: _batch_normalization,
    keras.layers.LayerNormalization: _layer_normalization,
}
