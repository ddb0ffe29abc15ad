"""What surrounds a node: air, places that have a temperature, volts at slow inputs, covers."""

from __future__ import annotations

import threading
from collections.abc import Mapping


class Environment:
    """The surroundings of one node. Thread-safe; what is set holds at once.

    A place is the id of the meter that is there; one that was never given a value of its own has
    that of the air. So have the node's processor, its metering chips and its sensors: nothing
    warms itself.
    """

    def __init__(self, temperature: float = 25.0, humidity: float = 50.0) -> None:
        self._lock = threading.Lock()
        self._temperature: dict[str | None, float] = {None: temperature}
        self._humidity: dict[str | None, float] = {None: humidity}
        self._volts: dict[tuple[str | None, int], float] = {}
        self._open: dict[str | None, bool] = {None: False}

    def set(
        self,
        *,
        temperature: float | None = None,
        humidity: float | None = None,
        volts: Mapping[int, float] | None = None,
        cover_open: bool | None = None,
        at: str | None = None,
    ) -> None:
        """Change what is given: degC, % of relative humidity, volts by input of a converter, whether
        the cover is open.

        `at` names a place; None is the air, every converter and every cover. Raises ValueError
        for what no place can have.
        """
        if temperature is not None and not -273.15 <= temperature <= 1000:
            raise ValueError(f"temperature must be -273.15 to 1000, not {temperature}")
        if humidity is not None and not 0 <= humidity <= 100:
            raise ValueError(f"humidity must be 0 to 100, not {humidity}")
        with self._lock:
            if temperature is not None:
                self._temperature[at] = float(temperature)
            if humidity is not None:
                self._humidity[at] = float(humidity)
            for channel, level in (volts or {}).items():
                self._volts[at, channel] = float(level)
            if cover_open is not None:
                self._open[at] = cover_open

    def temperature(self, at: str | None = None) -> float:
        """Temperature at a place, degC."""
        with self._lock:
            return self._temperature.get(at, self._temperature[None])

    def humidity(self, at: str | None = None) -> float:
        """Relative humidity at a place, %."""
        with self._lock:
            return self._humidity.get(at, self._humidity[None])

    def volts(self, channel: int, at: str | None = None) -> float:
        """Volts at an input of the converter at a place; 0 where none were set."""
        with self._lock:
            return self._volts.get((at, channel), self._volts.get((None, channel), 0.0))

    def cover_open(self, at: str | None = None) -> bool:
        """Whether the cover at a place is open; they are closed at first."""
        with self._lock:
            return self._open.get(at, self._open[None])
