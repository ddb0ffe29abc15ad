"""What outlives the VM process of a node: reset cause, RTC, watchdog, NVS, identity."""

from __future__ import annotations

import errno
import hashlib
import json
import threading
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

from gridnode_host.bench.bus import Answer, Handler, Op
from gridnode_host.bench.clock import RigClock
from gridnode_host.bench.wiring import Wiring
from gridnode_host.files import write_atomic

EPOCH_2000 = 946_684_800
"""Unix time of the chip's epoch, 2000-01-01: what its clock shows after power-on."""

RTC_MEMORY_SIZE = 2048


class Cause(IntEnum):
    """Why the node last started, as ``machine.reset_cause()`` gives it."""

    POWER_ON = 1
    HARD = 2
    WDT = 3
    DEEPSLEEP = 4
    SOFT = 5


class Board:
    """The state of the chip beside its RAM.

    A soft reset keeps all of it, the watchdog's run included; a hard or watchdog reset stops the
    watchdog; the loss of power also clears the RTC and its memory. NVS lies in a file.
    """

    def __init__(self, name: str, nvs: Path, clock: RigClock, wiring: Wiring) -> None:
        digest = hashlib.sha256(name.encode()).digest()
        self.mac = b"\x02" + digest[:5]
        self.cause = Cause.POWER_ON
        self.on_clock_set: Callable[[], None] = lambda: None
        self._clock = clock
        self._wiring = wiring
        self._nvs_path = nvs
        self._nvs: dict[str, str] = json.loads(nvs.read_text()) if nvs.exists() else {}
        self._memory = b""
        self._rtc_ns = 0
        self._wdt_lock = threading.Lock()
        self._wdt_ms = 0
        self._wdt_end: int | None = None

    def reset(self, cause: Cause) -> None:
        """Do to the state what a reset with this cause does."""
        self.cause = cause
        if cause != Cause.SOFT:
            with self._wdt_lock:
                self._wdt_end = None
        if cause == Cause.POWER_ON:
            self._memory = b""
            self._rtc_ns = EPOCH_2000 * 10**9 - self._clock.now_ns()

    def node_ns(self, rig_ns: int) -> int:
        """Return the node's time of day (Unix ns) at a rig time (ns)."""
        return rig_ns + self._rtc_ns

    def set_clock(self) -> None:
        """Set the node's time of day right, as its time server would."""
        self._rtc_ns = 0
        self.on_clock_set()

    def wdt_left_s(self) -> float | None:
        """Return the real seconds until the watchdog bites, or None while it is off."""
        with self._wdt_lock:
            if self._wdt_end is None:
                return None
            return (self._wdt_end - self._clock.now_ns()) / 1e9 / self._clock.rate

    def handlers(self) -> dict[int, Handler]:
        """Return the operations served here."""
        return {
            Op.WDT_START: self._wdt_start,
            Op.WDT_FEED: self._wdt_feed,
            Op.RTC_SET: self._rtc_set,
            Op.RTC_MEMORY: lambda *_: self._memory,
            Op.RTC_MEMORY_SET: self._memory_set,
            Op.NVS_GET: self._nvs_get,
            Op.NVS_SET: self._nvs_set,
            Op.NVS_ERASE: self._nvs_erase,
            # in hundredths above -273 °C: a negative value would be an errno
            Op.TEMPERATURE: lambda *_: round((self._wiring.temperature() + 273) * 100),
        }

    def _wdt_start(self, timeout_ms: int, _b: int, _c: int, _data: bytes) -> Answer:
        self._wdt_ms = timeout_ms
        return self._wdt_feed(0, 0, 0, b"", start=True)

    def _wdt_feed(self, _a: int, _b: int, _c: int, _data: bytes, *, start: bool = False) -> Answer:
        with self._wdt_lock:
            if start or self._wdt_end is not None:
                self._wdt_end = self._clock.now_ns() + self._wdt_ms * 10**6
        return 0

    def _rtc_set(self, seconds_2000: int, us: int, _c: int, _data: bytes) -> Answer:
        seconds_2000 &= 0xFFFFFFFF  # it travels in 32 bits
        set_to = (EPOCH_2000 + seconds_2000) * 10**9 + us * 1000
        self._rtc_ns = set_to - self._clock.now_ns()
        self.on_clock_set()
        return 0

    def _memory_set(self, _a: int, _b: int, _c: int, data: bytes) -> Answer:
        self._memory = data[:RTC_MEMORY_SIZE]
        return 0

    def _nvs_get(self, _a: int, _b: int, _c: int, data: bytes) -> Answer:
        key, _, _ = data.decode().rpartition("\0")
        if key not in self._nvs:
            raise OSError(errno.ENOENT, "no such key")
        return bytes.fromhex(self._nvs[key])

    def _nvs_set(self, _a: int, _b: int, _c: int, data: bytes) -> Answer:
        space, key, kind, value = data.split(b"\0", 3)
        self._nvs[b"\0".join((space, key, kind)).decode()] = value.hex()
        self._nvs_save()
        return 0

    def _nvs_erase(self, _a: int, _b: int, _c: int, data: bytes) -> Answer:
        prefix = data.decode()
        found = [name for name in self._nvs if name.startswith(prefix)]
        if not found:
            raise OSError(errno.ENOENT, "no such key")
        for name in found:
            del self._nvs[name]
        self._nvs_save()
        return 0

    def _nvs_save(self) -> None:
        write_atomic(self._nvs_path, json.dumps(self._nvs, indent=1).encode())
