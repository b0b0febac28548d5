"""Sensors of boards, played by folders that look like /proc and /sys there."""

import time

from keras_vit.edge.devices import sensors


def write(root, path, content):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(content)


def test_a_raspberry_pi(tmp_path):
    write(tmp_path, "proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
    write(tmp_path, "proc/cpuinfo", "processor\t: 0\nBogoMIPS\t: 108.00\n\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n")
    write(tmp_path, "etc/os-release", 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n')
    write(tmp_path, "sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")
    write(tmp_path, "sys/class/thermal/thermal_zone0/temp", "58450\n")
    for core, clock in enumerate((1500000, 2400000)):
        write(tmp_path, f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq", f"{clock}\n")
    write(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "ondemand\n")
    write(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "2400000\n")
    facts = sensors.facts(str(tmp_path))
    assert facts["board"] == facts["cpu"] == "Raspberry Pi 5 Model B Rev 1.0"
    assert (facts["governor"], facts["highest_clock_mhz"]) == ("ondemand", 2400.0)
    assert facts["system"] == "Debian GNU/Linux 12 (bookworm)"
    assert sensors.read(str(tmp_path)) == {"temperature_c": 58.45, "clock_mhz": 2400.0, "power_w": None}


def test_a_jetson(tmp_path):
    """The CPU's sensor counts, not a hotter one beside it; the rail of the whole module, not the sum of its parts."""
    for zone, (kind, temperature) in enumerate((("cpu-thermal", 51000), ("gpu-thermal", 60000), ("tj-thermal", 61000))):
        write(tmp_path, f"sys/class/thermal/thermal_zone{zone}/type", f"{kind}\n")
        write(tmp_path, f"sys/class/thermal/thermal_zone{zone}/temp", f"{temperature}\n")
    rails = (("VDD_IN", 5000, 1400), ("VDD_CPU_GPU_CV", 5000, 500), ("VDD_SOC", 5000, 300))
    write(tmp_path, "sys/class/hwmon/hwmon1/name", "ina3221\n")
    for number, (label, millivolts, milliamperes) in enumerate(rails, 1):
        write(tmp_path, f"sys/class/hwmon/hwmon1/in{number}_label", f"{label}\n")
        write(tmp_path, f"sys/class/hwmon/hwmon1/in{number}_input", f"{millivolts}\n")
        write(tmp_path, f"sys/class/hwmon/hwmon1/curr{number}_input", f"{milliamperes}\n")
    assert sensors.read(str(tmp_path)) == {"temperature_c": 51.0, "clock_mhz": None, "power_w": 7.0}
    write(tmp_path, "sys/class/hwmon/hwmon1/in1_label", "VDD_GPU_SOC\n")
    assert sensors.power(str(tmp_path)) == 11.0


def test_the_rails_of_a_raspberry_pi_add_up():
    printed = "   3V3_SYS_A current(1)=0.09000000A\n  VDD_CORE_A current(7)=1.50000000A\n"
    printed += "   3V3_SYS_V volt(9)=3.30000000V\n  VDD_CORE_V volt(15)=0.80000000V\n   EXT5V_V volt(24)=5.10000000V\n"
    assert abs(sensors.raspberry_power(printed) - (0.09 * 3.3 + 1.5 * 0.8)) < 1e-9
    assert sensors.raspberry_power('error=1 error_msg="Command not registered"\n') is None


def test_power_is_read_while_something_runs():
    with sensors.PowerMeter(0.01, lambda: 5.0) as meter:
        time.sleep(0.1)
    assert 3 <= len(meter.watts) <= 12 and set(meter.watts) == {5.0}
    with sensors.PowerMeter(0.01, lambda: None) as meter:
        pass
    assert meter.watts == []
