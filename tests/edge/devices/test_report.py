"""`keras-vit devices` and `keras-vit doctor`."""

import json

import pytest

from keras_vit.cli.main import main
from keras_vit.edge.devices import report
from keras_vit.edge.devices.device import Need
from keras_vit.edge.devices.report import DeviceReport, doctor


def test_this_machine_is_listed_and_ready(capsys):
    assert main(["devices", "local"]) == 0
    out = capsys.readouterr().out
    assert (
        out.startswith("local: the CPU of this machine: ready\n") and "ai-edge-litert for .tflite files: ai-edge" in out
    )
    assert main(["devices", "local", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["usable"] and entry["needs"][0]["what"] == "ai-edge-litert for .tflite files"


def test_every_kind_of_device_is_listed(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))  # No adb, so no phone is connected.
    assert main(["devices"]) == 0
    out = capsys.readouterr().out
    assert "\nssh://[user@]host[:port]: " in out and "give its address to check it" in out
    assert "\nadb[:SERIAL]: " in out and "\ngpu: " in out


def test_what_is_missing_is_named_with_its_remedy():
    needs = [Need("a runtime", None, "pip install it"), Need("a driver", "lvp"), Need("more", None, "y", optional=True)]
    text = str(DeviceReport("board", "a board", needs))
    assert text.splitlines() == [
        "board: a board: not usable",
        "    a runtime: missing: pip install it",
        "    a driver: lvp",
        "    more: optional, not found: y",
    ]
    assert DeviceReport("board", "a board", needs[1:]).usable


def test_an_unknown_device_is_refused(capsys):
    assert main(["devices", "toaster"]) == 1
    assert "device must be one of 'local'" in capsys.readouterr().err


def test_the_doctor_finds_versions_that_do_not_go_together(monkeypatch, capsys):
    assert main(["doctor"]) == 0
    assert "tensorflow" in capsys.readouterr().out
    assert doctor().healthy
    versions = {"openvino": "2025.1.0", "keras": "3.5.0", "ai-edge-litert": "2.3.0", "onnx": None}
    real = report._version
    monkeypatch.setattr(report, "_version", lambda name: versions.get(name, real(name)))
    remedies = {package.name: package.remedy for package in doctor().packages}
    assert remedies["openvino"] == "pip install openvino==2026.3.1"
    assert remedies["keras"] == 'pip install "keras>=3.12"'
    assert remedies["onnx"] == 'pip install "keras-vit[onnx]"'
    assert not doctor().healthy and main(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["healthy"] is False


@pytest.mark.parametrize("older, newer", [("2.9", "2.10"), ("3.12.0", "3.12.1"), ("1.20rc1", "1.21")])
def test_versions_are_compared_by_number(older, newer):
    assert report._numbers(older) < report._numbers(newer)
