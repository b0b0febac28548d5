"""The `keras-vit` command. It stands on top of the three packages, so what a subcommand needs is imported there."""

import argparse
import json
import os
import sys
from collections.abc import Callable

import numpy as np


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns 0, or 1 after one line on standard error for anything a user can mend."""
    parser = argparse.ArgumentParser(
        prog="keras-vit", description="Vision transformers in Keras, from training to a measured int8 file."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, (description, add_arguments, run) in _COMMANDS.items():
        command = commands.add_parser(name, help=description, description=description)
        add_arguments(command)
        command.set_defaults(run=run)
    given = parser.parse_args(arguments)
    try:
        given.run(given)
    except (ValueError, TypeError, OSError, ImportError, RuntimeError, FloatingPointError) as error:
        print(f"keras-vit: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("keras-vit: interrupted", file=sys.stderr)
        return 130
    return 0


def _show(result, as_json: bool) -> None:
    print(json.dumps(result.to_dict(), indent=2) if as_json else result)


def _json_flag(parser):
    parser.add_argument("--json", action="store_true", help="print the facts as JSON")


def _array(path: str) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path!r} is no .npy file with an array of numbers: {error}") from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path!r} is an archive of several arrays; a .npy file with a single one is needed.")
    return array


def _model(name_or_path: str):
    """A saved model, or one of the registry's with random weights."""
    import keras_vit

    if not name_or_path.endswith(".keras"):
        return keras_vit.create_model(name_or_path)
    import keras_vit.edge  # A quantized model's layers are there.
    from keras_vit.utils.files import saved_model

    return saved_model(name_or_path)


_MODEL_HELP = "a .keras file, or a name of `keras-vit list` (with random weights)"


def _list_arguments(parser):
    parser.add_argument("pattern", nargs="?", default="*", help='such as "vit_b*" (default: all)')
    parser.add_argument("--commercial", action="store_true", help="only those with a license that plainly allows it")
    _json_flag(parser)


def _list(given):
    import keras_vit

    names = keras_vit.list_models(given.pattern, commercial=given.commercial)
    print(json.dumps(names) if given.json else "\n".join(names))


def _info_arguments(parser):
    parser.add_argument("model", help="a name of `keras-vit list`")
    _json_flag(parser)


def _info(given):
    import keras_vit

    facts = keras_vit.model_info(given.model)
    if given.json:
        print(json.dumps(facts, indent=2))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        shown = (
            f"{value:,}" if isinstance(value, int) else " x ".join(map(str, value)) if name == "image_size" else value
        )
        print(f"{name.replace('_', ' '):<{width}}  {shown}")


def _weights_arguments(parser):
    parser.add_argument("model", help="a name of `keras-vit list`")
    parser.add_argument("--download", metavar="TAG", help="fetch these and print where they are")
    parser.add_argument("--again", action="store_true", help="fetch them although they are in the cache")
    _json_flag(parser)


def _weights(given):
    import keras_vit

    if given.download is not None:
        path = keras_vit.download_weights(given.model, given.download, again=given.again)
        print(json.dumps({"path": path}) if given.json else path)
        return
    records = keras_vit.list_weights(given.model)
    if given.json:
        print(json.dumps([record.to_dict() for record in records], indent=2))
        return
    if not records:
        print(f"No weights are published for {given.model}.")
        return
    from keras_vit.utils.tables import table

    rows = [
        (
            record.tag,
            " x ".join(map(str, record.image_size)),
            "-" if record.classes is None else str(record.classes),
            "-" if record.top1 is None else f"{record.top1:.2f}",
            record.trained_on,
            record.license,
        )
        for record in records
    ]
    print(table(("Tag", "Size", "Classes", "Top-1 %", "Trained on", "Licence"), rows))


def _inspect_arguments(parser):
    parser.add_argument("model", help=_MODEL_HELP)
    parser.add_argument("--image", required=True, metavar="FILE", help="a picture: JPEG, PNG or what else pillow reads")
    parser.add_argument("--output", default="inspect.html", metavar="FILE", help="default: inspect.html")
    parser.add_argument("--weights", metavar="PATH", help="a .safetensors, .npz or .weights.h5 file to load first")
    parser.add_argument("--like", metavar="NAME", help="the published model whose normalization of images is used")


def _inspect(given):
    import keras_vit
    from keras_vit.inspection.inspect_page import inspect_image

    model = _model(given.model)
    if given.weights is not None:
        keras_vit.load_weights(model, given.weights)
        note = f"Weights: {os.path.basename(given.weights)}."
    elif given.model.endswith(".keras"):
        note = f"Weights: {os.path.basename(given.model)}."
    else:
        note = "The weights are random, so nothing here was learned: --weights loads a file."
    print(f"{inspect_image(model, given.image, given.output, like=given.like, note=note)}: open it in a browser")


def _train_arguments(parser):
    # The one command whose arguments stand beside its code: they are the recipe's, and need no TensorFlow.
    from keras_vit.cli.train import add_arguments

    add_arguments(parser)


def _train(given):
    from keras_vit.cli.train import main as train

    train(given)


def _records_arguments(parser):
    parser.add_argument("folder", help="holds a folder of images for each class")
    parser.add_argument("output", help="folder for the files")
    parser.add_argument("--name", default="train", help="first part of the files' names (default: train)")
    parser.add_argument("--shards", type=int, default=16, help="number of files (default: 16)")
    parser.add_argument("--seed", type=int, default=0, help="of the images' order (default: 0)")
    parser.add_argument("--max-corrupt", type=int, default=10, help="images that may be left out (default: 10)")


def _records(given):
    from keras_vit import training

    settings = {name: getattr(given, name) for name in ("name", "shards", "seed", "max_corrupt")}
    files = training.write_tfrecords(given.folder, given.output, **settings)
    print(f"{given.output}: {len(files)} files; train on them with --data tfrecords:{given.output}")


def _evaluate_arguments(parser):
    from keras_vit.cli.evaluate import add_arguments

    add_arguments(parser)


def _evaluate(given):
    from keras_vit.cli.evaluate import main as evaluate

    if not given.model.endswith(".keras"):
        raise ValueError(f"A trained model is evaluated, a .keras file; received {given.model!r}.")
    evaluate(given, _model(given.model))


def _quantize_arguments(parser):
    parser.add_argument("model", help=_MODEL_HELP)
    parser.add_argument("output", help="the quantized model to write, ending in .keras")
    parser.add_argument("--calibration", required=True, metavar="NPY", help="images that set where the ranges start")


def _quantize(given):
    from keras_vit import edge
    from keras_vit.utils.files import replacing

    if not given.output.endswith(".keras"):
        raise ValueError(f"The quantized model's name ends in .keras; received {given.output!r}.")
    quantized = edge.quantize_aware(_model(given.model), calibration_data=_array(given.calibration))
    with replacing(given.output) as partial:
        quantized.save(partial)
    print(f"{given.output}: ready to train on, or to export with --precision hybrid_int8")


def _export_arguments(parser):
    parser.add_argument("model", help=_MODEL_HELP)
    parser.add_argument("output", help="the file to write, ending in .tflite")
    parser.add_argument(
        "--precision", default="float32", help="float32, float16, dynamic_int8 or hybrid_int8 (default: float32)"
    )
    parser.add_argument("--calibration", metavar="NPY", help="images, for hybrid_int8 of a float model")


def _export(given):
    from keras_vit import edge

    images = None if given.calibration is None else _array(given.calibration)
    path = edge.export(_model(given.model), given.output, given.precision, calibration_data=images)
    print(f"{path}: {os.path.getsize(path) / 1e6:.2f} MB, {given.precision}")


def _verify_arguments(parser):
    parser.add_argument("model", help="the reference: a .keras or a .tflite file")
    parser.add_argument("file", help="the .tflite file to prove")
    parser.add_argument("--images", required=True, metavar="NPY", help="(images, height, width, channels)")
    parser.add_argument("--labels", metavar="NPY", help="classes (images,), to count the right ones")
    _json_flag(parser)


def _verify(given):
    from keras_vit import edge

    reference = given.model if given.model.endswith(".tflite") else _model(given.model)
    labels = None if given.labels is None else _array(given.labels)
    _show(edge.verify(reference, given.file, _array(given.images), labels=labels), given.json)


def _audit_arguments(parser):
    parser.add_argument("file", help="a .tflite file")
    parser.add_argument("--target", default="cpu", help="default: cpu")
    _json_flag(parser)


def _audit(given):
    from keras_vit import edge

    _show(edge.audit(given.file, target=given.target), given.json)


def _benchmark_arguments(parser):
    parser.add_argument("files", nargs="+", metavar="FILE", help=".tflite files, measured in turn")
    parser.add_argument("--device", default="local", help="default: local")
    parser.add_argument("--threads", type=int, default=1, help="default: 1")
    parser.add_argument("--runs", type=int, default=50, help="measured runs of each file (default: 50)")
    _json_flag(parser)


def _benchmark(given):
    from keras_vit import edge

    _show(edge.benchmark(given.files, given.device, threads=given.threads, runs=given.runs), given.json)


def _demo_arguments(parser):
    parser.add_argument("--output", default="runs/demo", metavar="FOLDER", help="default: runs/demo")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    _json_flag(parser)


def _demo(given):
    from keras_vit.demo.run import demo

    demo(given.output, given.seed, as_json=given.json)


_COMMANDS: dict[str, tuple[str, Callable, Callable]] = {
    "list": ("List the models.", _list_arguments, _list),
    "info": ("Show what a model costs and where it comes from.", _info_arguments, _info),
    "weights": ("List or fetch a model's published weights.", _weights_arguments, _weights),
    "inspect": ("Show what a model makes of an image, as a page.", _inspect_arguments, _inspect),
    "records": ("Write a folder of images to TFRecord files.", _records_arguments, _records),
    "train": ("Train a model.", _train_arguments, _train),
    "evaluate": ("Measure a model on labelled images.", _evaluate_arguments, _evaluate),
    "quantize": ("Make a model ready for quantization-aware training.", _quantize_arguments, _quantize),
    "export": ("Write a model as a .tflite file.", _export_arguments, _export),
    "verify": ("Prove that a file gives its model's answers.", _verify_arguments, _verify),
    "audit": ("Tell what in a file a device will not run fast.", _audit_arguments, _audit),
    "benchmark": ("Measure how long files take.", _benchmark_arguments, _benchmark),
    "demo": ("Go the whole way on a small data set, and write a report.", _demo_arguments, _demo),
}
