"""SHT3x temperature and humidity sensor on I2C, from Sensirion's data sheet (facts B.6).

Not modelled: periodic measurement (a fetch finds nothing and is not acknowledged) and alerts.
"""

from __future__ import annotations

from collections.abc import Callable

from gridnode_host.bench.chips.chip import Chip
from gridnode_host.bench.site import Site, Spec, Wired
from gridnode_host.bench.wiring import Nack, Stretch

# command -> longest time of the measurement in s (high, medium, low repeatability), clock stretching
_MEASURE = {
    0x2400: (0.0155, False),
    0x240B: (0.0065, False),
    0x2416: (0.0045, False),
    0x2C06: (0.0155, True),
    0x2C0D: (0.0065, True),
    0x2C10: (0.0045, True),
}
_FETCH, _SOFT_RESET, _STATUS, _CLEAR_STATUS = 0xE000, 0x30A2, 0xF32D, 0x3041
_HEATER_ON, _HEATER_OFF = 0x306D, 0x3066
_SERIAL = (0x3780, 0x3682)

ALERT_PENDING, HEATER, HUMIDITY_ALERT, TEMPERATURE_ALERT = 1 << 15, 1 << 13, 1 << 11, 1 << 10
RESET_SEEN, COMMAND_FAILED = 1 << 4, 1 << 1

_RESET_S = 0.0015
_HEATED_K = 3.0  # "a few degrees" above its surroundings
_DRIER_PER_K = 0.94  # relative humidity of the same air, for each degree that it is warmer


def crc8(data: bytes) -> int:
    """Polynomial 0x31, init 0xFF, neither reflected nor inverted."""
    crc = 0xFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ (0x31 if crc & 0x80 else 0)) & 0xFF
    return crc


class Sht3x(Chip):
    """One sensor; `temperature` (degC) and `humidity` (%) are what it is surrounded by."""

    faults = (*Chip.faults, "crc")

    def __init__(
        self,
        clock: Callable[[], float],
        temperature: Callable[[], float],
        humidity: Callable[[], float],
        seed: int = 0,
    ) -> None:
        super().__init__(clock, seed, 0x537)
        self.serial = 0x5300_0000 + seed
        self._temperature = temperature
        self._humidity = humidity
        self._kept: tuple[float, float] | None = None  # what it measured before it froze
        self._answer: bytes | None = None
        self._ready = 0.0
        self._reset()

    # -- wiring.I2cDevice ------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """A command of 16 bits."""
        with self._lock:
            self._need(self._clock() >= self._awake and self._clock() >= self._ready)
            self._answer = None
            command = int.from_bytes(data[:2], "big")
            if len(data) == 2 and command in _MEASURE:
                seconds, self._stretches = _MEASURE[command]
                self._ready = self._clock() + seconds
                self._answer = _words(*self._measure())
            elif len(data) == 2 and command in _SERIAL:
                self._answer = _words(self.serial >> 16, self.serial & 0xFFFF)
            elif data == _STATUS.to_bytes(2, "big"):
                self._answer = _words(self._status)
                return
            elif data == _CLEAR_STATUS.to_bytes(2, "big"):
                self._status &= ~(ALERT_PENDING | HUMIDITY_ALERT | TEMPERATURE_ALERT | RESET_SEEN)
            elif data == _HEATER_ON.to_bytes(2, "big"):
                self._status |= HEATER
            elif data == _HEATER_OFF.to_bytes(2, "big"):
                self._status &= ~HEATER
            elif data == _SOFT_RESET.to_bytes(2, "big"):
                self._reset()
            elif data != _FETCH.to_bytes(2, "big"):
                self._status |= COMMAND_FAILED
                raise Nack
            self._status &= ~COMMAND_FAILED

    def read(self, n: int) -> bytes:
        """What the last command has to tell: once, and not before it is there."""
        with self._lock:
            now = self._clock()
            self._need(now >= self._awake)
            if now < self._ready and self._stretches:
                raise Stretch(self._ready - now)
            if self._answer is None or now < self._ready:
                raise Nack
            answer, self._answer = self._answer, None
            if self._rng.random() < self._rates.get("crc", 0.0):
                answer = answer[:2] + bytes((answer[2] ^ 0x01,)) + answer[3:]
            return self._on_the_wire(answer[:n])

    # -- measuring -------------------------------------------------------------------------

    def _reset(self) -> None:
        self._status = ALERT_PENDING | RESET_SEEN
        self._awake = self._clock() + _RESET_S
        self._ready = self._clock()
        self._stretches = False
        self._answer = None

    def _need(self, awake: bool) -> None:
        if not (self.present and awake):
            raise Nack

    def _measure(self) -> tuple[int, int]:
        if self._kept is None or not self._has("frozen"):
            self._kept = (self._temperature(), self._humidity())
        degrees, percent = self._kept
        if self._status & HEATER:
            degrees, percent = degrees + _HEATED_K, percent * _DRIER_PER_K**_HEATED_K
        return _raw((degrees + 45.0) / 175.0), _raw(percent / 100.0)


def _raw(share: float) -> int:
    return min(max(round(share * 65535.0), 0), 65535)


def _words(*words: int) -> bytes:
    parts = (word.to_bytes(2, "big") for word in words)
    return b"".join(part + bytes((crc8(part),)) for part in parts)


def wire(spec: Spec, site: Site) -> Wired:
    """Put a sensor on the I2C bus of the profile's entry, in the air of its place."""
    place, i2c = spec["id"], spec["i2c"]
    sensor = Sht3x(
        site.circuit.now,
        lambda: site.environment.temperature(place),
        lambda: site.environment.humidity(place),
        site.seed,
    )
    site.wiring.attach_i2c(i2c["id"], i2c.get("address", 0x44), sensor, scl=i2c["scl"], sda=i2c["sda"])
    return sensor, None
