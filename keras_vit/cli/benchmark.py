"""The `keras-vit benchmark` command."""

import argparse

from keras_vit.cli.common import add_json_argument, print_result, status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("files", nargs="*", metavar="FILE", help=".tflite and .onnx files, measured in turn")
    parser.add_argument("--suite", choices=["mobile"], help="build, export, verify and measure a set of models instead")
    parser.add_argument("--folder", default="runs/suite", help="where --suite keeps its files (default: runs/suite)")
    parser.add_argument(
        "--device",
        default="local",
        help="device to measure on, as `keras-vit devices` lists them (default: local, this machine)",
    )
    parser.add_argument("--threads", type=int, default=1, help="threads to run a file with (default: 1)")
    parser.add_argument("--cores", type=_cores, default=(), metavar="0,1", help="CPU cores to run on (default: all)")
    parser.add_argument("--runs", type=int, default=50, help="least timed runs of each file (default: 50)")
    parser.add_argument("--seconds", type=float, default=0.0, help="least timed seconds of each file (default: 0)")
    parser.add_argument("--warmup", type=int, help="untimed runs of each file (default: until its time is stable)")
    parser.add_argument("--launches", type=int, help="launches that share the runs (default: 5, if loading is fast)")
    parser.add_argument("--mlperf", action="store_true", help="at least 1,024 runs and 60 seconds, as MLPerf asks for")
    parser.add_argument("--energy", type=float, default=0.0, metavar="SECONDS", help="measure energy for so long")
    parser.add_argument(
        "--sustained", type=float, default=0.0, metavar="MINUTES", help="run each file without a pause for so long"
    )
    parser.add_argument("--cooldown", type=float, metavar="CELSIUS", help="wait for this temperature before each turn")
    parser.add_argument("--resume", metavar="FILE", help="keep the samples here, and go on after an interruption")
    parser.add_argument(
        "--compare",
        action="store_true",
        help="compare two .json files of this command, OLD and NEW, instead; the exit status is 1 if NEW is slower",
    )
    parser.add_argument(
        "--tolerance", type=float, default=0.05, help="with --compare, the change that counts as none (default: 0.05)"
    )
    parser.add_argument("--html", metavar="PAGE", help="also write a page with the distributions and the curves")
    add_json_argument(parser)


def run(given: argparse.Namespace) -> int:
    """Print the latencies, or the comparison of two runs."""
    from keras_vit import edge

    if given.compare:
        if len(given.files) != 2:
            raise ValueError(f"--compare takes two .json files, OLD and NEW; received {len(given.files)}.")
        old, new = map(edge.load_benchmarks, given.files)
        comparison = edge.compare(old, new, given.tolerance)
        print_result(comparison, given.json)
        return 1 if comparison.slower else 0
    if given.suite:
        return _run_suite(given)
    if not given.files:
        raise ValueError("Name the .tflite and .onnx files to measure, or a --suite.")
    with status("Measuring", show=not given.json) as show:
        result = edge.benchmark(
            given.files,
            given.device,
            threads=given.threads,
            cores=given.cores,
            runs=given.runs,
            seconds=given.seconds,
            warmup=given.warmup,
            launches=given.launches,
            mlperf=given.mlperf,
            energy_s=given.energy,
            sustained_minutes=given.sustained,
            cooldown_c=given.cooldown,
            resume=given.resume,
            progress=lambda sentence: show(f"Measuring: {sentence}"),
        )
    if given.html:
        from keras_vit.edge.devices.benchmark_page import write_benchmark_page

        write_benchmark_page(given.html, result)
    print_result(result, given.json)
    return 0


def _run_suite(given: argparse.Namespace) -> int:
    from keras_vit.edge.devices.suite import run_suite

    with status("Building", show=not given.json) as show:
        result = run_suite(
            given.suite, given.folder, given.device, threads=given.threads, runs=given.runs, progress=show
        )
    if given.html:
        from keras_vit.edge.devices.benchmark_page import write_benchmark_page

        write_benchmark_page(given.html, result.benchmarks, result.snr_db)
    print_result(result, given.json)
    return 0


def _cores(text: str) -> tuple[int, ...]:
    return tuple(int(core) for core in text.split(","))
