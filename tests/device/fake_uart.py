"""A UART without a wire, and time that passes only where the code under test waits."""

import asyncio


class Time:
    """The `time` module; `asyncio.sleep_ms` lets it pass."""

    def __init__(self):
        self.ms = (1 << 30) - 5000  # ticks wrap on the way
        asyncio.sleep_ms = self._sleep_ms

    async def _sleep_ms(self, ms):
        self.ms += ms

    def ticks_ms(self):
        return self.ms & 0x3FFFFFFF

    def ticks_diff(self, a, b):
        return (a - b + (1 << 29)) % (1 << 30) - (1 << 29)


class Uart:
    """`machine` with one UART: what `device.hear(frame)` returns is there to be read at once.

    A device that sends by itself has `tick(ms)`, which returns what has come by that time.
    """

    def __init__(self, time, device):
        self.time = time
        self.device = device
        self.settings = None
        self.received = b""

    def UART(self, number, **settings):
        self.settings = settings
        return self

    def write(self, data):
        self.received += self.device.hear(bytes(data))

    def any(self):
        if hasattr(self.device, "tick"):
            self.received += self.device.tick(self.time.ms)
        return len(self.received)

    def read(self, n):
        data, self.received = self.received[:n], self.received[n:]
        return data or None


def run(coroutine):
    """The result of a coroutine that waits for nothing but time."""
    try:
        while True:
            coroutine.send(None)
    except StopIteration as e:
        return e.value
