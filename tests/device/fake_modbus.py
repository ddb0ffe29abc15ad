"""Serial lines with scripted meters on them, for tests of what speaks Modbus RTU: `machine` and `time` in one."""

import asyncio
import time

from gridnode.meters import rtu
from gridnode.meters.line import _lines as lines

_KEPT = 64  # of what went over the line

ticks_ms = time.ticks_ms
ticks_diff = time.ticks_diff


class Pin:
    OUT = 1
    levels = []

    def __init__(self, number, mode=None, value=None):
        Pin.levels = []

    def __call__(self, level):
        Pin.levels.append(level)
        del Pin.levels[:-_KEPT]


class Wire:
    """`machine` with one UART: what the node sends goes to `answer(request)`, whose bytes it receives.

    distort: bytes -> bytes, what the line does to every answer.
    """

    Pin = Pin

    def __init__(self, answer):
        self.answer = answer
        self.requests = []
        self.buffer = b""
        self.distort = None

    def UART(self, number, **settings):
        self.settings = settings
        return self

    def write(self, data):
        self.requests.append(bytes(data))
        del self.requests[:-_KEPT]
        answer = self.answer(bytes(data))
        self.buffer += self.distort(answer) if self.distort else answer
        return len(data)

    def flush(self):
        pass

    def any(self):
        return len(self.buffer)

    def read(self, n=None):
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data


class Unit:
    """A meter with registers {(function, address): word}; `refuse` names addresses that it does not have."""

    def __init__(self, address):
        lines.clear()  # those of earlier tests
        self.address = address
        self.registers = {}
        self.refuse = set()
        self.most = 125
        self.off = False
        self.mangle = None  # bytes -> bytes, once

    def __call__(self, request):
        if self.off or request[0] not in (self.address, rtu.ANY_UNIT) or rtu.crc(request):
            return b""
        answer = rtu.seal(self.reply(request))
        if self.mangle:
            answer, self.mangle = self.mangle(answer), None
        return answer

    def reply(self, request):
        function = request[1]
        head = bytes((request[0], function))
        if function == 0x42:
            self.registers[4, 5] = self.registers[4, 6] = 0
            return head
        start, count = request[2] << 8 | request[3], request[4] << 8 | request[5]
        if function in (3, 4):
            if count > self.most or any(start <= a < start + count for a in self.refuse):
                return bytes((request[0], function | 0x80, 2))
            words = [self.registers.get((function, start + k), 0) for k in range(count)]
            return head + bytes((2 * count,)) + b"".join([bytes((w >> 8, w & 0xFF)) for w in words])
        if function == 6:
            self.registers[3, start] = count
            return request[:6]
        return bytes((request[0], function | 0x80, 1))


def block(meter):
    """One reading of a meter."""
    return asyncio.run(meter.block())
