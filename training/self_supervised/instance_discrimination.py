"""Parametric instance discrimination: each training image is a class of its own (Cao and Yu, arXiv 2201.10728)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_vit.layers import TokenPooling
from keras_vit.training.augment.mixing import cutmix
from keras_vit.training.data import ImageData
from keras_vit.training.self_supervised.dino import Views
from keras_vit.training.self_supervised.encoder import Encoder


def instance_discrimination(
    encoder: keras.Model,
    views: Sequence[tuple[int, int, int]],
    images: int,
    *,
    large_views: int = 2,
    name: str = "instance_discrimination",
) -> keras.Model:
    """Build the model that tells the images of a small data set apart (Cao and Yu, arXiv 2201.10728, section 3.2).

    A linear classifier of the encoder's first token has a class for each training image. The views of a group are
    processed in one pass.

    Args:
        encoder: A model of the ViT family that returns all tokens: `include_top=False` and `pooling=None`.
        views: The shape (height, width, channels) of each view. Positions are resized for views of another size than
            the encoder's.
        images: The number of training images.
        large_views: The number of first views that are mixed together; the other views are mixed together too.
        name: The name of the model.

    Returns:
        A functional model. Its inputs are the views of a batch of images, and then the mixed labels (batch, images) of
        each group of views: the large ones, and the others if there are any. Its output is the loss of each image,
        (batch, 1): the sum over both groups of the mean cross-entropy of the views.

    Raises:
        ValueError: If the encoder does not return all tokens of a Vision Transformer.
    """
    parts = Encoder(encoder)
    dtype = parts.blocks[-1].dtype_policy
    feature = TokenPooling(dtype=dtype, name="feature")
    head = keras.layers.Dense(images, dtype=dtype, name="instance_head")
    inputs = [keras.Input(tuple(view), name=f"view_{index}") for index, view in enumerate(views)]
    groups = groups_of(inputs, large_views)
    labels = [keras.Input((images,), name=f"labels_{index}") for index in range(len(groups))]
    loss = InstanceLoss(dtype="float32", name="loss")
    losses = []
    for group, own in zip(groups, labels, strict=True):
        if len({view.shape for view in group}) > 1:
            raise ValueError(f"The views that are mixed together must have one size; received {list(views)}.")
        joined = Views(name=f"views_{len(losses)}")(group)
        losses.append(loss(head(feature(parts(joined))), own))
    total = losses[0] if len(losses) == 1 else keras.layers.Add(dtype="float32", name="total")(losses)
    return keras.Model([*inputs, *labels], total, name=name)


def groups_of(views: Sequence, large_views: int) -> list[list]:
    """Return the views in the groups that are mixed together: the first ones, and the others if there are any."""
    return [group for group in (list(views[:large_views]), list(views[large_views:])) if group]


@keras.saving.register_keras_serializable("keras_vit")
class InstanceLoss(keras.layers.Layer):
    """Compute the mean cross-entropy of the views of each image.

    Inputs: logits of the views one after the other (views * batch, images), and labels (batch, images).
    Output: (batch, 1).
    """

    def call(self, logits, labels):
        batch = ops.shape(labels)[0]
        likelihoods = ops.reshape(ops.log_softmax(logits, axis=-1), (-1, batch, labels.shape[1]))
        return -ops.sum(ops.mean(likelihoods, axis=0) * labels, axis=-1, keepdims=True)

    def compute_output_shape(self, logits_shape, labels_shape):
        return (labels_shape[0], 1)

    def get_config(self):  # Without it, Keras cannot serialize a layer with a dtype policy.
        return super().get_config()


def with_instances(data: ImageData, *, cutmix_alpha: float, large_views: int, seed: int) -> tuple[ImageData, int]:
    """Return data with the inputs of `instance_discrimination`, and the number of training images.

    CutMix mixes each group of views with the same batch in reverse order, and keeps at least half of each image. The
    boxes depend on the seed, the epoch and the step, so that a resumed run continues with the same ones. Several
    workers together get the batch of a single one: each reads all of it, mixes it, and takes its part.

    Args:
        data: Image data that is ready for the model, see `ImageData.for_model`.
        cutmix_alpha: Alpha of the Beta distribution of CutMix; 0 turns CutMix off.
        large_views: As in `instance_discrimination`.
        seed: The seed of the boxes.

    Raises:
        ValueError: If the data does not number its images.
    """
    if data.numbered is None or "train" in data.changed:
        raise ValueError(
            "Instance discrimination needs data that numbers its training images: a folder of class folders, a list of "
            "files, arrays, or the digits in several views. The data is none of these, or its batches were replaced."
        )
    given = data.numbered()

    @functools.wraps(given)
    def train(epoch, skip_steps=0, input_context=None):
        workers, worker = 1, 0
        if input_context is not None:
            workers, worker = input_context.num_input_pipelines, input_context.input_pipeline_id
        number = int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0] >> 1)
        batches = given(epoch, skip_steps).enumerate(skip_steps)
        mixed = batches.map(_mixed(number, cutmix_alpha, large_views), num_parallel_calls=tf.data.AUTOTUNE)
        return mixed.map(lambda *batch: tf.nest.map_structure(lambda part: part[worker::workers], batch))

    images = given(0, 0).element_spec[1].shape[1]
    settings = {**data.settings, "instances": images, "mix_seed": seed}
    return dataclasses.replace(data, train=train, validation=None, settings=settings, prepare=None), images


def _mixed(number, alpha, large_views):
    @tf.autograph.experimental.do_not_convert
    def mix(step, batch):
        views, labels = batch
        mixed, all_labels = [], []
        seeds = tf.random.split(tf.stack([tf.constant(number, tf.int64), step]), 2)
        groups = groups_of(views if isinstance(views, tuple) else (views,), large_views)
        for group, own in zip(groups, tf.unstack(seeds), strict=False):
            joined = tf.concat(group, axis=3)  # One box for all views of the group.
            joined, group_labels = cutmix(joined, labels, own, alpha, keep_half=True) if alpha else (joined, labels)
            mixed += tf.split(joined, len(group), axis=3)
            all_labels.append(group_labels)
        return (*mixed, *all_labels), labels

    return mix
