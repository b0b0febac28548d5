"""Rounding to a grid whose step is learned (LSQ; Esser et al., arXiv 1902.08153)."""

import tensorflow as tf


def learned_rounding(x, step, lowest, highest, count: int):
    """Round to a grid with gradients for its step: v = round(clip(x / step, lowest, highest)) * step.

    The gradient of x passes where x / step is between the ends of the grid. That of v by the step is
    round(x / step) - x / step there, and the end of the grid elsewhere (equations 1 to 3 of the paper). Its sum is
    scaled by 1 / sqrt(count * highest), or by 1 / sqrt(count * -lowest) for a grid mainly below zero (section 2.2).

    Args:
        x: A tensor of shape (..., channels) or any other shape.
        step: The step of the grid: a scalar, or one for each channel (channels,).
        lowest: The smallest integer of the grid, a scalar of at most 0.
        highest: The largest integer of the grid, a scalar of at least 0.
        count: The number of values that share a step, in one image if x is an activation.

    Returns:
        A tensor of the shape of x.
    """
    lowest, highest = (tf.stop_gradient(tf.cast(end, x.dtype)) for end in (lowest, highest))

    @tf.custom_gradient
    def rounding(x, step):
        scaled = x / step
        inside = tf.logical_and(scaled > lowest, scaled < highest)
        clipped = tf.clip_by_value(scaled, lowest, highest)
        rounded = tf.round(clipped)

        def gradients(upstream):
            by_step = upstream * tf.where(inside, rounded - scaled, clipped)
            axes = tuple(range(len(x.shape) - len(step.shape)))
            scale = tf.math.rsqrt(tf.cast(count, x.dtype) * tf.maximum(highest, -lowest))
            return tf.where(inside, upstream, 0), tf.reduce_sum(by_step, axis=axes) * scale

        return rounded * step, gradients

    return rounding(x, step)
