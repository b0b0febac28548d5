"""Draw the published accuracy of models against their latency on this machine, in float32 and in hybrid_int8.

    python -m tests.benchmarks zoo

It writes zoo.png and zoo.json to build/zoo, and continues an interrupted run from zoo.json. It exports all files before
it measures the first. The weights are random, which the latency does not depend on.
"""

import json
from pathlib import Path

from keras_vit.utils.files import replacing
from keras_vit.utils.tables import table
from tests.benchmarks.weights import export_random

FOLDER = Path("build/zoo")
PRECISIONS = ("float32", "hybrid_int8")
MAX_MACS = 6e9
COLORS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown", "tab:pink", "tab:olive")
MARKERS = "osD^v"


def entries() -> dict[str, dict]:
    """Return the models with a published accuracy at their image size: its top-1, family and tag, by name."""
    import keras_vit

    found = {}
    for name in keras_vit.list_models():
        info = keras_vit.model_info(name)
        measured = [
            (record.top1, record.tag)
            for record in keras_vit.list_weights(name)
            if record.top1 is not None and record.image_size == info["image_size"]
        ]
        if measured and info["macs"] <= MAX_MACS:
            top1, tag = max(measured)
            found[name] = {"family": info["family"], "top1": top1, "tag": tag}
    return found


def make_files(name: str) -> dict[str, Path]:
    """Return the paths of a model's files by precision, and write those that do not exist."""
    import keras

    paths = {precision: FOLDER / f"{name}.{precision}.tflite" for precision in PRECISIONS}
    missing = {precision: path for precision, path in paths.items() if not path.exists()}
    if missing:
        keras.backend.clear_session()
        export_random(name, missing)
    return paths


def latencies(paths: dict[str, Path]) -> dict[str, float]:
    """Return the p50 of files in ms, by precision."""
    from keras_vit import edge

    results = edge.benchmark(list(paths.values()))
    return {precision: result.p50_ms for precision, result in zip(paths, results, strict=True)}


def draw(measured: dict[str, dict]):
    """Return a figure with a line from float32 to hybrid_int8 for each model, and the names of the best."""
    from keras_vit.inspection.figures import new_figure

    figure = new_figure(9, 6)
    axes = figure.add_subplot()
    families = sorted({entry["family"] for entry in measured.values()})
    for number, family in enumerate(families):
        color, marker = COLORS[number % len(COLORS)], MARKERS[number // len(COLORS) % len(MARKERS)]
        label = family
        for entry in measured.values():
            if entry["family"] != family:
                continue
            x, y = [entry["p50_ms"][precision] for precision in PRECISIONS], [entry["top1"]] * 2
            axes.plot(x, y, color=color, alpha=0.35, linewidth=1)
            axes.scatter(x[0], y[0], s=26, marker=marker, facecolors="none", edgecolors=color)
            axes.scatter(x[1], y[1], s=30, marker=marker, color=color, label=label)
            label = None
    for number, name in enumerate(best(measured)):
        point = measured[name]["p50_ms"]["hybrid_int8"], measured[name]["top1"]
        place = (-4, (3, -7)[number % 2])  # Neighbors would overlap.
        axes.annotate(name, point, xytext=place, textcoords="offset points", ha="right", fontsize=6)
    axes.margins(x=0.12)
    axes.set_xscale("log")
    axes.set_xlabel("p50 on one thread, ms: hybrid_int8 (filled) and float32 (open)")
    axes.set_ylabel("published ImageNet-1k top-1 in float32, %")
    axes.grid(alpha=0.25, which="both")
    axes.legend(fontsize=7, ncols=2, loc="lower right")
    return figure


def best(measured: dict[str, dict]) -> list[str]:
    """Return the models that are more accurate than every model with a faster hybrid_int8 file."""
    found: list[str] = []
    for name in sorted(measured, key=lambda name: measured[name]["p50_ms"]["hybrid_int8"]):
        if not found or measured[name]["top1"] > measured[found[-1]]["top1"]:
            found.append(name)
    return found


def main(only_files: bool = False) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    record = FOLDER / "zoo.json"
    measured = json.loads(record.read_text()) if record.exists() else {}
    todo = {name: entry for name, entry in entries().items() if name not in measured}
    # All files first, so that the times are measured one soon after the other.
    files = {name: make_files(name) for name in todo}
    if only_files:
        return
    for name, entry in todo.items():
        measured[name] = {**entry, "p50_ms": latencies(files[name])}
        with replacing(record) as partial:
            partial.write_text(json.dumps(measured, indent=1))
        for path in files[name].values():
            path.unlink()
    with replacing(FOLDER / "zoo.png") as partial:
        draw(measured).savefig(partial, dpi=150, format="png")
    rows = [
        (name, f"{entry['top1']:.1f}", *(f"{entry['p50_ms'][precision]:.2f}" for precision in PRECISIONS))
        for name, entry in sorted(measured.items(), key=lambda item: item[1]["p50_ms"]["hybrid_int8"])
    ]
    print(table(("model", "top-1", *(f"{precision} ms" for precision in PRECISIONS)), rows))
    print(FOLDER / "zoo.png")
