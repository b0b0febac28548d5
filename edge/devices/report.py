"""Which devices can be reached, and what each of them lacks."""

from __future__ import annotations

import importlib.util
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata

from keras_vit.edge.devices.device import Device, Need, device_classes, find_device
from keras_vit.utils.tables import table


@dataclass(frozen=True)
class DeviceReport:
    """A device and what it has. It prints as lines.

    Attributes:
        name: Its name.
        summary: What it is.
        needs: What it needs, and what of it was found; empty for a kind of device of which none was named.
    """

    name: str
    summary: str
    needs: list[Need]

    @property
    def usable(self) -> bool:
        """Whether everything was found that it cannot work without."""
        return bool(self.needs) and all(need.found or need.optional for need in self.needs)

    def to_dict(self) -> dict:
        """Return the attributes as values that JSON can hold."""
        return {**asdict(self), "usable": self.usable}

    def __str__(self) -> str:
        state = "ready" if self.usable else "give its address to check it" if not self.needs else "not usable"
        lines = [f"{self.name}: {self.summary}: {state}"]
        for need in self.needs:
            if need.found:
                lines.append(f"    {need.what}: {need.found}")
            else:
                missing = "optional, not found" if need.optional else "missing"
                lines.append(f"    {need.what}: {missing}: {need.remedy}")
        return "\n".join(lines)


def device_reports(names: Sequence[str] = ()) -> list[DeviceReport]:
    """Return a report on devices.

    Args:
        names: The names of devices. By default, every device that can be found without an address, and the kinds that
            need one.

    Raises:
        ValueError: A name is not that of a device.
    """
    if names:
        return [_report(find_device(name)) for name in names]
    reports = []
    for kind in device_classes():
        found = kind.discovered()
        reports += [_report(find_device(name)) for name in found] or [DeviceReport(kind.form, kind.summary, [])]
    return reports


def _report(device: Device) -> DeviceReport:
    return DeviceReport(device.name, device.summary, device.needs())


# The packages that must go together, with what each is for and the extra that installs it.
_PACKAGES = (
    ("tensorflow", "the models and the converter", None),
    ("keras", "the models", None),
    ("numpy", "everything", None),
    ("ai-edge-litert", "running .tflite files", "edge"),
    ("ai-edge-quantizer", "int8 files", "edge"),
    ("flatbuffers", "reading .tflite files", "edge"),
    ("onnx", "writing .onnx files", "onnx"),
    ("onnxruntime", "running .onnx files", "onnx"),
    ("openvino", "compiling for Intel", "intel"),
    ("onnxruntime-qnn", "compiling for Qualcomm's NPU", "qualcomm"),
    ("matplotlib", "figures", "inspect"),
    ("pytest", "latency tests", None),
)

# The release of OpenVINO that the plugin in a release of ai-edge-litert was built for.
OPENVINO_FOR_LITERT = {"2.3.0": "2026.3.1"}


@dataclass(frozen=True)
class Package:
    """A package of this Python.

    Attributes:
        name: Its name.
        version: Its version; None if it is not installed.
        purpose: What it is for.
        remedy: The command that installs it, or the right version of it; "" if it is as it should be.
    """

    name: str
    version: str | None
    purpose: str
    remedy: str


@dataclass(frozen=True)
class Doctor:
    """The versions of what this installation uses, and the devices. It prints as a table.

    Attributes:
        python: The version of Python.
        system: The operating system and the architecture.
        packages: The packages.
        devices: The devices.
    """

    python: str
    system: str
    packages: list[Package]
    devices: list[DeviceReport]

    @property
    def healthy(self) -> bool:
        """Whether the versions of the installed packages go together and this machine can run files."""
        wrong = [package for package in self.packages if package.remedy and package.version]
        return not wrong and any(device.name == "local" and device.usable for device in self.devices)

    def to_dict(self) -> dict:
        """Return the attributes as values that JSON can hold."""
        devices = [device.to_dict() for device in self.devices]
        return {**asdict(self), "devices": devices, "healthy": self.healthy}

    def __str__(self) -> str:
        rows = [(each.name, each.version or "-", each.purpose, each.remedy) for each in self.packages]
        lines = [f"Python {self.python} on {self.system}", table(("package", "version", "for", "what to do"), rows), ""]
        return "\n".join([*lines, *map(str, self.devices)])


def doctor() -> Doctor:
    """Return what is installed, whether the versions go together, and which devices can be used."""
    packages = []
    versions = {name: _version(name) for name, _, _ in _PACKAGES}
    for name, purpose, extra in _PACKAGES:
        remedy = ""
        if versions[name] is None:
            remedy = f'pip install "keras-vit[{extra}]"' if extra else f"pip install {name}"
        elif wanted := _wanted(name, versions):
            remedy = f"pip install {wanted}"
        packages.append(Package(name, versions[name], purpose, remedy))
    system = f"{platform.system()} {platform.release()}, {platform.machine()}"
    return Doctor(".".join(map(str, sys.version_info[:3])), system, packages, device_reports())


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _wanted(name: str, versions: dict[str, str | None]) -> str | None:
    """Return the requirement that an installed package does not meet, or None."""
    if name == "openvino" and (litert := versions["ai-edge-litert"]):
        exact = OPENVINO_FOR_LITERT.get(litert)
        return f"openvino=={exact}" if exact and versions[name] != exact else None
    oldest = _oldest(name)
    version = versions[name]
    if oldest and version and _numbers(version) < _numbers(oldest):
        return f'"{name}>={oldest}"'
    return None


def _oldest(name: str) -> str | None:
    """Return the oldest version of a package that keras_vit declares."""
    if importlib.util.find_spec("keras_vit") is None:
        return None
    try:
        requirements = metadata.requires("keras-vit") or []
    except metadata.PackageNotFoundError:
        return None
    for requirement in requirements:
        package, _, version = requirement.partition(";")[0].partition(">=")
        if package.strip() == name and version:
            return version.partition(",")[0].strip()
    return None


def _numbers(version: str) -> tuple[int, ...]:
    numbers = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))] or ""
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)
