"""MixUp (Zhang et al., arXiv 1710.09412) and CutMix (Yun et al., arXiv 1905.04899) of a batch with itself.

Each image is mixed with the one at the same distance from the batch's other end, and the whole batch has one share, as
in the recipes' own code.
"""

from __future__ import annotations

from keras_vit.training.lazy_modules import tf


def _share(seed: tf.Tensor, alpha: float) -> tf.Tensor:
    """Draw a share between 0 and 1 from the distribution Beta(alpha, alpha)."""
    # In float64, since gamma variates of a small alpha can be 0 in float32, both of them.
    gammas = tf.random.stateless_gamma([2], seed, alpha, dtype=tf.float64)
    return tf.cast(gammas[0] / tf.reduce_sum(gammas), tf.float32)


def _mixed_labels(labels, share):
    return share * labels + (1 - share) * tf.reverse(labels, [0])


def mixup(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, alpha: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Replace images and labels by weighted means of two.

    Args:
        images: (batch, height, width, channels), float32.
        labels: (batch, classes), one-hot, float32.
        seed: (2,), int64.
        alpha: Of the Beta distribution of the first image's weight.
    """
    share = _share(seed, alpha)
    return images + (1 - share) * (tf.reverse(images, [0]) - images), _mixed_labels(labels, share)


def cutmix(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, alpha: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Paste a box of another image into each image, and weight the labels by the areas.

    The box has the shape of the image and its center anywhere in it; what would lie outside is cut off.

    Args:
        images: (batch, height, width, channels), float32.
        labels: (batch, classes), one-hot, float32.
        seed: (2,), int64.
        alpha: Of the Beta distribution of the part that the first image keeps, before the cutting off.
    """
    of_share, of_place = tf.unstack(tf.random.split(seed, 2))
    sides = tf.shape(images)[1:3]
    part = tf.sqrt(1 - _share(of_share, alpha))
    box = tf.cast(part * tf.cast(sides, tf.float32), tf.int32)
    center = tf.cast(tf.random.stateless_uniform([2], of_place) * tf.cast(sides, tf.float32), tf.int32)
    start, end = tf.maximum(center - box // 2, 0), tf.minimum(center + box // 2, sides)
    (top, left), (bottom, right) = tf.unstack(start), tf.unstack(end)
    # Put together from whole pieces: choosing pixel by pixel takes several times as long.
    other = tf.reverse(images[:, top:bottom, left:right], [0])
    middle = tf.concat([images[:, top:bottom, :left], other, images[:, top:bottom, right:]], axis=2)
    mixed = tf.concat([images[:, :top], middle, images[:, bottom:]], axis=1)
    kept = 1 - tf.cast(tf.reduce_prod(end - start) / tf.reduce_prod(sides), tf.float32)
    return tf.ensure_shape(mixed, images.shape), _mixed_labels(labels, kept)


def mix(
    images: tf.Tensor,
    labels: tf.Tensor,
    seed: tf.Tensor,
    *,
    mixup_alpha: float,
    cutmix_alpha: float,
    probability: float = 1.0,
    switch_probability: float = 0.5,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Apply MixUp, CutMix or neither to a batch.

    Args:
        images: (batch, height, width, channels), float32.
        labels: (batch, classes), one-hot, float32.
        seed: (2,), int64.
        mixup_alpha: 0 leaves MixUp out.
        cutmix_alpha: 0 leaves CutMix out.
        probability: That the batch is mixed.
        switch_probability: That a mixed batch is CutMix's, where both are on.
    """
    if not mixup_alpha and not cutmix_alpha:
        return images, labels
    of_mixing, of_switch, of_result = tf.unstack(tf.random.split(seed, 3))
    cut = switch_probability if mixup_alpha and cutmix_alpha else float(not mixup_alpha)

    def mixed():
        # An alpha of 0 is of the branch that is never taken.
        return tf.cond(
            tf.random.stateless_uniform([], of_switch) < cut,
            lambda: cutmix(images, labels, of_result, cutmix_alpha or 1.0),
            lambda: mixup(images, labels, of_result, mixup_alpha or 1.0),
        )

    return tf.cond(tf.random.stateless_uniform([], of_mixing) < probability, mixed, lambda: (images, labels))
