"""Phones, played by a stand-in for `adb` that prints what adb and the two programs called benchmark_model print."""

import os

import pytest

from keras_vit.edge.devices import benchmark_model
from keras_vit.edge.devices.adb import AdbDevice
from keras_vit.edge.devices.benchmark import benchmark
from keras_vit.edge.devices.report import device_reports
from keras_vit.edge.devices.verify import verify

# Forms from the sources of LiteRT (commit f677574) and from its public sample.
LITERT_HELP = (
    "usage: benchmark_model <flags>\nFlags:\n\t--graph=\tstring\n\t--use_gpu=false\n"
    "\t--use_npu=false\n\t--use_profiler\n"
)
CLASSIC_HELP = (
    "usage: benchmark_model <flags>\nFlags:\n\t--graph=\tstring\n\t--use_xnnpack=true\n\t--enable_op_profiling\n"
)
LITERT = """INFO: The input model file size (MB): 3.27774
INFO: Initialized session in 4.478ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=1055 first=1033 curr=473 min=443 max=1033 avg=465.319 std=18 p5=459 median=463 p95=478

INFO: Running benchmark for at least 20 iterations and at least 0 seconds but terminate if exceeding 150 seconds.
INFO: count=20 first=463 curr=459 min=442 max=979 avg=464.545 std=13 p5=460 median=462 p95=478

INFO: [./litert/tools/benchmark_litert_model.h:116] Overall footprint:    11.51 MB
"""
CLASSIC = """INFO: Explicitly applied GPU delegate, and the model graph will be {how} executed by the delegate{rest}.
INFO: Initialized session in 4.478ms.
INFO: count=5 first=1033 curr=473 min=443 max=1033 avg=465.319 std=18
INFO: count=20 first=463 curr=459 min=442 max=979 avg=464.545 std=13
INFO: Memory footprint delta from the start of the tool (MB): init=8.94 overall=11.51
"""

# It keeps the phone's files in a folder and answers by files that the test writes.
_ADB = """#!/bin/sh
phone='{phone}'
for word; do printf '%s\\n' "$word"; done >> "$phone/calls"; printf '\\0' >> "$phone/calls"
[ "$1" = -s ] && shift 2
if [ -e "$phone/refusal" ]; then cat "$phone/refusal"; exit 1; fi
case "$1" in
devices) printf 'List of devices attached\\nR58M\\tdevice\\n192.168.0.7:5555\\toffline\\n\\n';;
connect) echo "failed to connect to '$2': Connection refused"; exit 0;;
get-state) cat "$phone/state";;
push) cp -- "$2" "$phone/files/$(basename "$3")" && echo "$2: 1 file pushed";;
shell) shift 2
  case "$1" in
  getprop) echo "Pixel 9";;
  rm) rm -f "$phone/files/model.tflite" "$phone/folder";;
  mkdir) echo "$2" > "$phone/folder";;
  */benchmark_model) [ -e "$phone/no_tool" ] && {{ echo "/system/bin/sh: $1: not found"; exit 127; }}
    if [ "$2" = --help ]; then cat "$phone/help"; exit 1; fi
    cat "$phone/printed"; exit "$(cat "$phone/code")";;
  esac;;
esac
"""


class Phone:
    def __init__(self, folder):
        self.folder = folder
        (folder / "files").mkdir(parents=True)
        (folder / "bin").mkdir()
        (folder / "bin" / "adb").write_text(_ADB.format(phone=folder))
        (folder / "bin" / "adb").chmod(0o755)
        self.has(state="device\n", help=LITERT_HELP, printed=LITERT, code="0")

    def has(self, **contents):
        for name, content in contents.items():
            (self.folder / name).write_text(content)

    @property
    def calls(self):
        return [call.split("\n")[:-1] for call in (self.folder / "calls").read_text().split("\0")[:-1]]

    @property
    def last_run(self):
        return [call for call in self.calls if any(word.startswith("--graph=") for word in call)][-1]

    @property
    def left(self):
        return [*(self.folder / "files").iterdir(), *self.folder.glob("folder")]


@pytest.fixture
def phone(tmp_path, monkeypatch):
    phone = Phone(tmp_path / "phone")
    monkeypatch.setenv("PATH", f"{phone.folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    yield phone
    assert [path.name for path in phone.left if path.name != "benchmark_model"] == []


def test_a_file_is_measured_by_the_program_on_the_phone(phone, tflite_files):
    result = benchmark(tflite_files["float32"], "adb:R58M", threads=4, runs=200)
    assert len(result.samples_ms) == 10 and result.p50_ms == 0.462
    assert (result.load_ms, result.first_ms) == (4.478, 1.033)
    assert result.peak_memory_mb == pytest.approx(11.51 * 1.048576)
    assert result.runtime == "LiteRT's benchmark_model, CPU" and result.facts["board"] == "Pixel 9"
    assert all(call[:2] == ["-s", "R58M"] for call in phone.calls)
    run = next(call for call in phone.calls if "--num_threads=4" in call)
    assert "--use_cpu=true" in run and not any("xnnpack" in word for word in run)


def test_each_program_gets_its_own_flags(phone, tflite_files):
    benchmark(tflite_files["float32"], "adb:R58M?accelerator=npu", runs=1)
    run = phone.last_run
    assert {"--use_npu=true", "--use_cpu=false", "--require_full_delegation=true"} <= set(run)
    phone.has(help=CLASSIC_HELP, printed=CLASSIC.format(how="completely", rest=""))
    result = benchmark(tflite_files["float32"], "adb:R58M?accelerator=gpu", runs=1)
    assert result.p50_ms == pytest.approx(0.464545)  # An old program prints no median.
    assert {"--use_gpu=true", "--require_full_delegation=true"} <= set(phone.last_run)
    with pytest.raises(ValueError, match="cannot use an NPU; LiteRT's can"):
        benchmark(tflite_files["float32"], "adb:R58M?accelerator=npu", runs=1)


def test_a_file_that_the_gpu_runs_only_in_part_is_an_error(phone, tflite_files):
    rest = " w/ 3 delegate kernels"
    phone.has(help=CLASSIC_HELP, printed=CLASSIC.format(how="partially", rest=rest))
    with pytest.raises(
        ValueError, match=r"float32\.tflite: adb:R58M\?accelerator=gpu does not run all of it on its GPU"
    ):
        benchmark(tflite_files["float32"], "adb:R58M?accelerator=gpu", runs=1)
    phone.has(help=LITERT_HELP, printed="ERROR: Disallowed CPU fallback detected.\n", code="1")
    with pytest.raises(ValueError, match="does not run all of it"):
        benchmark(tflite_files["float32"], "adb:R58M?accelerator=gpu", runs=1)


@pytest.mark.parametrize(
    "printed, words",
    [
        ("error: device unauthorized.\nThis adb server's keys\n", "confirm the question on its screen"),
        ("error: device 'R58M' not found\n", "adb does not see it"),
        ("error: no devices/emulators found\n", "adb does not see it"),
        ("error: device offline\n", "is offline"),
        ("error: more than one device/emulator\n", "name one, as in adb:SERIAL"),
    ],
)  # fmt: skip
def test_a_phone_that_cannot_be_reached_gives_one_sentence(phone, tflite_files, printed, words):
    phone.has(refusal=printed)
    with pytest.raises(ConnectionError, match=words) as raised:
        benchmark(tflite_files["float32"], "adb:R58M")
    assert str(raised.value).startswith("adb:R58M: ") and "\n" not in str(raised.value)


def test_a_phone_in_the_network_is_asked_for_its_state(phone, tflite_files):
    """`adb connect` exits with 0 when it fails."""
    phone.has(state="offline\n")
    with pytest.raises(ConnectionError, match="is offline"):
        benchmark(tflite_files["float32"], "adb:192.168.0.7:5555")
    assert phone.calls[0] == ["connect", "192.168.0.7:5555"]


def test_a_crash_is_not_a_lost_connection(phone, tflite_files):
    phone.has(printed="INFO: Initialized session\nSegmentation fault \n", code="139")
    with pytest.raises(RuntimeError, match=r"float32\.tflite: benchmark_model on adb:R58M was killed by signal 11"):
        benchmark(tflite_files["float32"], "adb:R58M")
    phone.has(printed="INFO: Initialized session\n", code="0")  # What the real adb gives.
    with pytest.raises(ConnectionError, match="the connection was lost before"):
        benchmark(tflite_files["float32"], "adb:R58M")
    phone.has(printed="INFO: Initialized session\nerror: closed\n", code="1")
    with pytest.raises(ConnectionError, match="the connection was lost"):
        benchmark(tflite_files["float32"], "adb:R58M")


def test_a_phone_without_the_program(phone, tflite_files, tmp_path):
    (phone.folder / "no_tool").touch()
    with pytest.raises(ConnectionError, match=r"has no /data/local/tmp/benchmark_model; name the program"):
        benchmark(tflite_files["float32"], "adb")
    (phone.folder / "no_tool").unlink()
    tool = tmp_path / "a tool; touch x"
    tool.write_text("program")
    benchmark(tflite_files["float32"], f"adb?tool={str(tool).replace(';', '%3B')}", runs=1)
    assert ["push", str(tool), "/data/local/tmp/benchmark_model"] in phone.calls
    phone.has(help="usage: another program\n")
    with pytest.raises(ValueError, match="neither LiteRT's benchmark_model nor"):
        benchmark(tflite_files["float32"], "adb", runs=1)


@pytest.mark.parametrize(
    "name", ["adb:-s", "adb:R58M;reboot", "adb:$(reboot)", "adb:a b", "adb:'x'", "adb:R?accelerator=x", "adb?x=1"]
)
def test_a_name_that_is_no_phone_is_refused_before_anything_runs(phone, name):
    with pytest.raises(ValueError, match="adb"):
        AdbDevice(name)
    assert not (phone.folder / "calls").exists()


def test_outputs_cannot_be_compared_on_a_phone(phone, tflite_files, images):
    with pytest.raises(ValueError, match="gives no outputs, because benchmark_model only measures"):
        verify(tflite_files["float32"], tflite_files["float32"], images, device="adb")


def test_connected_phones_are_listed(phone):
    names = [report.name for report in device_reports() if report.name.startswith("adb")]
    assert names == ["adb:R58M", "adb:192.168.0.7:5555"]
    report = next(report for report in device_reports(["adb:R58M"]))
    assert report.usable and "that of LiteRT" in str(report)


def test_the_summary_is_read_from_both_programs():
    summary = benchmark_model.parsed(LITERT)
    assert (summary.runs, summary.median_ms, summary.first_ms, summary.init_ms) == (20, 0.462, 1.033, 4.478)
    assert benchmark_model.parsed(CLASSIC.format(how="partially", rest="")).accelerated is False
    with pytest.raises(ValueError, match="no results"):
        benchmark_model.parsed("INFO: nothing")
