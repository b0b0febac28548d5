"""Import every module that registers classes with Keras, so that saved models which use them can be loaded."""

import keras_vit.training.objectives.losses
import keras_vit.training.optimizers.adam
import keras_vit.training.optimizers.factory
import keras_vit.training.optimizers.lars
import keras_vit.training.optimizers.schedules
import keras_vit.training.optimizers.soap
import keras_vit.training.self_supervised.beit
import keras_vit.training.self_supervised.dino
import keras_vit.training.self_supervised.encoder
import keras_vit.training.self_supervised.instance_discrimination
import keras_vit.training.self_supervised.mae
import keras_vit.training.self_supervised.masking
import keras_vit.training.self_supervised.objective
import keras_vit.training.self_supervised.tokenizer  # noqa: F401
