"""What boards show of their heat, clock and power, from copies of their `/sys`."""

from pathlib import Path

import pytest
from pare_agent.facts import facts
from pare_agent.sensors import Sensors, Watch

PI = {
    "class/thermal/thermal_zone0/temp": "61322\n",
    "devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    "devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "600000\n",
    "devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
}
JETSON = {
    "class/thermal/thermal_zone0/temp": "48000\n",
    "class/thermal/thermal_zone1/temp": "51500\n",
    "class/thermal/thermal_zone2/temp": "-256000\n",
    "class/thermal/cooling_device0/type": "cpufreq-cpu0\n",
    "class/thermal/cooling_device0/cur_state": "0\n",
    "class/hwmon/hwmon1/name": "ina3221\n",
    "class/hwmon/hwmon1/in1_label": "VDD_IN\n",
    "class/hwmon/hwmon1/in1_input": "19000\n",
    "class/hwmon/hwmon1/curr1_input": "400\n",
    "class/hwmon/hwmon1/in2_label": "VDD_CPU_GPU_CV\n",
    "class/hwmon/hwmon1/in2_input": "19000\n",
    "class/hwmon/hwmon1/curr2_input": "100\n",
}
OLD_JETSON = {
    "bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power0_input": "3200\n",
    "bus/i2c/drivers/ina3221x/6-0040/iio:device0/rail_name_0": "POM_5V_IN\n",
}


def board(root: Path, files: dict[str, str]) -> Sensors:
    for name, text in files.items():
        place = root / "sys" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return Sensors(root)


def test_a_raspberry_pi(tmp_path: Path) -> None:
    sensors = board(tmp_path, PI)

    assert sensors.temperature_c() == 61.322
    assert sensors.throttled() is True
    assert (sensors.frequency_mhz(), sensors.governor()) == (600, "ondemand")
    assert sensors.power_w() is None


def test_throttling_that_is_over_does_not_count(tmp_path: Path) -> None:
    over = {"devices/platform/soc/soc:firmware/get_throttled": "50000\n"}  # it has happened since the start

    assert board(tmp_path, over).throttled() is False


def test_a_jetson(tmp_path: Path) -> None:
    sensors = board(tmp_path, JETSON)

    assert sensors.temperature_c() == 51.5
    assert sensors.throttled() is False
    assert sensors.power_w() == pytest.approx(7.6)
    (tmp_path / "sys/class/thermal/cooling_device0/cur_state").write_text("2\n")
    assert sensors.throttled() is True


def test_a_jetson_with_an_older_kernel(tmp_path: Path) -> None:
    assert board(tmp_path, OLD_JETSON).power_w() == pytest.approx(3.2)


def test_no_sensor_is_no_figure(tmp_path: Path) -> None:
    watch = Watch(Sensors(tmp_path), period_s=0.01)
    watch.start()
    watch.stop()

    assert set(watch.condition().values()) == {None}


def test_a_watch_keeps_the_highest_temperature_and_any_throttling(tmp_path: Path) -> None:
    sensors = board(tmp_path, PI)
    watch = Watch(sensors)
    readings = iter([(60.0, False), (70.0, True), (65.0, False)])
    for temperature, throttled in readings:
        watch._seen["temperature_c"].append(temperature)
        watch._seen["throttled"].append(throttled)

    assert watch.condition()["temperature_c"] == 70
    assert watch.condition()["throttled"] is True


def test_the_boards_own_name_comes_before_its_processors(tmp_path: Path) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_bytes(b"Raspberry Pi 4 Model B Rev 1.4\0")
    (tmp_path / "proc/cpuinfo").write_text("processor : 0\nFeatures : fp asimd crc32\nCPU part : 0xd08\n")

    device = facts(tmp_path)

    assert device["cpu"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert device["cpu_flags"] == ["asimd", "crc32", "fp"]
    assert device["runtimes"].keys() >= {"onnxruntime"}


def test_arm_kernels_give_a_part_and_no_name(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("CPU implementer : 0x41\nCPU part : 0xd0b\nFeatures : asimd asimddp\n")

    assert facts(tmp_path)["cpu"] == "Cortex-A76"
