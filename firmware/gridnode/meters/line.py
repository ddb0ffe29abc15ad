"""A serial line: one UART, shared by the meters on it, with a direction pin where it is RS-485."""

import asyncio
from micropython import const

_POLL_MS = const(5)
_PARITY = {"none": None, "even": 0, "odd": 1}

_lines = []  # (machine, UART id, settings, Line)


def line(machine, time, uart, rxbuf=256):
    """The line of a profile's `uart` entry. Raises ValueError when two meters ask for different settings."""
    for host, number, settings, known in _lines:
        if host is machine and number == uart["id"]:
            if settings != uart:
                raise ValueError("UART %d is wanted with two different settings" % number)
            return known
    made = Line(machine, time, uart, rxbuf)
    _lines.append((machine, uart["id"], uart, made))
    return made


class Line:
    """`turn` is the lock of a whole transaction; `byte_us` the time of one byte on the wire."""

    def __init__(self, machine, time, uart, rxbuf=256):
        parity = _PARITY[uart.get("parity", "none")]
        stop = uart.get("stop", 1)
        self._uart = machine.UART(
            uart["id"],
            baudrate=uart["baud"],
            bits=8,
            parity=parity,
            stop=stop,
            tx=uart["tx"],
            rx=uart["rx"],
            rxbuf=rxbuf,
        )
        self._direction = machine.Pin(uart["de"], machine.Pin.OUT, value=0) if "de" in uart else None
        self._time = time
        self.turn = asyncio.Lock()
        self.byte_us = (9 + stop + (parity is not None)) * 1000000 // uart["baud"]

    def clear(self):
        """Forget what was received."""
        while self.read(64):
            pass

    def send(self, data):
        """Send; on RS-485 wait for the last bit, since the answer may follow 3.5 characters later."""
        if not self._direction:
            self._uart.write(data)
            return
        self._direction(1)
        try:
            self._uart.write(data)
            self._uart.flush()
        finally:
            self._direction(0)

    async def receive(self, n, timeout_ms):
        """Bytes received, `n` at most; fewer when `timeout_ms` have passed."""
        time, uart = self._time, self._uart
        began = time.ticks_ms()
        while uart.any() < n and time.ticks_diff(time.ticks_ms(), began) < timeout_ms:
            await asyncio.sleep_ms(_POLL_MS)
        return self.read(n)

    def read(self, n):
        """What is there now, `n` bytes at most."""
        n = min(n, self._uart.any())
        return (n and self._uart.read(n)) or b""
