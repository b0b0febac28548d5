"""Phones, by the real `adb` client and a played phone at the other end of its protocol."""

import os
import shutil
import socket
import subprocess
import threading
import time
from urllib.parse import quote

import pytest

from keras_vit import edge
from keras_vit.edge.devices import adb
from keras_vit.edge.devices.adb import AdbDevice
from keras_vit.edge.devices.report import device_reports
from tests.edge.devices.real.phones import Phone
from tests.edge.devices.test_adb import LITERT, LITERT_HELP

pytestmark = pytest.mark.device


@pytest.fixture(scope="module")
def adb_server(tmp_path_factory):
    """An adb server of its own, so that the user's phones and keys are not touched."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("ANDROID_ADB_SERVER_PORT", str(port))
        patched.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        subprocess.run(["adb", "start-server"], check=True, capture_output=True)
        yield
        subprocess.run(["adb", "kill-server"], check=True, capture_output=True)


@pytest.fixture
def phone(adb_server, tmp_path, monkeypatch):
    """A phone with LiteRT's benchmark_model, which prints what it printed on a real one."""
    phone = Phone(tmp_path / "phone")
    storage = phone.folder / "files"
    monkeypatch.setattr(adb, "_FOLDER", str(storage))
    prints(phone, LITERT)
    phone.has_program(phone.folder / "bin" / "getprop", "echo 'Played phone'\n")
    yield phone
    assert [path.name for path in storage.iterdir() if path.name != "benchmark_model"] == []
    subprocess.run(["adb", "disconnect", phone.serial], capture_output=True)
    phone.close()


def prints(phone, printed, rest="", program="benchmark_model"):
    """Let the phone's benchmark_model print something, and then do the rest."""
    (phone.folder / "help").write_text(LITERT_HELP)
    (phone.folder / "printed").write_text(printed)
    phone.has_program(
        phone.folder / "files" / program,
        f'[ "$1" = --help ] && {{ cat {phone.folder}/help; exit 1; }}\ncat {phone.folder}/printed\n{rest}\n',
    )


def test_a_file_is_measured(phone, tflite_files):
    result = edge.benchmark(tflite_files["float32"], f"adb:{phone.serial}", runs=200)
    assert len(result.samples_ms) == 10 and result.p50_ms == 0.462
    assert result.runtime == "LiteRT's benchmark_model, CPU" and result.facts["board"] == "Played phone"
    (report,) = device_reports([f"adb:{phone.serial}"])
    assert report.usable and "that of LiteRT" in str(report)


@pytest.mark.parametrize("name", ["a b';$(touch pwned).tflite", "-p;`touch pwned`.tflite"])
def test_the_name_of_a_file_is_only_a_name(phone, tflite_files, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    shutil.copy(tflite_files["float32"], tmp_path / name)
    prints(phone, LITERT, program="another program")
    shutil.move(phone.folder / "files" / "another program", tmp_path / "-p $(touch pwned);")
    tool = quote("-p $(touch pwned);")
    result = edge.benchmark(name, f"adb:{phone.serial}?tool={tool}", runs=1)
    assert result.p50_ms == 0.462
    assert not list(tmp_path.rglob("pwned"))
    assert not any("pwned" in command for command in phone.commands)


def test_a_program_that_crashes_is_not_a_lost_connection(phone, tflite_files):
    prints(phone, "INFO: Initialized session\n", rest="kill -SEGV $$")
    with pytest.raises(RuntimeError, match=r"float32\.tflite: benchmark_model on adb:.* was killed by signal 11"):
        edge.benchmark(tflite_files["float32"], f"adb:{phone.serial}", runs=1)


def test_a_connection_that_is_cut(phone, tflite_files):
    device = AdbDevice(f"adb:{phone.serial}")
    file = device.open(tflite_files["float32"])
    prints(phone, LITERT, rest="sleep 3")
    threading.Timer(0.5, phone.cut).start()
    begin = time.monotonic()
    with pytest.raises(ConnectionError, match="the connection was lost"):
        file.request("time", runs=1)
    assert time.monotonic() - begin < 2.5
    file.close()


def test_a_full_disk(phone, tflite_files):
    """What is copied to the phone ends in /dev/full."""
    (phone.folder / "bin" / "mkdir").write_text('#!/bin/sh\n/bin/mkdir "$1" && ln -s /dev/full "$1/model.tflite"\n')
    (phone.folder / "bin" / "mkdir").chmod(0o755)
    with pytest.raises(ConnectionError, match="its storage is full"):
        edge.benchmark(tflite_files["float32"], f"adb:{phone.serial}", runs=1)


def test_nothing_listens(adb_server, tflite_files):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(ConnectionError, match=rf"^adb:127\.0\.0\.1:{port}: ") as raised:
        edge.benchmark(tflite_files["float32"], f"adb:127.0.0.1:{port}", runs=1)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["adb", "adb:nobody"])
def test_a_phone_that_is_not_there(adb_server, tflite_files, name):
    with pytest.raises(ConnectionError, match=rf"^{name}: adb does not see it; is it plugged in"):
        edge.benchmark(tflite_files["float32"], name, runs=1)


@pytest.mark.parametrize(
    "name", ["adb:-s", "adb:x;touch pwned", "adb:$(touch pwned)", "adb:a b", "adb:'`touch pwned`'"]
)
def test_a_serial_that_is_none_runs_nothing(adb_server, tflite_files, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="is not a phone"):
        edge.benchmark(tflite_files["float32"], name, runs=1)
    assert os.listdir(tmp_path) == []
