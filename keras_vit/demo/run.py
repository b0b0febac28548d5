"""The demo: train, quantize, export, verify and measure small models, and write a report."""

import contextlib
import json
import os
import platform
import shutil
import sys
import time
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np

import keras_vit
from keras_vit import edge, training
from keras_vit.demo.report import ExampleImage, FileResult, results_table, write_report
from keras_vit.inspection.attention_maps import patch_attention
from keras_vit.inspection.features import patch_grid
from keras_vit.inspection.figures import new_figure
from keras_vit.models.builder import set_image_facts
from keras_vit.models.image_facts import UNIT, ImageFacts

PRECISIONS = ("float32", "dynamic_int8", "hybrid_int8")
# Chosen on the validation images.
MODEL = {"patch_size": 2, "width": 64, "depth": 4, "num_heads": 4, "drop_path_rate": 0.2}
IMAGE_SIZE = 16
FLOAT_TRAINING = {"epochs": 80, "learning_rate": 3e-3, "warmup_epochs": 5}
INT8_TRAINING = {"epochs": 10, "learning_rate": 1e-4}


def demo(folder: str | os.PathLike = "runs/demo", seed: int = 0, *, as_json: bool = False) -> list[FileResult]:
    """Export a small ViT trained on handwritten digits, and an untrained ViT-Ti/16, and measure the files.

    Args:
        folder: Folder for the models, the exported files and report.html. An earlier demo in it is replaced at the end,
            when everything has succeeded.
        seed: Seed of the weights, of the order of the images and of their augmentation.
        as_json: Whether to print the results as JSON, and the progress on standard error.

    Returns:
        The measurements of each file.

    Raises:
        FileExistsError: If the folder holds anything other than a demo.
        ImportError: If an optional dependency is not installed.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()) and not (folder / "report.html").is_file():
        raise FileExistsError(f"{folder} is not empty and holds no demo. Pass another folder with --output.")
    new_figure(1, 1)  # A missing matplotlib is reported before the training, not after it.
    work = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        results = _run(work, seed)
    shutil.rmtree(folder, ignore_errors=True)
    work.replace(folder)
    if as_json:
        print(json.dumps([row.to_dict() for row in results], indent=2))
    else:
        print(f"\n{results_table(results)}\n\n{folder / 'report.html'}: open it in a browser")
    return results


def _run(folder, seed):
    started = time.perf_counter()

    def print_step(text):
        print(f"[{time.perf_counter() - started:4.0f} s] {text}", flush=True)

    data = training.digits(image_size=IMAGE_SIZE, seed=seed, statistics=UNIT)
    keras.utils.set_random_seed(seed)
    model = keras_vit.ViT(classes=data.classes, input_shape=data.input_shape, name="digits", **MODEL)
    set_image_facts(model, ImageFacts(UNIT))
    print_step(f"Training a ViT with {model.count_params():,} parameters on handwritten digits")
    float_run = training.fit(model, data, run_dir=folder / "float", seed=seed, **FLOAT_TRAINING)
    model = keras.models.load_model(float_run.best_model)

    print_step("Quantization-aware training")
    calibration = np.concatenate([images for images, _ in data.train(0).take(4).as_numpy_iterator()])
    quantized = edge.quantize_aware(model, calibration_data=calibration)
    int8_run = training.fit(quantized, data, run_dir=folder / "int8", seed=seed, **INT8_TRAINING)
    quantized = keras.models.load_model(int8_run.best_model)

    print_step("Exporting the ViT and verifying its files on the test images")
    files = _export(folder, "digits ViT", model, quantized, data.test_images, data.test_labels)
    print_step("Exporting an untrained ViT-Ti/16 and verifying its files")
    random = np.random.default_rng(seed)
    ti16 = _random_ti16(random)
    noise = random.standard_normal((8, *ti16.input_shape[1:])).astype("float32")
    files += _export(folder, "ViT-Ti/16", ti16, edge.quantize_aware(ti16, calibration_data=noise), noise, None)
    print_step("Measuring the latency of all files in turn, with one thread")
    benchmarks = edge.benchmark([path for path, _, _ in files], runs=100)
    results = _results(files, benchmarks)
    seconds = time.perf_counter() - started
    _report(folder / "report.html", results, benchmarks, float_run, int8_run, model, quantized, data, seconds)
    print_step("Done")
    return results


def _random_ti16(random):
    """Return a ViT-Ti/16 with random weights. None of them is zero, so no operation can be optimized away."""
    model = keras_vit.ViT_Ti16()
    for variable in model.trainable_weights:
        variable.assign_add(0.02 * random.standard_normal(variable.shape))
    return model


def _export(folder, title, model, quantized, images, labels):
    """Export a model in every precision, and return a list of (path, title, verification)."""
    name = title.replace(" ", "_").replace("/", "").replace("-", "_").lower()
    files = []
    for precision in PRECISIONS:
        source = quantized if precision == "hybrid_int8" else model
        path = edge.export(source, folder / f"{name}_{precision}.tflite", precision)
        files.append((path, title, edge.verify(source, path, images, labels=labels)))
    return files


def _results(files, benchmarks):
    float32 = {}  # The first benchmark of each model.
    results = []
    for (path, title, verification), benchmark in zip(files, benchmarks, strict=True):
        float32.setdefault(title, benchmark)
        results.append(
            FileResult(
                model=title,
                file=os.path.basename(path),
                size_bytes=os.path.getsize(path),
                top1=verification.top1,
                agreement=verification.top1_agreement,
                snr_db=verification.snr_db,
                samples_ms=benchmark.samples_ms,
                speed=float32[title].p50_ms / benchmark.p50_ms,
                partitions=edge.audit(path).partitions,
            )
        )
    return results


def _report(path, results, benchmarks, float_run, int8_run, model, quantized, data, seconds):
    floats, int8 = results[0], results[len(PRECISIONS) - 1]
    ti16 = results[-1]
    write_report(
        path,
        title="From a Keras ViT to a measured int8 file",
        summary=(
            "A small vision transformer was trained on 1,257 handwritten digits, fine-tuned with quantization-aware "
            "training, exported, and compared with its Keras model on 360 test images. ViT-Ti/16 at 224 x 224, with "
            "random weights, shows the speed of a model of full size. The hybrid_int8 files are compared with the "
            "quantized Keras model, the other files with the float model."
        ),
        highlights=[
            (f"{ti16.speed:.2f} x", "the speed of float32: ViT-Ti/16 in hybrid_int8 with one thread"),
            (f"{100 * int8.top1:.1f} %", f"top-1 on the digits in int8; {100 * floats.top1:.1f} % in float32"),
            (f"{100 * int8.agreement:.1f} %", "of the predictions of the int8 file are those of the Keras model"),
            (f"{int8.snr_db:.0f} dB", "signal-to-noise ratio of the int8 file against the Keras model"),
        ],
        files=results,
        curves={"float training": float_run.history, "quantization-aware training": int8_run.history},
        images=_example_images(model, quantized, data),
        environment={
            "processor": _processor(),
            "cores": os.cpu_count(),
            "threads": benchmarks[0].threads,
            "runtime": benchmarks[0].runtime,
            "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            **{name: version(name) for name in ("tensorflow", "keras", "keras-vit", "litert-quantizer")},
            "duration of the demo": f"{seconds:.0f} s",
        },
    )


def _example_images(model, quantized, data, count=6):
    """Return the first test image of the first classes, and up to two that the int8 model misclassifies."""
    labels = data.test_labels
    scores = {
        "float": model.predict(data.test_images, verbose=0),
        "int8": quantized.predict(data.test_images, verbose=0),
    }
    wrong = np.flatnonzero(scores["int8"].argmax(1) != labels)[:2]
    chosen = [*wrong, *(int(np.flatnonzero(labels == digit)[0]) for digit in range(count - len(wrong)))]
    *_, last_block = keras_vit.attention_maps(model, data.test_images[chosen]).values()
    attention = patch_attention(last_block.mean(axis=1), patch_grid(model))
    return [
        ExampleImage(
            image=data.test_images[index],
            label=data.class_names[labels[index]],
            predictions={
                name: (data.class_names[rows[index].argmax()], float(rows[index].max()))
                for name, rows in scores.items()
            },
            attention=heat,
        )
        for index, heat in zip(chosen, attention, strict=True)
    ]


def _processor():
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
