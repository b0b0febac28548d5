"""Import parts of tensorflow-model-optimization without its side effect."""

import importlib
import os
from types import ModuleType

from keras_vit.utils.missing import needs


def tfmot(tensorflow: ModuleType, module: str, purpose: str) -> ModuleType:
    """Return a module of tensorflow-model-optimization.

    Importing that package asks for Keras 2 in the whole process, by setting an environment variable that `tf.keras`
    reads when it is first used. Therefore `tf.keras` is used first, and the variable is restored.

    Args:
        tensorflow: The package, which the core of keras_vit does not import.
        module: The name of the module inside `tensorflow_model_optimization.python.core`.
        purpose: What needs the package.

    Raises:
        ImportError: The package is not installed. The message gives the pip command.
    """
    tensorflow.keras.version()
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    try:
        with needs("tensorflow-model-optimization", purpose, "edge"):
            return importlib.import_module(f"tensorflow_model_optimization.python.core.{module}")
    finally:
        if before is None:
            os.environ.pop("TF_USE_LEGACY_KERAS", None)
        else:
            os.environ["TF_USE_LEGACY_KERAS"] = before
