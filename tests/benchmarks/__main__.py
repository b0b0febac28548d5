"""Run one benchmark or all of them."""

import argparse
import importlib

BENCHMARKS = (
    "import_time",
    "latency_vit",
    "latency_keras_hub",
    "latency_families",
    "latency_schemes",
    "after_training",
    "neighborhood_attention",
    "latency_kecam",
    "accelerators",
    "latency_litert",
    "latency_budgets",
    "zoo",
    "input_pipeline",
    "train_step",
    "masked_autoencoder",
    "quantized_digits",
    "self_supervised_digits",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=BENCHMARKS, help="the benchmark to run; all of them by default")
    name = parser.parse_args().name
    for benchmark in (name,) if name else BENCHMARKS:
        print(f"\n{benchmark}")
        importlib.import_module(f"tests.benchmarks.{benchmark}").main()


if __name__ == "__main__":
    main()
