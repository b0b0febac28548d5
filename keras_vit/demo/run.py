"""The whole way in one command: train, quantize, export, verify, measure, report."""

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
from keras_vit.demo.report import FileResult, Picture, table, write_report
from keras_vit.inspection.attention_maps import gathered
from keras_vit.inspection.features import patch_grid

PRECISIONS = ("float32", "dynamic_int8", "hybrid_int8")
# Settings of the two trainings, found on the validation images.
MODEL = {"patch_size": 2, "width": 64, "depth": 4, "num_heads": 4, "drop_path_rate": 0.2}
IMAGE_SIZE = 16
FLOAT_TRAINING = {"epochs": 80, "learning_rate": 3e-3, "warmup_epochs": 5}
INT8_TRAINING = {"epochs": 10, "learning_rate": 1e-4}


def demo(folder: str | os.PathLike = "runs/demo", seed: int = 0, *, as_json: bool = False) -> list[FileResult]:
    """Takes a small ViT on handwritten digits, and ViT-Ti/16's graph at 224, all the way to measured int8 files.

    Args:
        folder: Gets the models, the files and report.html. What a former demo left there is replaced at the end, when
            everything has worked.
        seed: Of the weights, the order of the images and their augmentation.
        as_json: Print the results as JSON on standard output, and the progress on standard error.

    Returns:
        One row a file, as printed.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()) and not (folder / "report.html").is_file():
        raise FileExistsError(f"{folder} holds something other than a demo; name another folder with --output.")
    work = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    results = _run(work, seed, sys.stderr if as_json else sys.stdout)
    shutil.rmtree(folder, ignore_errors=True)
    work.replace(folder)
    if as_json:
        print(json.dumps([_facts(row) for row in results], indent=2))
    else:
        print(f"\n{table(results)}\n\n{folder / 'report.html'} shows all of this with curves and pictures.")
    return results


def _run(folder, seed, out):
    started = time.perf_counter()

    def say(text):
        print(f"[{time.perf_counter() - started:4.0f} s] {text}", file=out, flush=True)

    data = training.digits(image_size=IMAGE_SIZE, seed=seed)
    keras.utils.set_random_seed(seed)
    model = keras_vit.ViT(classes=data.classes, input_shape=data.input_shape, name="digits", **MODEL)
    epochs = FLOAT_TRAINING["epochs"]
    say(f"training a ViT of {model.count_params():,} parameters on {len(data.class_names)} digits, {epochs} epochs")
    float_run = training.fit(
        model, data, run_dir=folder / "float", seed=seed, verbose=0, callbacks=[_Progress(out)], **FLOAT_TRAINING
    )
    model = keras.models.load_model(float_run.best_model)

    say(f"quantization-aware training, {INT8_TRAINING['epochs']} epochs")
    calibration = np.concatenate([images for images, _ in data.train(0).take(4).as_numpy_iterator()])
    quantized = edge.quantize_aware(model, calibration_data=calibration)
    int8_run = training.fit(
        quantized, data, run_dir=folder / "int8", seed=seed, verbose=0, callbacks=[_Progress(out)], **INT8_TRAINING
    )
    quantized = keras.models.load_model(int8_run.best_model)

    say("exporting and verifying on the test images")
    random = np.random.default_rng(seed)
    ti16 = _random_ti16(random)
    noise = random.standard_normal((8, *ti16.input_shape[1:])).astype("float32")
    files = [
        *_files(folder, "digits ViT", model, quantized, data.test_images, data.test_labels),
        *_files(folder, "ViT-Ti/16", ti16, edge.quantize_aware(ti16, calibration_data=noise), noise, None),
    ]
    say("measuring all files in turn, one thread")
    benchmarks = edge.benchmark([path for path, _ in files], runs=100)
    results = _rows(files, benchmarks)
    seconds = time.perf_counter() - started
    _report(folder / "report.html", results, benchmarks, float_run, int8_run, model, quantized, data, seconds)
    say("done")
    return results


class _Progress(keras.callbacks.Callback):
    """One line every ten epochs."""

    def __init__(self, out):
        super().__init__()
        self.out = out

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % 10 == 0:
            text = f"epoch {epoch + 1:3}: loss {logs['loss']:.3f}, validation accuracy {logs['val_accuracy']:.1%}"
            print(f"         {text}", file=self.out, flush=True)


def _random_ti16(random):
    """ViT-Ti/16 with random weights, for its speed: no weight is zero, so that nothing can be folded away."""
    model = keras_vit.ViT_Ti16()
    for variable in model.trainable_weights:
        variable.assign_add(0.02 * random.standard_normal(variable.shape))
    return model


def _files(folder, title, model, quantized, images, labels):
    """Exports a model in every precision: pairs of path and verification."""
    for precision in PRECISIONS:
        source = quantized if precision == "hybrid_int8" else model
        name = title.replace(" ", "_").replace("/", "").replace("-", "_").lower()
        path = edge.export(source, folder / f"{name}_{precision}.tflite", precision)
        yield path, (title, edge.verify(source, path, images, labels=labels))


def _rows(files, benchmarks):
    reference = {}
    rows = []
    for (path, (title, verification)), benchmark in zip(files, benchmarks, strict=True):
        first = reference.setdefault(title, benchmark)
        rows.append(
            FileResult(
                model=title,
                file=os.path.basename(path),
                size_bytes=os.path.getsize(path),
                top1=verification.top1,
                agreement=verification.top1_agreement,
                snr_db=verification.snr_db,
                samples_ms=benchmark.samples_ms,
                speed=first.p50_ms / benchmark.p50_ms,
                partitions=edge.audit(path).partitions,
            )
        )
    return rows


def _facts(row):
    return {
        "model": row.model,
        "file": row.file,
        "size_bytes": row.size_bytes,
        "top1": row.top1,
        "agreement": row.agreement,
        "snr_db": row.snr_db,
        "p50_ms": row.p50_ms,
        "p90_ms": row.p90_ms,
        "speed": row.speed,
        "partitions": row.partitions,
    }


def _report(path, results, benchmarks, float_run, int8_run, model, quantized, data, seconds):
    floats, int8 = results[0], results[len(PRECISIONS) - 1]
    ti16 = results[-1]
    write_report(
        path,
        title="From a Keras ViT to a measured int8 file",
        summary=(
            "A small vision transformer was trained on 1,257 scanned digits, trained on with int8's rounding, exported "
            "and compared with its Keras model on 360 test images. ViT-Ti/16 at 224 x 224, with random weights, shows "
            "the speed of a full-size model. The hybrid_int8 files are compared with the model that was trained with "
            "int8's rounding, the others with the float model."
        ),
        highlights=[
            (f"{ti16.speed:.2f} x", "as fast as float32: ViT-Ti/16 in hybrid_int8, one thread"),
            (f"{100 * int8.top1:.1f} %", f"of the digits right in int8, {100 * floats.top1:.1f} % in float32"),
            (f"{100 * int8.agreement:.1f} %", "of the int8 file's answers are its Keras model's"),
            (f"{int8.snr_db:.0f} dB", "signal to noise of the int8 file against its Keras model"),
        ],
        files=results,
        curves={"float training": float_run.history, "quantization-aware training": int8_run.history},
        pictures=_pictures(model, quantized, data),
        environment={
            "processor": _processor(),
            "cores": os.cpu_count(),
            "threads measured with": benchmarks[0].threads,
            "runtime": benchmarks[0].runtime,
            "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            **{name: version(name) for name in ("tensorflow", "keras", "keras-vit", "ai-edge-quantizer")},
            "the whole demo took": f"{seconds:.0f} s",
        },
    )


def _pictures(model, quantized, data, count=6):
    """The first test image of the first classes, and any that the int8 model gets wrong."""
    labels = data.test_labels
    scores = {"float": model.predict(data.test_images, verbose=0)}
    scores["int8"] = quantized.predict(data.test_images, verbose=0)
    wrong = np.flatnonzero(scores["int8"].argmax(1) != labels)[:2]
    chosen = [*wrong, *(int(np.flatnonzero(labels == digit)[0]) for digit in range(count - len(wrong)))]
    attention = _class_token_attention(model, data.test_images[chosen])
    return [
        Picture(
            image=data.test_images[index],
            label=data.class_names[labels[index]],
            predictions={
                who: (data.class_names[rows[index].argmax()], float(rows[index].max())) for who, rows in scores.items()
            },
            attention={"attention": attention[place]},
        )
        for place, index in enumerate(chosen)
    ]


def _class_token_attention(model, images):
    """What the class token looks at in the last block, the mean of its heads: (images, rows, columns)."""
    *_, last = keras_vit.attention_maps(model, images).values()
    return gathered(last.mean(axis=1), patch_grid(model))


def _processor():
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
