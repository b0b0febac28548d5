"""Compare a training step of a masked autoencoder with a step of its encoder on all patches: time and memory.

Both train ViT-S/16 at 224 x 224 to predict pixels. The encoder on all patches has a linear layer in place of the
decoder. The two run in processes of their own, one after the other, so that the peak of the memory is of one alone.
"""

import json
import subprocess
import sys
import time

from keras_vit.utils.tables import table

BATCH, STEPS = 32, 5
TARGET = 0.5  # Largest allowed ratio of the masked autoencoder's step to that of the encoder on all patches.


def main() -> None:
    found = {name: _measured(name) for name in ("all patches", "masked")}
    rows = [(name, f"{seconds:.2f}", f"{memory:.0f}") for name, (seconds, memory) in found.items()]
    print(table(("step", "seconds", "memory in MB"), rows))
    (full_time, full_memory), (time_, memory) = found.values()
    print(
        f"the masked step takes {time_ / full_time:.2f} of the time and {memory / full_memory:.2f} of the memory; the "
        f"target is at most {TARGET} of both"
    )


def _measured(name):
    command = [sys.executable, "-m", "tests.benchmarks.masked_autoencoder", name]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def step_of(name: str) -> tuple[float, float]:
    """Return the median seconds of a training step, and the memory in MB that the steps need beyond the weights."""
    import resource

    import keras
    import numpy as np

    import keras_vit
    from keras_vit import training

    encoder = keras_vit.ViT_S16(include_top=False, position_embedding="sincos2d_mae")
    random = np.random.default_rng(0)
    images = random.standard_normal((BATCH, 224, 224, 3)).astype("float32")
    if name == "masked":
        model, inputs = training.masked_autoencoder(encoder), [images, random.random((BATCH, 196), "float32")]
        labels, loss = np.zeros((BATCH, 1), "float32"), lambda labels, outputs: outputs
    else:
        model = keras.Model(encoder.input, keras.layers.Dense(768)(encoder.output))
        inputs, labels, loss = images, random.standard_normal((BATCH, 197, 768)).astype("float32"), "mse"
    model.compile(keras.optimizers.AdamW(1e-4), loss)
    model.optimizer.build(model.trainable_variables)
    with open("/proc/self/statm") as file:
        before = int(file.read().split()[1]) * resource.getpagesize()
    model.train_on_batch(inputs, labels)  # Compiles.
    times = []
    for _ in range(STEPS):
        start = time.perf_counter()
        model.train_on_batch(inputs, labels)
        times.append(time.perf_counter() - start)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(np.median(times)), (peak - before) / 1e6


if __name__ == "__main__":
    print(json.dumps(step_of(sys.argv[1])))
