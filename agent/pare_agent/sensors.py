"""Heat, clock and power while a model runs, as far as the board has sensors that a plain user may read.

Sources: Documentation/driver-api/thermal/sysfs-api.rst and cpu-freq of the Linux kernel; Raspberry Pi's `vcgencmd
get_throttled`; NVIDIA's Jetson Linux guide on INA3221 power monitors.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any, Callable

PERIOD_S = 0.5
NOW = 0xF
"""Bits of `get_throttled` that hold at this moment: undervoltage, capped, throttled, at the soft limit."""
POSSIBLE_C = (-40.0, 200.0)
BOARD_RAILS = ("VDD_IN", "POM_5V_IN", "5V_IN")
"""What a Jetson's monitor calls the supply of the whole module."""


class Sensors:
    """Reads one moment; every method answers None where there is no such sensor."""

    def __init__(self, root: Path = Path("/")) -> None:
        """Look below `root` for `/sys`."""
        self._sys = root / "sys"
        self._vcgencmd = shutil.which("vcgencmd") if root == Path("/") else None

    def temperature_c(self) -> float | None:
        """Of the hottest zone, in degrees Celsius."""
        readings = [value / 1000 for value in self._numbers("class/thermal/thermal_zone*/temp")]
        return max((reading for reading in readings if POSSIBLE_C[0] < reading < POSSIBLE_C[1]), default=None)

    def throttled(self) -> bool | None:
        """Whether the clock is held down now: by a Raspberry Pi's firmware, or by the kernel's cooling devices."""
        flags = self._firmware()
        if flags is not None:
            return bool(flags & NOW)
        cooling = [
            self._number(kind.parent / "cur_state")
            for kind in self._sys.glob("class/thermal/cooling_device*/type")
            if "cpufreq" in _text(kind) or _text(kind).startswith("cpu")
        ]
        states = [state for state in cooling if state is not None]
        return any(states) if states else None

    def power_w(self) -> float | None:
        """What the board draws, from an INA monitor; rails are added up where none is that of the whole board."""
        rails = {**self._ina_rails(), **self._ina_rails_of_old_kernels()}
        for name in BOARD_RAILS:
            if name in rails:
                return rails[name]
        return sum(rails.values()) if rails else None

    def frequency_mhz(self) -> float | None:
        """Of the fastest core."""
        readings = self._numbers("devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
        return max((value / 1000 for value in readings), default=None)

    def governor(self) -> str | None:
        """What sets the first core's clock."""
        return _text(self._sys / "devices/system/cpu/cpu0/cpufreq/scaling_governor") or None

    def _firmware(self) -> int | None:
        for place in self._sys.glob("devices/platform/soc*/*firmware*/get_throttled"):
            if text := _text(place):
                return int(text, 16)
        if self._vcgencmd is None:
            return None
        try:
            answer = subprocess.run(  # noqa: S603  # found in PATH, no shell
                [self._vcgencmd, "get_throttled"], capture_output=True, text=True, timeout=5, check=True
            ).stdout
            return int(answer.partition("=")[2], 16)
        except (OSError, ValueError, subprocess.SubprocessError):
            return None

    def _ina_rails(self) -> dict[str, float]:
        rails = {}
        for name in self._sys.glob("class/hwmon/hwmon*/name"):
            if not _text(name).startswith("ina"):
                continue
            for current in name.parent.glob("curr[0-9]_input"):
                number = current.name[4]
                milliamperes, millivolts = self._number(current), self._number(name.parent / f"in{number}_input")
                if milliamperes is not None and millivolts is not None:
                    label = _text(name.parent / f"in{number}_label") or f"{name.parent.name}/{number}"
                    rails[label] = milliamperes * millivolts / 1e6
        return rails

    def _ina_rails_of_old_kernels(self) -> dict[str, float]:
        rails = {}
        for place in self._sys.glob("bus/i2c/drivers/ina3221x/*/iio:device*/in_power[0-9]_input"):
            milliwatts = self._number(place)
            if milliwatts is not None:
                label = _text(place.parent / f"rail_name_{place.name[8]}") or place.name
                rails[label] = milliwatts / 1000
        return rails

    def _numbers(self, pattern: str) -> list[float]:
        return [value for place in self._sys.glob(pattern) if (value := self._number(place)) is not None]

    @staticmethod
    def _number(place: Path) -> float | None:
        try:
            return float(_text(place))
        except ValueError:
            return None


class Watch(threading.Thread):
    """Samples the sensors until stopped: `condition` sums up."""

    def __init__(self, sensors: Sensors, period_s: float = PERIOD_S) -> None:
        """Nothing is read before `start`."""
        super().__init__(name="sensors", daemon=True)
        self._sensors, self._period_s = sensors, period_s
        self._over = threading.Event()
        self._seen: dict[str, list[float]] = {"temperature_c": [], "throttled": [], "power_w": [], "frequency_mhz": []}

    def run(self) -> None:
        while not self._over.is_set():
            for name, readings in self._seen.items():
                read: Callable[[], float | None] = getattr(self._sensors, name)
                if (value := read()) is not None:
                    readings.append(value)
            self._over.wait(self._period_s)

    def stop(self) -> None:
        """End after the present sample."""
        self._over.set()
        if self.is_alive():
            self.join()

    def condition(self) -> dict[str, Any]:
        """The highest temperature, whether it was ever throttled, mean power and clock."""
        seen = self._seen
        return {
            "temperature_c": max(seen["temperature_c"], default=None),
            "throttled": any(seen["throttled"]) if seen["throttled"] else None,
            "power_w": _mean(seen["power_w"]),
            "frequency_mhz": _mean(seen["frequency_mhz"]),
            "governor": self._sensors.governor(),
        }


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _text(place: Path) -> str:
    try:
        return place.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return ""
