"""Train an encoder without labels, in a run like any other."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import keras

from keras_vit.training.data import ImageData
from keras_vit.training.running.trainer import fit
from keras_vit.training.self_supervised.callbacks import SaveEncoder
from keras_vit.training.self_supervised.methods import METHODS, Method
from keras_vit.training.self_supervised.objective import OutputLoss


@dataclass(frozen=True)
class PretrainingResult:
    """The result of `pretrain`.

    Attributes:
        history: One dictionary per epoch, as in log.csv, with "epoch", "learning_rate" and "loss", and for MAE the
            "val_loss" of the validation images.
        encoder: The path of the saved encoder.
        run_dir: The folder of the run.
    """

    history: list[dict]
    encoder: Path
    run_dir: Path


def pretrain(
    encoder: keras.Model,
    data: ImageData,
    method: Method | str = "mae",
    *,
    run_dir: str | Path,
    seed: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    notes: Mapping | None = None,
    **settings,
) -> PretrainingResult:
    """Train an encoder without labels.

        encoder = keras_vit.ViT_S16(include_top=False, position_embedding="sincos2d_mae")
        training.pretrain(encoder, data, "mae", run_dir="runs/mae", epochs=100, learning_rate=1.5e-4)

    The run is one of `fit`, with the same folder, checkpoints, strategies and logs. The folder also has encoder.keras,
    the encoder with the weights of the last epoch, and best.keras is the whole model with the lowest loss.
    Afterwards, the encoder has the weights of the last step. Load encoder.keras as `weights` of a model of the same
    form, with a classifier, to fine-tune it.

    Args:
        encoder: A model that returns all tokens, `include_top=False` and `pooling=None`. Build it within the scope of a
            strategy to train it under the strategy.
        data: The images. Their labels are not used.
        method: The method: "mae", "dino", "beit", "tokenizer", "instance_discrimination" or "igpt", or an object such
            as `MAE(mask_ratio=0.6)`, `DINO(prototypes=4096)` or `BEiT(tokenizer="runs/tokenizer/encoder.keras")`. With
            "tokenizer", the encoder only determines the size of the patches, and what is trained and saved is a
            tokenizer for it. With "igpt", the encoder is an iGPT that predicts colors.
        run_dir: A folder that is empty or does not exist yet. With `resume`, the folder of the run.
        seed: The seed of the initial weights of what is added to the encoder, and of everything random in the training.
        callbacks: Further Keras callbacks, see `fit`.
        notes: Further JSON-serializable entries of run.json.
        settings: Further arguments of `fit`, such as `resume`, `hyperparameters` or fields of `Hyperparameters`.

    Returns:
        The history, and the paths of the encoder and of the folder.

    Raises:
        ValueError: If there is no such method, or the encoder or the data do not fit it.

    `fit` describes further errors.
    """
    if isinstance(method, str):
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}; received {method!r}.")
        method = cast(Method, METHODS[method]())
    run_dir = Path(run_dir)
    data = data.for_model(encoder)
    keras.utils.set_random_seed(seed)
    with encoder.distribute_strategy.scope():
        prepared = method.prepare(encoder, data, run_dir, seed)
    name = type(method).__name__
    described = {"name": name, **dataclasses.asdict(method)} if dataclasses.is_dataclass(method) else {"name": name}
    data = dataclasses.replace(prepared.data, settings={**prepared.data.settings, "method": described})
    path = run_dir / "encoder.keras"
    result = fit(
        prepared.model,
        data,
        run_dir=run_dir,
        loss=OutputLoss(),
        seed=seed,
        callbacks=[*prepared.callbacks, SaveEncoder(prepared.encoder, path), *callbacks],
        notes={"method": described, **(notes or {})},
        **settings,
    )
    return PretrainingResult(result.history, path, run_dir)
