"""Vision transformers in Keras that go all the way to the device.

Names are imported when they are first used: `import keras_vit` imports neither Keras nor TensorFlow.
"""

import importlib

from keras_vit._registration import finish_waiting, when_imported

__version__ = "0.1.0"

_SUBPACKAGES = ("edge", "layers", "training")
_FUNCTIONS = {  # Public names that do not belong to a family, each with its module.
    "attention_distance": "inspection.attention_maps",
    "attention_maps": "inspection.attention_maps",
    "attention_rollout": "inspection.attention_maps",
    "class_names": "models.classes",
    "count_macs": "models.info",
    "create_model": "models.registry",
    "download_weights": "models.registry",
    "feature_extractor": "inspection.features",
    "flatten": "graph.flattening",
    "fuse": "graph.fusion",
    "list_models": "models.registry",
    "list_weights": "models.registry",
    "load_weights": "weights.load",
    "model_info": "models.info",
    "new_head": "graph.classifier",
    "position_similarity": "inspection.attention_maps",
    "preprocess_input": "models.preprocessing",
    "resize_model": "graph.resizing",
    "set_class_names": "models.classes",
    "Statistics": "models.image_facts",
}


def _families():
    return importlib.import_module("keras_vit.models.registry").public_functions()


def __getattr__(name):
    if name in _SUBPACKAGES:
        return importlib.import_module(f"keras_vit.{name}")
    if name == "__all__":
        return sorted([*_FUNCTIONS, *_families(), "layers"])
    if name in _FUNCTIONS:
        value = getattr(importlib.import_module(f"keras_vit.{_FUNCTIONS[name]}"), name)
    elif not name.startswith("_") and name in _families():
        value = _families()[name]()
    else:
        raise AttributeError(f"module 'keras_vit' has no attribute {name!r}")
    finish_waiting()
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *_SUBPACKAGES, *_FUNCTIONS, *_families()})


def _register_classes():
    importlib.import_module("keras_vit.models.families").import_every_family()
    if importlib.import_module("keras").backend.backend() == "tensorflow":
        importlib.import_module("keras_vit.edge")  # It registers the layers of quantized models.


when_imported("keras", _register_classes)
