"""The methods of learning without labels, as tables of settings. Keras is imported when a method is used."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from keras_vit.training.lazy_modules import keras

if TYPE_CHECKING:
    from keras_vit.training.data import ImageData


@dataclass(frozen=True)
class Prepared:
    """What a method trains: the model, its data, callbacks for `fit`, and the encoder to save."""

    model: keras.Model
    data: ImageData
    callbacks: Sequence[keras.callbacks.Callback]
    encoder: keras.Model


@runtime_checkable
class Method(Protocol):
    """A method of learning without labels.

    Attributes:
        encoder_settings: Arguments of the builder, such as `ViT`, with which the authors build their encoders.
    """

    encoder_settings: ClassVar[Mapping[str, Any]]

    def prepare(self, encoder: keras.Model, data: ImageData, run_dir: Path, seed: int) -> Prepared:
        """Return the model that trains an encoder, and all that it needs.

        Args:
            encoder: A model that returns all tokens.
            data: The data, ready for the encoder.
            run_dir: The folder of the run.
            seed: The seed of everything random.
        """


@dataclass(frozen=True, kw_only=True)
class MAE:
    """Masked autoencoding, see `masked_autoencoder`, which describes the other attributes.

    Attributes:
        pictures: The number of validation images in the pictures of reconstructions that are saved after each epoch, in
            the folder "reconstructions" of the run. 0 saves none.
    """

    encoder_settings: ClassVar[Mapping[str, str]] = {"position_embedding": "sincos2d_mae"}

    mask_ratio: float = 0.75
    decoder_width: int | None = None
    decoder_depth: int | None = None
    decoder_heads: int | None = None
    normalize_targets: bool = True
    pictures: int = 8

    def prepare(self, encoder: keras.Model, data: ImageData, run_dir: Path, seed: int) -> Prepared:
        from keras_vit.training.self_supervised.callbacks import ReconstructionPictures
        from keras_vit.training.self_supervised.data import with_noise
        from keras_vit.training.self_supervised.mae import masked_autoencoder

        settings = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        pictures = settings.pop("pictures")
        model = masked_autoencoder(encoder, **settings)
        data = with_noise(data, model.inputs[1].shape[1], seed)
        callbacks: list[keras.callbacks.Callback] = []
        if pictures and data.validation is not None:
            (images, noise), _ = data.validation.take(1).get_single_element()
            shown = np.asarray(images)[:pictures], np.asarray(noise)[:pictures]
            callbacks.append(ReconstructionPictures(*shown, run_dir / "reconstructions"))
        return Prepared(model, data, callbacks, encoder)


@dataclass(frozen=True, kw_only=True)
class DINO:
    """Self-distillation without labels (Caron et al., arXiv 2104.14294), see `self_distillation`.

    The data must have several views of each image, such as those of `multi_crop`. The saved encoder is the teacher's,
    which the authors evaluate.

    Attributes:
        prototypes: The number of outputs of the head.
        hidden: The units of the two hidden layers of the head.
        bottleneck: The width of the vectors before the last layer of the head.
        train_gain: Whether the norm of the last layer's weights is trained; the authors do so for ViT-S only.
        student_temperature: The temperature of the student's outputs.
        teacher_temperature: The temperature of the teacher's outputs in the first epoch.
        final_teacher_temperature: The one after `temperature_epochs` epochs, to which it rises linearly.
        temperature_epochs: The number of epochs of this rise.
        center_momentum: The momentum of the moving average that is subtracted from the teacher's outputs.
        teacher_momentum: The momentum of the teacher's weights, which a half cosine takes to 1 during the training.
        frozen_epochs: The number of first epochs without updates of the head's last layer.
    """

    encoder_settings: ClassVar[Mapping[str, str]] = {"position_resizing": "cubic_offset"}

    prototypes: int = 65536
    hidden: int = 2048
    bottleneck: int = 256
    train_gain: bool = False
    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    final_teacher_temperature: float = 0.07
    temperature_epochs: int = 30
    center_momentum: float = 0.9
    teacher_momentum: float = 0.996
    frozen_epochs: int = 1

    def prepare(self, encoder: keras.Model, data: ImageData, run_dir: Path, seed: int) -> Prepared:
        from keras_vit.training.self_supervised.dino import DINOSchedule, self_distillation

        views = data.train(0, 0).element_spec[0]
        if not isinstance(views, tuple):
            raise ValueError(
                "DINO needs several views of each image: create the data with augmentation=training.multi_crop()."
            )
        model, teacher = self_distillation(
            encoder,
            [tuple(view.shape[1:]) for view in views],
            prototypes=self.prototypes,
            hidden=self.hidden,
            bottleneck=self.bottleneck,
            train_gain=self.train_gain,
            student_temperature=self.student_temperature,
            center_momentum=self.center_momentum,
        )
        callbacks = [
            DINOSchedule(
                teacher_temperature=self.teacher_temperature,
                final_teacher_temperature=self.final_teacher_temperature,
                temperature_epochs=self.temperature_epochs,
                teacher_momentum=self.teacher_momentum,
                frozen_epochs=self.frozen_epochs,
            )
        ]
        # Validation images have a single view.
        return Prepared(model, dataclasses.replace(data, validation=None, prepare=None), callbacks, teacher)


@dataclass(frozen=True, kw_only=True)
class BEiT:
    """Predict the codes of hidden patches (Bao et al., arXiv 2106.08254), see `masked_image_model`.

    The codes come from a tokenizer, which sees the same crop of an image as the encoder, or with the data, see
    `Pipeline.codes`.

    Attributes:
        tokenizer: The path of the saved tokenizer, such as the encoder.keras of a run with the method "tokenizer". None
            takes the codes of the data.
        vocabulary: The number of codes of the data. A tokenizer knows its own number.
        mask_ratio: The fraction of the patches that is hidden; the authors hide 75 of 196.
        smallest_block: The smallest number of patches in a hidden block.
        aspect: The smallest aspect ratio of a block, height / width; the largest is 1 / `aspect`.
    """

    encoder_settings: ClassVar[Mapping[str, Any]] = {"shared_positions": True}

    tokenizer: str | None = None
    vocabulary: int = 8192
    mask_ratio: float = 75 / 196
    smallest_block: int = 16
    aspect: float = 0.3

    def prepare(self, encoder: keras.Model, data: ImageData, run_dir: Path, seed: int) -> Prepared:
        from keras_vit.training.self_supervised.beit import masked_image_model
        from keras_vit.training.self_supervised.block_masks import NUMBERS, hidden_patches
        from keras_vit.training.self_supervised.data import with_noise
        from keras_vit.utils.files import saved_model

        codes = data.settings.get("codes")
        if (self.tokenizer is None) == (codes is None):
            raise ValueError(
                "BEiT needs the codes of the images either from a tokenizer, BEiT(tokenizer='runs/tokenizer/"
                "encoder.keras'), which the method 'tokenizer' trains, or from a file that the data is created with, "
                f"codes='codes.npy'; received tokenizer={self.tokenizer!r} and {'such' if codes else 'other'} data."
            )
        tokenizer = None if self.tokenizer is None else saved_model(self.tokenizer)
        if codes is not None and codes["largest"] >= self.vocabulary:
            raise ValueError(
                f"The codes of the data go up to {codes['largest']}, so vocabulary must be more than that; received "
                f"vocabulary={self.vocabulary}."
            )
        model = masked_image_model(encoder, tokenizer, vocabulary=self.vocabulary, mask_ratio=self.mask_ratio)
        patch_embedding = encoder.get_layer("patch_embedding")
        drawn = functools.partial(
            hidden_patches,
            grid=patch_embedding.grid(encoder.input_shape),
            count=model.inputs[-1].shape[1],
            smallest=self.smallest_block,
            aspect=self.aspect,
        )
        if codes is not None:
            # The file has codes of the training images only.
            data = dataclasses.replace(data, validation=None)
        data = with_noise(data, NUMBERS, seed, drawn)
        if self.tokenizer is not None:
            settings = {
                **data.settings,
                "tokenizer": hashlib.sha256(Path(self.tokenizer).read_bytes()).hexdigest()[:16],
            }
            data = dataclasses.replace(data, settings=settings)
        return Prepared(model, data, [], encoder)


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """Train a tokenizer for an encoder: a discrete variational autoencoder (arXiv 2102.12092), see `image_tokenizer`.

    The encoder determines the size of the images and of the patches, and is not trained. What is saved as the encoder
    is the tokenizer, for `BEiT(tokenizer=...)`.

    Attributes:
        vocabulary: The number of codes.
        width: The number of channels of the map of patches.
        depth: The number of residual blocks in the tokenizer, and in its decoder.
        kl_weight: The weight of the divergence of the codes from a uniform distribution, see `discrete_autoencoder`.
        final_temperature: The temperature of the relaxed codes in the last epoch; the first has 1.
    """

    encoder_settings: ClassVar[Mapping[str, Any]] = {}

    vocabulary: int = 8192
    width: int = 256
    depth: int = 2
    kl_weight: float = 0.001
    final_temperature: float = 1 / 16

    def prepare(self, encoder: keras.Model, data: ImageData, run_dir: Path, seed: int) -> Prepared:
        from keras_vit.models.model_images import image_facts, normalizes_images
        from keras_vit.training.self_supervised.data import with_noise
        from keras_vit.training.self_supervised.tokenizer import (
            TemperatureSchedule,
            discrete_autoencoder,
            image_tokenizer,
        )

        patch_embedding = encoder.get_layer("patch_embedding")
        tokenizer = image_tokenizer(
            encoder.input_shape[1:],
            patch_size=patch_embedding.patch_size,
            vocabulary=self.vocabulary,
            width=self.width,
            depth=self.depth,
            include_preprocessing=normalizes_images(encoder),
            statistics=image_facts(encoder).statistics,
            dtype=patch_embedding.dtype_policy,
        )
        model = discrete_autoencoder(tokenizer, kl_weight=self.kl_weight)
        data = with_noise(data, 1, seed)
        return Prepared(model, data, [TemperatureSchedule(self.final_temperature)], tokenizer)


@dataclass(frozen=True, kw_only=True)
class InstanceDiscrimination:
    """Instance discrimination (Cao and Yu, arXiv 2201.10728), see `instance_discrimination`.

    For data sets of a few thousand images: each training image is a class of its own. The data can have several views
    of each image.

    Attributes:
        cutmix: The alpha of the Beta distribution of CutMix. 0 turns CutMix off.
        large_views: The number of first views that are mixed together; the other views are mixed together too.
    """

    encoder_settings: ClassVar[Mapping[str, Any]] = {}

    cutmix: float = 0.5
    large_views: int = 2

    def prepare(self, encoder: keras.Model, data: ImageData, run_dir: Path, seed: int) -> Prepared:
        from keras_vit.training.self_supervised.instance_discrimination import instance_discrimination, with_instances

        views = data.train(0, 0).element_spec[0]
        shapes = [tuple(view.shape[1:]) for view in (views if isinstance(views, tuple) else (views,))]
        data, images = with_instances(data, cutmix_alpha=self.cutmix, large_views=self.large_views, seed=seed)
        model = instance_discrimination(encoder, shapes, images, large_views=self.large_views)
        return Prepared(model, data, [], encoder)


@dataclass(frozen=True, kw_only=True)
class IGPT:
    """Generative pre-training (Chen et al., "Generative Pretraining from Pixels", ICML 2020): predict the next pixel.

    The encoder is an iGPT that predicts colors, `keras_vit.iGPT_S(include_top=False, predict_colors=True)`. The authors
    train with batches of 128 images for a million steps, with Adam (beta_2 0.95), a warm-up of one epoch and a half
    cosine to 0, without dropout, and choose the learning rate among 0.01, 0.003, 0.001 and so on.

    Attributes:
        color_images: The number of training images whose pixels determine the colors, by k-means. 0 keeps the colors of
            the model, such as those of published weights.
    """

    encoder_settings: ClassVar[Mapping[str, Any]] = {"predict_colors": True}

    color_images: int = 1024

    def prepare(self, encoder: keras.Model, data: ImageData, run_dir: Path, seed: int) -> Prepared:
        from keras_vit import next_color_model, set_colors
        from keras_vit.training.self_supervised.colors import color_centers, some_images

        model = next_color_model(encoder)
        if self.color_images:
            colors = encoder.get_layer("colors")
            normalized = keras.Model(encoder.input, colors.input)
            images = [normalized(images) for images in some_images(data, self.color_images)]
            set_colors(encoder, color_centers(images, colors.num_colors, seed))
        return Prepared(model, data, [], encoder)


METHODS = {
    "mae": MAE,
    "dino": DINO,
    "beit": BEiT,
    "tokenizer": Tokenizer,
    "instance_discrimination": InstanceDiscrimination,
    "igpt": IGPT,
}
