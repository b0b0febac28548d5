"""Mix images within a batch by MixUp (Zhang et al., arXiv 1710.09412) or CutMix (Yun et al., arXiv 1905.04899).

A batch is mixed with itself in reverse order, and one weight is drawn for the whole batch, as in the original code of
the recipes.
"""

from __future__ import annotations

from keras_vit.training.lazy_modules import tf


def _share(seed: tf.Tensor, alpha: float) -> tf.Tensor:
    """Draw a number between 0 and 1 from the distribution Beta(alpha, alpha)."""
    # Use float64: with a small alpha, both gamma variates can be 0 in float32.
    gammas = tf.random.stateless_gamma([2], seed, alpha, dtype=tf.float64)
    return tf.cast(gammas[0] / tf.reduce_sum(gammas), tf.float32)


def _mixed_labels(labels, share):
    return share * labels + (1 - share) * tf.reverse(labels, [0])


def mixup(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, alpha: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Replace each image and its label with a weighted mean of two images and their labels.

    Args:
        images: Images of shape (batch, height, width, channels), float32.
        labels: One-hot labels of shape (batch, classes), float32.
        seed: Seed of the batch, of shape (2,), int64.
        alpha: Alpha of the Beta distribution that the weight of the first image is drawn from.

    Returns:
        Mixed images and labels of the same shapes.
    """
    share = _share(seed, alpha)
    return images + (1 - share) * (tf.reverse(images, [0]) - images), _mixed_labels(labels, share)


def cutmix(
    images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, alpha: float, *, keep_half: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
    """Paste a box of another image into each image, and weight the labels by area.

    The box has the aspect ratio of the image, its center is drawn uniformly, and it is clipped at the image border.

    Args:
        images: Images of shape (batch, height, width, channels), float32.
        labels: One-hot labels of shape (batch, classes), float32.
        seed: Seed of the batch, of shape (2,), int64.
        alpha: Alpha of the Beta distribution that the area fraction kept from the first image is drawn from, before
            the box is clipped.
        keep_half: Whether the fraction is at least a half: of a smaller one and its rest, the larger is taken.

    Returns:
        Mixed images and labels of the same shapes.
    """
    of_share, of_place = tf.unstack(tf.random.split(seed, 2))
    sides = tf.shape(images)[1:3]
    share = _share(of_share, alpha)
    part = tf.sqrt(1 - (tf.maximum(share, 1 - share) if keep_half else share))
    box = tf.cast(part * tf.cast(sides, tf.float32), tf.int32)
    center = tf.cast(tf.random.stateless_uniform([2], of_place) * tf.cast(sides, tf.float32), tf.int32)
    start, end = tf.maximum(center - box // 2, 0), tf.minimum(center + box // 2, sides)
    (top, left), (bottom, right) = tf.unstack(start), tf.unstack(end)
    # Concatenate slices: selecting pixel by pixel with a mask takes several times as long.
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
        images: Images of shape (batch, height, width, channels), float32.
        labels: One-hot labels of shape (batch, classes), float32.
        seed: Seed of the batch, of shape (2,), int64.
        mixup_alpha: Alpha of MixUp; 0 turns MixUp off.
        cutmix_alpha: Alpha of CutMix; 0 turns CutMix off.
        probability: Probability of mixing the batch.
        switch_probability: Probability of choosing CutMix for a mixed batch, if both are on.

    Returns:
        Images and labels of the same shapes.
    """
    if not mixup_alpha and not cutmix_alpha:
        return images, labels
    of_mixing, of_switch, of_result = tf.unstack(tf.random.split(seed, 3))
    cut = switch_probability if mixup_alpha and cutmix_alpha else float(not mixup_alpha)

    def mixed():
        # If an alpha is 0, its branch is never taken, so any valid alpha will do there.
        return tf.cond(
            tf.random.stateless_uniform([], of_switch) < cut,
            lambda: cutmix(images, labels, of_result, cutmix_alpha or 1.0),
            lambda: mixup(images, labels, of_result, mixup_alpha or 1.0),
        )

    return tf.cond(tf.random.stateless_uniform([], of_mixing) < probability, mixed, lambda: (images, labels))
