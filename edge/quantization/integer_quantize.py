"""Quantize a model whose operators all compute in integers."""

import functools
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_vit.edge.images import image_batches
from keras_vit.edge.quantization.fake_quant import FakeQuant
from keras_vit.edge.quantization.integer_forms import integer_form
from keras_vit.edge.quantization.integer_layers import AddConstant, MultiplyConstant
from keras_vit.edge.quantization.integer_plan import BITS, IntegerPlan, on_grids, type_of_layer
from keras_vit.edge.quantization.quantize import _QUANTIZED, _with_record
from keras_vit.edge.quantization.schemes import Scheme
from keras_vit.graph.fusion import fuse
from keras_vit.utils.native_logs import native_logs
from keras_vit.utils.retracing import no_retracing_warnings


def quantize_integers(model: keras.Model, scheme: Scheme, data: Any, batch_size: int = 16) -> keras.Model:
    fused = fuse(model)
    form = _with_record(integer_form(fused, lambda name: BITS.get(type_of_layer(scheme, name))), scheme)
    scheme.check_overrides(layer.name for layer in form.layers)
    plan = IntegerPlan(form, scheme)
    ranges = calibrate(form, plan, data, batch_size)

    def make(layer):
        row = plan.rows[layer.name]
        config = layer.get_config()
        if row.activations == "float32":
            return type(layer).from_config(config)
        if isinstance(layer, (AddConstant, MultiplyConstant)):
            return type(layer).from_config({**config, "bits": BITS[row.activations]})
        if row.kernel_bits is not None:
            return _QUANTIZED[type(layer)].from_config({**config, "bits": row.kernel_bits})
        return type(layer).from_config(config)

    @functools.cache
    def grid(name):
        return FakeQuant(**vars(plan.grids[name]), name=f"{name}.fake_quant")

    quantized = on_grids(form, plan, make, lambda name, tensor: grid(name)(tensor))
    for name, limits in ranges.items():
        grid(name).range = limits
    for name, row in plan.rows.items():
        if row.operator == "RSQRT" and row.activations != "float32":
            floor = quantized.get_layer(name).floor
            floor.assign(max(float(floor), _step(plan.grids[row.inputs[0]], ranges[row.inputs[0]])))
    return quantized


def _step(grid, limits):
    low, high = limits
    return max(-low, high) / (2 ** (grid.bits - 1) - 1) if grid.symmetric else (high - low) / (2**grid.bits - 1)


def calibrate(form, plan, data, batch_size):
    seen: dict[str, list] = {}

    def observe(name, tensor):
        if plan.grids[name].limits is None:
            seen.setdefault(name, []).append(tensor)
        return tensor

    observed = on_grids(form, plan, lambda layer: type(layer).from_config(layer.get_config()), observe)
    ends = {
        name: [
            functools.reduce(join, [of(tensor) for tensor in tensors])
            for of, join in ((ops.min, ops.minimum), (ops.max, ops.maximum))
        ]
        for name, tensors in seen.items()
    }
    observer = keras.Model(observed.inputs, ends)
    ranges = dict.fromkeys(ends, (0.0, 0.0))
    with native_logs(), no_retracing_warnings():
        observe_batch = tf.function(lambda batch: observer(batch, training=False), reduce_retracing=True)
        for batch, _ in image_batches(data, form.input_shape[1:], batch_size):
            for name, (low, high) in observe_batch(batch).items():
                ranges[name] = min(ranges[name][0], float(low)), max(ranges[name][1], float(high))
    ranges = {name: limits if any(limits) else (-1.0, 1.0) for name, limits in ranges.items()}
    for name, row in plan.rows.items():
        if row.operator == "RSQRT" and row.output in ranges:
            step = _step(plan.grids[row.inputs[0]], ranges[row.inputs[0]])
            ranges[row.output] = ranges[row.output][0], min(ranges[row.output][1], step**-0.5)
    return ranges
