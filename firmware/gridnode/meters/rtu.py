"""Modbus RTU: frames of a master, and the common part of the meters that speak it.

Frame: unit address, function, data, CRC-16 with the low byte first (Modbus over serial line V1.02, 2.5.1). The
functions above `RtuMeter` are the codec: bytes in, bytes and numbers out, for any bytes whatever.
"""

import asyncio
from micropython import const

from gridnode.meters.line import line
from gridnode.meters.polled import BusError, Polled

READ_HOLDING = const(3)
READ_INPUT = const(4)
_WRITE = const(6)
_WRITE_MANY = const(16)
_RESET_ENERGY = const(0x42)  # of the PZEM-004T
_EXCEPTION = const(0x80)
_EXCEPTION_SIZE = const(5)
ANY_UNIT = const(0xF8)  # PZEM-004T: whatever single device is there

_MARGIN_MS = const(30)  # for this node to come round to looking
_MOST = const(300)  # bytes of one answer, noise included
_PATIENCE = const(10)  # silences that are waited for on a line that never falls silent
_REST_MS = const(1000)  # a meter that did not answer is left alone for so long, doubled each time
_LONGEST_REST_MS = const(8000)

_NIBBLES = const((
    0x0000, 0xCC01, 0xD801, 0x1400, 0xF001, 0x3C00, 0x2800, 0xE401,
    0xA001, 0x6C00, 0x7800, 0xB401, 0x5000, 0x9C01, 0x8801, 0x4400,
))  # fmt: skip
_CODES = const(("", "illegal function", "illegal address", "illegal value", "device failure"))


class Refused(BusError):
    """The meter answered with an exception; `code` is its number."""

    def __init__(self, code):
        super().__init__("refused, %s" % (_CODES[code] if 0 < code < len(_CODES) else "exception %d" % code))
        self.code = code


def crc(data, begin=0, end=None):
    """CRC-16 of data[begin:end]: polynomial 0xA001 reflected, start 0xFFFF; four bits at a time."""
    value = 0xFFFF
    for k in range(begin, len(data) if end is None else end):
        value ^= data[k]
        value = value >> 4 ^ _NIBBLES[value & 15]
        value = value >> 4 ^ _NIBBLES[value & 15]
    return value


def seal(body):
    """`body` with its CRC behind it."""
    value = crc(body)
    return body + bytes((value & 0xFF, value >> 8))


def _request(unit, function, *words):
    body = bytearray((unit, function))
    for word in words:
        body.append(word >> 8)
        body.append(word & 0xFF)
    return bytes(body)


def read(unit, function, address, count):
    """Request to read `count` registers from `address`; function 3 reads holding, 4 input registers."""
    return seal(_request(unit, function, address, count))


def write(unit, address, value):
    """Request to write one holding register (function 6)."""
    return seal(_request(unit, _WRITE, address, value))


def write_many(unit, address, data):
    """Request to write `data`, two bytes for each holding register (function 16)."""
    return seal(_request(unit, _WRITE_MANY, address, len(data) // 2) + bytes((len(data),)) + data)


def reset_energy(unit):
    """Request to a PZEM-004T to set its energy to zero (function 0x42)."""
    return seal(_request(unit, _RESET_ENERGY))


def answer_size(request):
    """Bytes of the answer to `request`: registers behind a count of bytes, else the start of the request again."""
    if request[1] in (READ_HOLDING, READ_INPUT):
        return 5 + 2 * request[5]
    return min(8, len(request))


def _fits(request, data, at):
    """Bytes of the answer that may begin at data[at], judged by what is there of it; 0 if none can."""
    size = answer_size(request)
    left = len(data) - at
    if data[at] != request[0] and not (request[0] == ANY_UNIT and 0 < data[at] < ANY_UNIT):
        return 0
    if left < 2:
        return min(size, _EXCEPTION_SIZE)
    function = request[1]
    if data[at + 1] == function | _EXCEPTION:
        return _EXCEPTION_SIZE
    if data[at + 1] != function:
        return 0
    if function in (READ_HOLDING, READ_INPUT):
        return size if left < 3 or data[at + 2] == size - 5 else 0
    for k in range(2, min(6, size - 2, left)):
        if data[at + k] != request[k]:
            return 0
    return size


def find(request, data):
    """Where in `data` the answer to `request` stands, (begin, end), or None; noise around it does no harm.

    It is of the same unit and function, of the right length, and its CRC holds; or it is an exception.
    """
    for begin in range(len(data) - 3):
        size = _fits(request, data, begin)
        end = begin + size
        if size and end <= len(data) and crc(data, begin, end - 2) == data[end - 2] | data[end - 1] << 8:
            return begin, end
    return None


def missing(request, data):
    """Bytes to wait for, at the least, until the answer can be whole; 0 if it is there."""
    if find(request, data):
        return 0
    least = min(answer_size(request), _EXCEPTION_SIZE)
    for at in range(len(data)):
        end = at + _fits(request, data, at)
        if end > len(data):
            return end - len(data)
    return least


def payload(request, frame):
    """Data of an answer that `find` has found: registers, else what follows the function. Raises Refused."""
    if frame[1] & _EXCEPTION:
        raise Refused(frame[2])
    return frame[3 if request[1] in (READ_HOLDING, READ_INPUT) else 2 : -2]


class RtuMeter(Polled):
    """A meter at a unit address of a line that it may share with others.

    timeouts, garbled, refused: transactions without an answer, with one that is none, and with an exception.
    """

    latency_ms = 200  # until the meter begins to answer, at the most

    def __init__(self, spec, time, machine, unit, phases=1):
        super().__init__(spec, time, phases)
        self.unit = unit
        self.timeouts = self.garbled = self.refused = 0
        self._line = line(machine, time, spec["uart"])
        self._rest_ms = 0
        self._rests_from = 0
        self._why = ""
        self._due_ws = 0.0  # energy since the meter's counter has moved

    def overdue(self, moved, watts, most_ws):
        """Whether the energy counter, which has `moved` or not, stands still under load: `most_ws` Ws have gone by."""
        self._due_ws = 0.0 if moved else self._due_ws + abs(watts) * self.reading.ms / 1000
        return self._due_ws > most_ws

    async def ask(self, request, tries=3):
        """Payload of the answer to `request`. Raises Refused, BusError.

        A meter that does not answer is left alone for a while, so that it does not take the line from the others:
        meanwhile it is not asked at all, and after that once.
        """
        time = self._time
        if self._rest_ms:
            if time.ticks_diff(time.ticks_ms(), self._rests_from) < self._rest_ms:
                raise BusError(self._why)
            tries = 1
        for _ in range(tries):
            frame = await self._exchange(request)
            if frame:
                self._rest_ms = 0
                try:
                    return payload(request, frame)
                except Refused:
                    self.refused += 1
                    self.errors += 1
                    raise
            self.errors += 1
            if frame is None:
                self.timeouts += 1
                self._why = "unit %d is silent" % self.unit
            else:
                self.garbled += 1
                self._why = "garbled answer of unit %d" % self.unit
        self._rest_ms = min(max(2 * self._rest_ms, _REST_MS), _LONGEST_REST_MS)
        self._rests_from = time.ticks_ms()
        raise BusError(self._why)

    async def _exchange(self, request):
        """The answer to `request`; an empty one if what came is none, None if nothing came in its time."""
        wire, time = self._line, self._time
        # The request counts as well: without a direction pin it is still on its way when the wait begins.
        wait_ms = self.latency_ms + _MARGIN_MS + (len(request) + answer_size(request)) * wire.byte_us // 1000
        data = b""
        async with wire.turn:
            await self._silence()
            wire.send(request)
            began = time.ticks_ms()
            waits = True
            while waits:
                left = wait_ms - time.ticks_diff(time.ticks_ms(), began)
                waits = left > 0 and len(data) < _MOST
                # When time is up, what came while another task ran counts as well.
                data += (await wire.receive(missing(request, data), left)) if waits else wire.read(_MOST)
                span = find(request, data)
                if span:
                    return data[span[0] : span[1]]
        return b"" if data else None

    async def _silence(self):
        """Wait for 3.5 characters in which nothing comes: the rest of an answer that was late belongs to nobody."""
        ms = 7 * self._line.byte_us // 2000 + 1
        for _ in range(_PATIENCE):
            await asyncio.sleep_ms(ms)
            if not self._line.read(64):
                return
