"""CSE7766, single phase: it sends a frame every 50 ms by itself (4800 baud, even parity) and cannot be asked.

Frame: CSE7759B data sheet p. 13; Tasmota xnrg_02_cse7766.ino for what the chip does in the field. The functions and
classes above `Meter` are the codec: bytes and numbers in, numbers out.

A value is a coefficient over the microseconds of a cycle, and the chip gives a pulse per power cycle, which carries
the power coefficient in uJ (5351000: 5.351 J, 1.4864 mWh). The power has no sign, and there is no reactive power: what
remains of S beside P is non-active (IEEE 1459), and its sign is unknown.
"""

import math
from array import array
from micropython import const

from gridnode import reading as r
from gridnode.meters.counter import Counter
from gridnode.meters.line import line
from gridnode.meters.polled import BusError, Polled, Unusable

SIZE = const(24)
CHUNK = const(64)

_GOOD = const(0x55)
_NOT_CALIBRATED = const(0xAA)
_FAULTY = const(0xFC)  # and above: voltage and current out of range, which no supply does
_NO_VOLTAGE = const(8)  # low bits of a state 0xFx: a cycle takes longer than the chip waits
_NO_CURRENT = const(4)
_NO_LOAD = const(2)
_BAD_MEMORY = const(1)  # no coefficients
_POWER_WHOLE = const(0x10)  # bits of Adj: the cycle is complete, its number stands
_CURRENT_WHOLE = const(0x20)
_VOLTAGE_WHOLE = const(0x40)
_OVERFLOW = const(0x80)  # turns with each overflow of the pulses: their 17th bit
_PULSES = const(0x20000)

_TYPICAL = (191200, 16140, 5364000)  # of a chip without coefficients of its own (Tasmota)

_FLAGS = ((_NO_LOAD, "no_load"), (_NO_VOLTAGE, "no_voltage"), (_BAD_MEMORY, "uncalibrated"))

_FIRST_MS = const(300)  # to wait for a frame when none is there
_SILENT_MS = const(3000)


def is_frame(data, at=0):
    """Whether a frame with a right checksum begins at data[at]; its 24 bytes must be there."""
    state = data[at]
    if data[at + 1] != 0x5A or (state < 0xF0 and state not in (_GOOD, _NOT_CALIBRATED)):
        return False
    return sum(data[at + 2 : at + 23]) & 0xFF == data[at + 23]


def decode(frame):
    """(coefficients of U, I and P), cycles of U, I and P in us, Adj, pulses, with the overflow bit as the 17th."""
    u, u_cycle, i, i_cycle, p, p_cycle = [int.from_bytes(frame[k : k + 3], "big") for k in (2, 5, 8, 11, 14, 17)]
    adj = frame[20]
    return (u, i, p), u_cycle, i_cycle, p_cycle, adj, (adj & _OVERFLOW) << 9 | frame[21] << 8 | frame[22]


def trouble(state):
    """Bits of what is wrong by a frame's state; a chip without coefficients counts as one that lost them."""
    if state >= 0xF0:
        return state & 0x0F
    return _BAD_MEMORY if state == _NOT_CALIBRATED else 0


class Stream:
    """Finds the frames in a stream of bytes, in a buffer made once."""

    def __init__(self):
        self.lost = 0  # times that something else stood where a frame had to begin
        self._buffer = bytearray(SIZE + CHUNK)
        self._view = memoryview(self._buffer)
        self._held = 0

    def feed(self, data, take):
        """Add CHUNK bytes at most; calls take(frame) for each frame, whose bytes last until it returns."""
        view = self._view
        n = self._held + len(data)
        view[self._held : n] = data
        at = 0
        in_step = True
        while n - at >= SIZE:
            if is_frame(view, at):
                take(view[at : at + SIZE])
                at += SIZE
                in_step = True
            else:
                at += 1
                self.lost += in_step
                in_step = False
        self._held = n - at
        view[: self._held] = bytes(view[at:n])


class Middle:
    """Mean of a block's values, or its root mean square, of the middle one of each three in a row.

    A frame may be wild though its checksum is right: alone between two others it does not count, nor above `limit`.
    """

    def __init__(self, limit, squared=False):
        self.limit = limit
        self.squared = squared
        self._three = array("f", (0, 0, 0))
        self.forget()

    def forget(self):
        """Begin without the values before."""
        self._n = 0
        self.restart()

    def restart(self):
        """Begin a block."""
        self._sum = 0.0
        self._count = 0
        self.wild = 0

    def add(self, value):
        """Take a value."""
        if value > self.limit:
            self.wild += 1
            return
        three = self._three
        three[self._n % 3] = value
        self._n += 1
        if self._n >= 3:
            a, b, c = three
            middle = max(min(a, b), min(max(a, b), c))
            self._sum += middle * middle if self.squared else middle
            self._count += 1

    def value(self):
        """The block's value, None without any."""
        if not self._count:
            return None
        mean = self._sum / self._count
        return math.sqrt(mean) if self.squared else mean


class Power:
    """Power from its cycles. floor: W that a power must exceed to be told from none."""

    def __init__(self, floor):
        self.floor = floor
        self.forget()

    def forget(self):
        """The next cycle is the first."""
        self._skip = ()
        self._cycle = 0

    def watts(self, no_load, whole, coefficient, cycle, pulses):
        """Power by one frame, None while it is not known.

        The first cycle of a load began before it: the second counts. While a cycle is not whole its number rises: the
        last one stands until this one proves it wrong, then the power is less than this one tells.
        """
        if no_load:
            self.forget()
            return 0.0
        if not whole:
            most = coefficient / max(cycle, self._cycle, 1)
            return most if cycle <= self._cycle or most < self.floor else None
        mark = (cycle, pulses)
        if self._skip == ():
            self._skip = mark
        if self._skip == mark or not cycle:
            return None
        self._skip = None
        self._cycle = cycle
        return coefficient / cycle


class Meter(Polled):
    """CSE7766 of one profile entry.

    Flags: `no_load` when the power is below the chip's range (P is 0, and so is I, which then is noise), `no_voltage`
    likewise, and `uncalibrated` when the chip has no coefficients of its own: values are then by typical ones, some
    percent off until the node's calibration puts them right.
    """

    names = ("voltage", "current", "power")
    stuck_after = 20

    def __init__(self, spec, profile, machine, time):
        super().__init__(spec, time)
        self._spec = spec
        self._machine = machine
        nominal, rating = profile["nominal"]["voltage"], profile["rating"]["current"]
        # The chip's coefficients are for 1 mV per V (1 kohm below 1 Mohm) and a shunt of 1 mohm.
        self._mv_per_v = spec["voltage"][0]["mv_per_v"]
        self._mv_per_a = spec["current"][0]["shunt_mohm"]
        self._limit_w = int(3 * nominal * rating)
        self._v = Middle(2 * nominal * self._mv_per_v, True)
        self._i = Middle(3 * rating * self._mv_per_a, True)
        self._p = Middle(self._limit_w * self._mv_per_v * self._mv_per_a)
        self._power = Power(0.001 * nominal * rating * self._mv_per_v * self._mv_per_a)
        self._stream = Stream()
        self._pulses = []  # of the last three frames
        self._counter = Counter(_PULSES)
        self._coefficients = self._candidate = None
        self._frames = self._faulty = self._trouble = 0
        self._heard = self._counted = time.ticks_ms()

    def start(self, correction):
        """Open the line. Raises ValueError for settings that are not the chip's."""
        uart = self._spec["uart"]
        if uart["baud"] != 4800 or uart.get("parity") != "even":
            raise ValueError("meter %s: a CSE7766 sends at 4800 baud with even parity" % self.id)
        # What comes in 2 s: a front end that samples mains cycles keeps the others waiting for half a second.
        self._line = line(self._machine, self._time, uart, 1024)
        self._heard = self._time.ticks_ms()
        self._spec = self._machine = None
        return ()

    async def configure(self):
        """Nothing can be set up: only begin anew."""
        self._forget()

    def _forget(self):
        for values in (self._v, self._i, self._p, self._power):
            values.forget()
        self._pulses = []
        self._counter.modulus = None  # silent, the chip may have been without supply: a lower count is no wrap then

    async def measure(self, reading):
        """Take the frames that have come since the last reading."""
        for values in (self._v, self._i, self._p):
            values.restart()
        self._frames = self._faulty = 0
        noise = await self._listen()
        now = self._time.ticks_ms()
        if not self._frames:
            self._forget()
            if self._faulty:
                raise BusError("the chip reports a fault, state %02X" % self._faulty)
            silent = self._time.ticks_diff(now, self._heard)
            text = "no frame in %d ms%s" % (silent, ", but noise" if noise else "")
            raise Unusable(text, r.STALE) if silent < _SILENT_MS else BusError(text)
        self._heard = now
        if len(self._pulses) < 3:
            raise Unusable("too few frames", r.STALE)
        self._fill(reading)
        self._count(reading, now)

    async def _listen(self):
        """Feed all that was received; returns how many bytes."""
        line, stream = self._line, self._stream
        size = 0
        data = await line.receive(SIZE, _FIRST_MS)
        while data:
            size += len(data)
            stream.feed(data, self._take)
            data = line.read(CHUNK)
        self.errors += stream.lost
        stream.lost = 0
        return size

    def _take(self, frame):
        """Account a frame; one with other coefficients than the frames before is noise in spite of its checksum."""
        if frame[0] >= _FAULTY:
            self._faulty = frame[0]
            return
        low = trouble(frame[0])
        coefficients, u_cycle, i_cycle, p_cycle, adj, pulses = decode(frame)
        if low & _BAD_MEMORY:
            coefficients = _TYPICAL
        if coefficients != self._coefficients:
            known, self._candidate = coefficients == self._candidate, coefficients
            if not known:
                return
            self._coefficients = coefficients
        u, i, p = coefficients
        self._frames += 1
        self._trouble = low
        if low & _NO_VOLTAGE:
            self._v.add(0.0)
        elif adj & _VOLTAGE_WHOLE and u_cycle:
            self._v.add(u / u_cycle)
        if low & (_NO_LOAD | _NO_CURRENT):
            self._i.add(0.0)
        elif adj & _CURRENT_WHOLE and i_cycle:
            self._i.add(i / i_cycle)
        watts = self._power.watts(low & _NO_LOAD, adj & _POWER_WHOLE, p, p_cycle, pulses)
        if watts is not None:
            self._p.add(watts)
        self._pulses = self._pulses[-2:] + [pulses]
        self.fingerprint = None if low & _NO_VOLTAGE else bytes(frame[5:23])

    def _fill(self, reading):
        flat = reading.at[0]
        for name, values, per_unit in (
            ("voltage", self._v, self._mv_per_v),
            ("current", self._i, self._mv_per_a),
            ("power", self._p, self._mv_per_v * self._mv_per_a),
        ):
            value = values.value()
            if value is None:
                reading.spoil(0, name, r.IMPLAUSIBLE if values.wild else r.STALE)
            else:
                flat[name] = value / per_unit
        reading.flags = tuple([name for bit, name in _FLAGS if self._trouble & bit])

    def _count(self, reading, now):
        ms = self._time.ticks_diff(now, self._counted)
        uj = int(self._coefficients[2] / (self._mv_per_v * self._mv_per_a))
        most = self._limit_w * 1000 * (ms + 1000)
        count = sorted(self._pulses)[1]
        pulses = self._counter.step(count)
        if pulses * uj > most:
            # A chip that began anew from the upper half of the range looks like one that wrapped.
            pulses = count if count * uj <= most else 0
            self._counter.resets += 1
        self._counter.modulus = _PULSES
        self._counted = now
        reading.metered = r.IN_TOTAL
        reading.energy[0] = pulses * uj
        reading.energy_step = uj
