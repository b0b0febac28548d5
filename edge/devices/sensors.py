"""What the machine that this runs on is, and its temperature, clock and power now.

It runs on the device, beside edge/devices/runner.py, and needs only Python 3.8. Everything is read from files of Linux
and from the commands of boards; what a machine does not report is None.
"""

from __future__ import annotations

import glob
import os
import platform
import re
import subprocess
import threading
import time

# The rail of an INA3221 power monitor that feeds the whole module; without one, the rails add up to the module's power.
# Source: NVIDIA's Jetson Linux Developer Guide, "Platform Power and Performance".
_WHOLE_MODULE = ("VDD_IN", "POM_5V_IN")


def _text(path: str) -> str | None:
    try:
        with open(path, errors="replace") as file:
            return file.read().strip("\0\n ")
    except OSError:
        return None


def _number(path: str) -> float | None:
    try:
        return float(_text(path) or "")
    except ValueError:
        return None


def facts(root: str = "/") -> dict:
    """Return what the machine is: board, CPU, cores, architecture, system, governor, and its highest clock."""
    cpu = None
    for line in (_text(os.path.join(root, "proc/cpuinfo")) or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Hardware", "Model") and value.strip():
            cpu = value.strip()
            break
    release = _text(os.path.join(root, "etc/os-release")) or ""
    system = re.search(r'^PRETTY_NAME="?([^"\n]*)', release, re.MULTILINE)
    scaling = os.path.join(root, "sys/devices/system/cpu/cpu0/cpufreq")
    highest = _number(os.path.join(scaling, "cpuinfo_max_freq"))
    return {
        "board": _text(os.path.join(root, "proc/device-tree/model")),
        "cpu": cpu or platform.processor() or None,
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "system": system.group(1) if system else platform.system(),
        "kernel": platform.release(),
        "governor": _text(os.path.join(scaling, "scaling_governor")),
        "highest_clock_mhz": None if highest is None else highest / 1e3,
    }


def read(root: str = "/") -> dict:
    """Return the temperature of the CPU in degrees Celsius, its clock in MHz, and the power in watts."""
    zones = []
    for zone in glob.glob(os.path.join(root, "sys/class/thermal/thermal_zone*")):
        value = _number(os.path.join(zone, "temp"))
        if value is not None and 0 < value < 150_000:
            zones.append(("cpu" in (_text(os.path.join(zone, "type")) or "").lower(), value / 1e3))
    # The hottest sensor of the CPU, or the hottest of all.
    temperature = max(zones)[1] if zones else None
    found = map(_number, glob.glob(os.path.join(root, "sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq")))
    clocks = [clock / 1e3 for clock in found if clock]
    if not clocks:
        cpuinfo = _text(os.path.join(root, "proc/cpuinfo")) or ""
        clocks = [float(clock) for clock in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", cpuinfo, re.MULTILINE)]
    return {"temperature_c": temperature, "clock_mhz": max(clocks) if clocks else None, "power_w": power(root)}


def power(root: str = "/") -> float | None:
    """Return the power that the board takes in watts, from Jetson's or Raspberry Pi's own sensors."""
    rails = {}
    for folder in glob.glob(os.path.join(root, "sys/class/hwmon/hwmon*")):
        if _text(os.path.join(folder, "name")) != "ina3221":
            continue
        for label in glob.glob(os.path.join(folder, "in*_label")):
            number = re.sub(r"\D", "", os.path.basename(label))
            millivolts = _number(os.path.join(folder, f"in{number}_input"))
            milliamperes = _number(os.path.join(folder, f"curr{number}_input"))
            if millivolts is not None and milliamperes is not None:
                rails[_text(label)] = millivolts * milliamperes / 1e6
    for name in _WHOLE_MODULE:
        if name in rails:
            return rails[name]
    return sum(rails.values()) if rails else _raspberry_power()


def _raspberry_power() -> float | None:
    """Return the sum over the rails that a Raspberry Pi 5 measures; older ones measure none."""
    try:
        done = subprocess.run(
            ["vcgencmd", "pmic_read_adc"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=2
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return raspberry_power(done.stdout.decode(errors="replace")) if done.returncode == 0 else None


def raspberry_power(printed: str) -> float | None:
    """Return the power in what `vcgencmd pmic_read_adc` prints, lines such as "3V3_SYS_A current(1)=0.09A"."""
    values = {}
    for rail, kind, value in re.findall(r"(\S+)_([AV])\s+\w+\(\d+\)=([\d.]+)[AV]", printed):
        values.setdefault(rail, {})[kind] = float(value)
    watts = [pair["A"] * pair["V"] for pair in values.values() if len(pair) == 2]
    return sum(watts) if watts else None


class PowerMeter:
    """Reads the power in a thread while something runs. Use it in a `with` statement.

    Attributes:
        watts: What was read.
    """

    def __init__(self, every_s: float = 0.05, source=power):
        self.watts = []
        self._every_s, self._source = every_s, source
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def _read(self) -> None:
        while not self._done.is_set():
            value = self._source()
            if value is None:
                return
            self.watts.append(value)
            time.sleep(self._every_s)

    def __enter__(self) -> PowerMeter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
