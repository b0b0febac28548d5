"""Print how near the outputs of mobile models on the GPU and on emulated NPUs of Qualcomm are to the CPU's.

It needs what `make test-devices` installs, and takes some minutes. A GPU is compared with the same file on the CPU. An
NPU computes a quantized file in another way than a CPU, so both are compared with float32 on the CPU.
"""

import tempfile
from pathlib import Path

from keras_vit.utils.tables import table
from tests.edge.devices.real.mobile import MODELS, Exported

GPU = (("gpu?float32", "float32"), ("gpu", "float32"), ("gpu", "float16"), ("gpu", "hybrid_int8"))
NPUS = tuple((f"npu:{soc}", precision) for soc in ("SM8550", "SM8750") for precision in ("hybrid_int8", "int8_int16"))


def main() -> None:
    from keras_vit import edge

    rows = []
    for name in MODELS:
        with tempfile.TemporaryDirectory() as folder:
            exported = Exported(name, Path(folder))
            for device, precision in (*GPU, *NPUS):
                file, here = exported.files[precision], None
                try:
                    if device.startswith("npu"):
                        here = edge.verify(exported.files["float32"], file, exported.image).snr_db
                    reference = file if here is None else exported.files["float32"]
                    there = f"{edge.verify(reference, file, exported.image, device=device).snr_db:.1f}"
                except (ValueError, RuntimeError) as error:
                    there = str(error)
                rows.append((name, device, precision, there, "-" if here is None else f"{here:.1f}"))
                print(*rows[-1], flush=True)
    print(table(("model", "device", "precision", "SNR dB", "CPU's SNR dB"), rows))
