"""Compare the accuracy of files after quantization-aware training with that of the float models, on small models.

    python -m tests.benchmarks quantized_digits

Models of six families learn the handwritten digits of scikit-learn, each with three seeds, and are trained on with each
scheme. The accuracies are those of the files on the test images. They are kept in build/quantized_digits, from where an
interrupted run continues.
"""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from keras_vit.utils.files import replacing
from keras_vit.utils.tables import table

FOLDER = Path("build/quantized_digits")
FAMILIES = ("vit", "deit", "mobilevit", "mobile_former", "efficientvit", "efficientvit_msra")
SEEDS = (0, 1, 2)
LIMITS = {"hybrid_int8": 0.3, "int8_int16": 0.3, "full_int8": 0.8, "int4_weights": 1.0}  # Percentage points of top-1.
AGREEMENT = {"hybrid_int8": 99.0, "int8_int16": 99.0, "full_int8": 98.0}  # Percent, of the file with its model.
SNR_DB = {"hybrid_int8": 30.0, "int8_int16": 30.0, "full_int8": 25.0}

EPOCHS = {"int4_weights": 8}  # For other schemes, 4.


def trained(family: str, seed: int) -> Path:
    """Return the path of a float model, which is trained if there is none yet."""
    from keras_vit import training

    recipe = training.recipe(f"digits_{family}")
    run = FOLDER / f"{family}-{seed}"
    training.train(recipe, "digits", run, seed=seed, verbose=0, resume=can_resume(run))
    return run / "best.keras"


def can_resume(run: Path) -> bool:
    """Return whether a run has a checkpoint. Without one, its folder is removed."""
    if (run / "checkpoint.safetensors").exists():
        return True
    shutil.rmtree(run, ignore_errors=True)
    return False


def accuracy(family: str, seed: int, scheme: str) -> dict[str, float]:
    """Train a float model on with the rounding of a scheme, and return what its file gives for the test images."""
    import keras

    from keras_vit import edge, training

    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model = keras.models.load_model(trained(family, seed), compile=False)
    data = training.digits(image_size=model.input_shape[1], seed=seed).for_model(model)
    quantized = edge.quantize_aware(model, scheme=scheme, calibration_data=data.validation)
    before = _top1(quantized, data)
    hyperparameters = training.Hyperparameters(
        epochs=EPOCHS.get(scheme, 4),
        learning_rate=3e-4,
        warmup_epochs=1,
        weight_decay=0.0,
        distillation="soft",
        label_smoothing=0.1,
    )
    run = FOLDER / f"{family}-{seed}-{scheme}"
    training.fit(
        quantized,
        data,
        run_dir=run,
        hyperparameters=hyperparameters,
        teacher=model,
        seed=seed,
        verbose=0,
        resume=can_resume(run),
    )
    file = edge.export(quantized, FOLDER / f"{family}-{seed}-{scheme}.tflite")
    proof = edge.verify(quantized, file, data.test)
    return {
        "float32": 100 * _top1(model, data),
        "before training": 100 * before,
        "model": 100 * proof.reference_top1,
        "file": 100 * proof.top1,
        "agreement": 100 * proof.top1_agreement,
        "snr_db": proof.snr_db,
    }


def _top1(model, data) -> float:
    scores = model.predict(data.test_images, batch_size=90, verbose=0)
    return float((scores.argmax(-1) == data.test_labels).mean())


def main(
    families: Iterable[str] = FAMILIES, seeds: Iterable[int] = SEEDS, schemes: Iterable[str] = tuple(LIMITS)
) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    record = FOLDER / "results.json"
    results = json.loads(record.read_text()) if record.exists() else {}
    for seed in seeds:
        for family in families:
            for scheme in schemes:
                key = f"{family} {seed} {scheme}"
                if key not in results:
                    results[key] = accuracy(family, seed, scheme)
                    with replacing(record) as partial:
                        partial.write_text(json.dumps(results, indent=1))
    print(summary(results))


def summary(results: dict[str, dict[str, float]]) -> str:
    """Return the table of all results so far: the mean over the seeds, and whether it is within the limits."""
    rows = []
    for family in dict.fromkeys(key.split()[0] for key in results):
        for scheme, limit in LIMITS.items():
            cells = [results[key] for seed in SEEDS if (key := f"{family} {seed} {scheme}") in results]
            if not cells:
                continue
            mean = {name: sum(cell[name] for cell in cells) / len(cells) for name in cells[0]}
            loss = mean["float32"] - mean["file"]
            least = min(cell["snr_db"] for cell in cells), min(cell["agreement"] for cell in cells)
            # Of four bits, the runtime rounds the activations too, which the model does not imitate.
            fits = least[0] >= SNR_DB.get(scheme, 0) and least[1] >= AGREEMENT.get(scheme, 0)
            rows.append(
                (
                    family,
                    scheme,
                    str(len(cells)),
                    f"{mean['float32']:.2f}",
                    f"{mean['before training']:.2f}",
                    f"{mean['file']:.2f}",
                    f"{loss:.2f}",
                    f"{limit:.2f}",
                    f"{least[0]:.1f}",
                    f"{least[1]:.2f}",
                    "yes" if loss <= limit + 1e-9 and fits else "no",
                )
            )
    header = (
        "family",
        "scheme",
        "seeds",
        "float32 top-1",
        "before training",
        "file",
        "loss",
        "limit",
        "least dB",
        "least agreement",
        "within limits",
    )
    return table(header, rows)
