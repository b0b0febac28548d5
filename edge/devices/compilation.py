"""Compile .tflite files for NPUs ahead of time, by LiteRT's plugins and the vendors' libraries."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
import shlex
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from keras_vit.edge.devices.device import Need
from keras_vit.edge.devices.report import OPENVINO_FOR_LITERT
from keras_vit.edge.devices.runner import check_file
from keras_vit.edge.files.tflite_graph import Graph, Operator, read_graph
from keras_vit.utils.files import replacing
from keras_vit.utils.missing import needs
from keras_vit.utils.tables import table

_LIMIT_S = 1800.0
QUALCOMM_LICENSE = (
    "the libraries in onnxruntime-qnn are under Qualcomm's AI Stack License Agreement, which is in its file "
    "Qualcomm_LICENSE.pdf; installing the extra accepts it"
)


@dataclass(frozen=True)
class Vendor:
    """A maker of NPUs.

    Attributes:
        name: Its name.
        manufacturer: What LiteRT's compiler calls it.
        pattern: What its chips' names look like, as a regular expression.
        examples: Names of chips, for messages.
        folder: The folder of its plugin in ai-edge-litert.
        package: The package of its libraries that an extra of keras_vit installs; None if it is not on PyPI.
        extra: That extra.
        flags: What the compiler takes besides.
    """

    name: str
    manufacturer: str
    pattern: str
    examples: str
    folder: str
    package: str | None = None
    extra: str | None = None
    flags: tuple[str, ...] = ()


_VENDORS = {
    "qualcomm": Vendor(
        "Qualcomm", "Qualcomm", r"(SM|SA|QCS|QCM|SXR)\d\w+", "SM8550, SM8750", "qualcomm", "onnxruntime_qnn", "qualcomm"
    ),
    "intel": Vendor(
        "Intel",
        "IntelOpenVINO",
        "LNL|PTL|MTL|ARL",
        "LNL, PTL",
        "intel_openvino",
        "openvino",
        "intel",
        ("--intel_openvino_graph_backends=cpu",),
    ),
    "mediatek": Vendor("MediaTek", "MediaTek", r"MT\d\w+", "MT6989, MT6991", "mediatek"),
    "google": Vendor("Google", "Google", r"Tensor_G\d", "Tensor_G5", "google_tensor"),
    "samsung": Vendor("Samsung", "Samsung", r"E\d{4}", "E9955", "samsung"),
}


def vendor_of(soc: str) -> str:
    """Return the key of the vendor that makes a chip.

    Raises:
        ValueError: No known vendor has chips of such a name.
    """
    for key, vendor in _VENDORS.items():
        if re.fullmatch(vendor.pattern, soc):
            return key
    known = "; ".join(f"{vendor.name}: {vendor.examples}" for vendor in _VENDORS.values())
    raise ValueError(f"soc must be the name of a chip with an NPU ({known}); received {soc!r}.")


class CompilationError(ValueError):
    """A compiler selected operators and then failed, or failed at once.

    Attributes:
        op, layer: The operator that it could not compile, and its layer; "" if the compiler does not say.
        reason: The reason, and what to do about it.
    """

    def __init__(self, file: str, reason: str, op: str = "", layer: str = ""):
        super().__init__(f"{file}: {reason}.")
        self.op, self.layer, self.reason = op, layer, reason


@dataclass(frozen=True)
class Refusal:
    """Operators of a kind that a compiler leaves to the CPU.

    Attributes:
        op: The operator.
        layer: The Keras layer of the first of them, as far as the names in the file show.
        reason: What the compiler says; "" if it does not say.
    """

    op: str
    layer: str
    reason: str


@dataclass(frozen=True)
class Compilation:
    """The result of compiling a file. It prints as lines.

    Attributes:
        file: The file.
        output: The compiled file.
        soc: The chip.
        vendor: Its maker.
        compiler: The compiler and its version.
        partitions: The number of pieces of the graph that run on the NPU.
        selected, operators: The number of operators in those pieces, and of all.
        refusals: The operators that are left to the CPU.
        seconds: How long it took.
        bytes: The size of the compiled file.
    """

    file: str
    output: str
    soc: str
    vendor: str
    compiler: str
    partitions: int
    selected: int
    operators: int
    refusals: list[Refusal]
    seconds: float
    bytes: int

    def to_dict(self) -> dict:
        """Return the attributes as values that JSON can hold."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        pieces = "1 partition" if self.partitions == 1 else f"{self.partitions} partitions"
        lines = [
            f"{os.path.basename(self.output)}: {self.selected} of {self.operators} operators on the NPU of "
            f"{self.vendor}'s {self.soc} in {pieces}; {self.bytes / 1e6:.2f} MB, "
            f"compiled in {self.seconds:.1f} s by {self.compiler}"
        ]
        if self.refusals:
            counts = Counter((refusal.op, refusal.reason) for refusal in self.refusals)
            first: dict[tuple[str, str], str] = {}
            for refusal in self.refusals:
                first.setdefault((refusal.op, refusal.reason), refusal.layer)
            rows = [(op, str(count), first[op, reason], reason) for (op, reason), count in counts.items()]
            lines.append(table(("left to the CPU", "count", "first layer", "reason"), rows))
        return "\n".join(lines)


def compile(file: str | os.PathLike, output: str | os.PathLike, soc: str) -> Compilation:
    """Compile a .tflite file for the NPU of a chip, ahead of time.

    Qualcomm's and Intel's compilers run on this machine, with the libraries of the extras `qualcomm` and `intel`. For
    MediaTek, Google and Samsung the vendor's own libraries are needed; the message gives the command.

    Args:
        file: The .tflite file.
        output: The compiled .tflite file to write.
        soc: The name of the chip, such as "SM8750".

    Returns:
        How much of the file runs on the NPU, and which layers do not.

    Raises:
        ValueError: The chip is unknown, the file is not usable, or the compiler selected operators and then failed.
        ImportError: The vendor's libraries are not installed. The message says how to get them.
        OSError: A file cannot be read or written.
    """
    vendor = _VENDORS[vendor_of(soc)]
    file, output = os.fspath(file), os.fspath(output)
    check_file(file)
    with needs("ai-edge-litert", "compiling for an NPU", "edge"):
        import ai_edge_litert
    litert = Path(ai_edge_litert.__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        libraries = _libraries(vendor, Path(folder), litert, file, output, soc)
        partial = os.path.join(folder, "compiled.tflite")
        begin = time.monotonic()
        try:
            done = subprocess.run(
                _command(vendor, litert, os.path.abspath(file), partial, soc),
                env={**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(map(str, [*libraries, litert]))},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                timeout=_LIMIT_S,
            )
        except subprocess.TimeoutExpired:
            raise ValueError(
                f"{file}: the compiler for {soc} did not end within {_LIMIT_S / 60:.0f} minutes."
            ) from None
        seconds = time.monotonic() - begin
        log = done.stdout.decode(errors="replace")
        graph = read_graph(Path(file).read_bytes())
        facts = parsed_log(log)
        if done.returncode or not os.path.exists(partial) or not facts:
            raise failure(file, log, graph, soc, done.returncode)
        with replacing(output) as target:
            target.write_bytes(Path(partial).read_bytes())
    return Compilation(
        file=file,
        output=output,
        soc=soc,
        vendor=vendor.name,
        compiler=f"LiteRT {metadata.version('ai-edge-litert')}",
        partitions=facts["partitions"],
        selected=facts["selected"],
        operators=facts["operators"],
        refusals=_refusals(graph, output),
        seconds=seconds,
        bytes=os.path.getsize(output),
    )


def _command(vendor: Vendor, litert: Path, file: str, output: str, soc: str) -> list[str]:
    return [
        str(litert / "tools" / "apply_plugin_main"),
        "--cmd=apply",
        f"--model={file}",
        f"--o={output}",
        f"--libs={litert / 'vendors' / vendor.folder / 'compiler'}",
        f"--soc_manufacturer={vendor.manufacturer}",
        f"--soc_model={soc}",
        *vendor.flags,
    ]


def _libraries(vendor: Vendor, folder: Path, litert: Path, file: str, output: str, soc: str) -> list[Path]:
    """Return the folders of a vendor's libraries.

    Raises:
        ImportError: They are not installed, or of another version than the plugin needs.
    """
    if vendor.package is None:
        command = shlex.join(_command(vendor, litert, file, output, soc))
        raise ImportError(
            f"{vendor.name}'s compiler is not published on PyPI: get it from {vendor.name}, and run "
            f"`LD_LIBRARY_PATH=FOLDER_OF_ITS_LIBRARIES {command}`."
        )
    found = importlib.util.find_spec(vendor.package)
    if found is None or not found.submodule_search_locations:
        license_ = f" ({QUALCOMM_LICENSE})" if vendor.extra == "qualcomm" else ""
        raise ImportError(
            f"Compiling for {vendor.name} needs {vendor.package.replace('_', '-')}: "
            f'pip install "keras-vit[{vendor.extra}]"{license_}.'
        )
    package = Path(next(iter(found.submodule_search_locations)))
    if vendor.extra == "intel":
        wanted, there = OPENVINO_FOR_LITERT.get(metadata.version("ai-edge-litert")), metadata.version("openvino")
        if wanted and there != wanted:
            raise ImportError(
                f"LiteRT's plugin for Intel was built for OpenVINO {wanted}, not {there}: "
                f"pip install openvino=={wanted}."
            )
        return [package / "libs"]
    # The plugin asks for a library that the package lacks and that it does not use.
    (folder / "libQnnLpai.so").symlink_to(package / "libQnnSaver.so")
    return [package, folder]


def plugin_needs(key: str) -> list[Need]:
    """Return whether the libraries of a vendor are installed."""
    vendor = _VENDORS[key]
    assert vendor.package is not None
    name = vendor.package.replace("_", "-")
    there = importlib.util.find_spec(vendor.package) is not None
    found = f"{name} {metadata.version(name)}" if there else None
    return [Need(f"{vendor.name}'s libraries", found, f'pip install "keras-vit[{vendor.extra}]"')]


def parsed_log(log: str) -> dict[str, int]:
    """Return the numbers of selected operators, of all operators, and of partitions in what the compiler printed."""
    found = re.search(r"selected (\d+) ops, from a total of (\d+) ops\. resulted in (\d+) partitions", log)
    return dict(zip(("selected", "operators", "partitions"), map(int, found.groups()), strict=True)) if found else {}


def _refusals(graph: Graph, output: str) -> list[Refusal]:
    """Return the operators that the compiled file still has, with their layers and why, as far as that is known."""
    left = [operator for operator in read_graph(Path(output).read_bytes()).operators if not operator.custom]
    layers = {operator.outputs[0].name: operator.layer for operator in graph.operators if operator.outputs}
    return [
        Refusal(operator.name, layers.get(operator.outputs[0].name, operator.layer), _reason(operator))
        for operator in left
    ]


def _reason(operator: Operator) -> str:
    weights = [tensor for tensor in operator.inputs[1:] if tensor.constant and tensor.quantized]
    if weights and operator.inputs[0].dtype == "FLOAT32":
        return f"{weights[0].dtype.lower()} weights with float activations; export in hybrid_int8, full_int8 or float32"
    if operator.inputs and operator.inputs[0].dtype == "INT16":
        return "the compiler does not take it with int16 activations; export in hybrid_int8 or full_int8"
    return "the compiler does not take it in this form"


def failure(file: str, log: str, graph: Graph, soc: str, code: int) -> CompilationError:
    """Return the error for a compilation that failed, from what the compiler printed."""
    facts = parsed_log(log)
    chosen = (
        f"the compiler selected {facts['selected']} of {facts['operators']} operators and then failed" if facts else ""
    )
    found = re.findall(r'"([^"]+)_LiteRt_OpId_(\d+)" generated: could not create op', log)
    if found:
        kind = re.search(r"could not create op: q::(?:QNN_)?(\w+)", log)
        op = kind.group(1) if kind else "an operator"
        # Operators that only wait for the one that failed are printed too, some of them before it.
        named = [each for each in found if op.lower() in each[0].lower()]
        name, number = (named or found)[0]
        here = graph.operators[int(number)] if int(number) < len(graph.operators) else None
        layer = here.layer if here else name
        what = (
            f"{soc} cannot compute {op} of layer {layer!r} in this precision"
            if named
            else f"{soc} lacks the internal operation {op}, which {len(found)} operators need, first in layer {layer!r}"
        )
        advice = "Export in full_int8, or compile for a newer chip"
        return CompilationError(file, f"{chosen}: {what}. {advice}", here.name if here else op, layer)
    if not facts:
        errors = [line.partition("ERROR")[2].strip(" :]") for line in log.splitlines() if "ERROR" in line]
        last = errors[0][:200].rstrip(".") if errors else "it says no more"
        return CompilationError(file, f"the compiler for {soc} failed with exit code {code}: {last}")
    return CompilationError(file, f"{chosen}, with exit code {code}")
