"""The loss of models that compute it themselves."""

import keras


@keras.saving.register_keras_serializable("keras_vit")
class OutputLoss(keras.losses.Loss):
    """Take a model's output, the loss of each image (batch, 1), as its loss. The labels are not used."""

    def __init__(self, reduction: str = "sum_over_batch_size", name: str = "output_loss", dtype: str | None = None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        return y_pred

    def get_config(self):
        return {"reduction": self.reduction, "name": self.name}
