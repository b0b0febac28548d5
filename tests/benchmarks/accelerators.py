"""Hold the outputs of mobile models on the GPU and on emulated NPUs of Qualcomm against the CPU's.

It needs what `make test-devices` installs, and half an hour.
"""

import numpy as np

from keras_vit.utils.tables import table
from tests.benchmarks.weights import randomize

MODELS = {
    "vit_ti16": (96, 96, 3),
    "mobilevit_xxs": None,
    "efficientvit_b1": None,
    "efficientvit_m2": None,
    "mobile_former_26m": None,
}
# The device, the precision, and the least signal-to-noise ratio against the same file on the CPU; None for the NPU,
# whose output must be as near to float32 as the CPU's, within 3 dB.
CASES = (
    ("gpu?float32", "float32", 100.0),
    ("gpu", "float32", 40.0),
    ("npu:SM8550", "hybrid_int8", None),
    ("npu:SM8550", "int8_int16", None),
    ("npu:SM8750", "hybrid_int8", None),
    ("npu:SM8750", "int8_int16", None),
)
_NPU_LOSS_DB = 3.0


def main() -> None:
    import tempfile

    import keras

    import keras_vit
    from keras_vit import edge

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, shape in MODELS.items():
            keras.backend.clear_session()
            model = keras_vit.create_model(name, **({"input_shape": shape} if shape else {}))
            randomize(model)
            images = np.random.default_rng(0).standard_normal((8, *model.input_shape[1:])).astype(np.float32)
            files = {}
            for precision in ("float32", "hybrid_int8", "int8_int16"):
                calibration = {"calibration_data": images} if precision != "float32" else {}
                path = f"{folder}/{name}.{precision}.tflite"
                files[precision] = edge.export(model, path, precision, verify=False, **calibration)
            for device, precision, least in CASES:
                rows.append((name, device, precision, *_row(edge, files, device, precision, least, images[:1])))
                print(*rows[-1], flush=True)
    print(table(("model", "device", "precision", "partitions", "SNR dB", "CPU's", "target met"), rows))


def _row(edge, files, device, precision, least, images) -> tuple[str, str, str, str]:
    try:
        audit = edge.audit(files[precision], device.partition("?")[0])
        partitions = "-" if audit.partitions is None else str(audit.partitions)
        if least is not None:
            there = edge.verify(files[precision], files[precision], images, device=device).snr_db
            return partitions, f"{there:.1f}", "-", "yes" if there >= least else "no"
        here = edge.verify(files["float32"], files[precision], images).snr_db
        there = edge.verify(files["float32"], files[precision], images, device=device).snr_db
        return partitions, f"{there:.1f}", f"{here:.1f}", "yes" if there > here - _NPU_LOSS_DB else "no"
    except (ValueError, RuntimeError) as error:
        return "-", "-", "-", str(error)
