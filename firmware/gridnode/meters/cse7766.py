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

_U = const(2)  # of the coefficients; the cycles stand 3 behind
_I = const(8)
_P = const(14)
_CYCLE = const(3)
ENDLESS = const(0x1000000)  # longer than any cycle

_TYPICAL = const((191200, 16140, 5364000))  # of a chip without coefficients of its own (Tasmota)

_FLAGS = ((_NO_LOAD, "no_load"), (_NO_VOLTAGE, "no_voltage"), (_BAD_MEMORY, "uncalibrated"))

_FIRST_MS = const(300)  # to wait for a frame when none is there
_SILENT_MS = const(3000)


def is_frame(data, at=0):
    """Whether a frame with a right checksum begins at data[at]; its 24 bytes must be there."""
    state = data[at]
    if data[at + 1] != 0x5A or (state < 0xF0 and state not in (_GOOD, _NOT_CALIBRATED)):
        return False
    return sum(data[at + 2 : at + 23]) & 0xFF == data[at + 23]


def field(frame, at):
    """The three bytes at frame[at], high byte first."""
    return frame[at] << 16 | frame[at + 1] << 8 | frame[at + 2]


def pulses(frame):
    """Pulses so far, with the overflow bit as the 17th."""
    return (frame[20] & _OVERFLOW) << 9 | frame[21] << 8 | frame[22]


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
    A value comes as its cycle: that is an integer, and costs no memory.
    """

    def __init__(self, limit, squared=False):
        self.limit = limit
        self.squared = squared
        self.coefficient = 0
        self._three = array("i", (0, 0, 0))
        self.forget()

    def scale(self, coefficient):
        """Begin with this coefficient."""
        self.coefficient = coefficient
        self._least = coefficient / self.limit
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

    def take(self, cycle, whole, absent):
        """Take what a frame tells: its cycle if that is whole, 0 if it would take too long."""
        if absent:
            self.add(ENDLESS)
        elif whole and cycle:
            self.add(cycle)

    def add(self, cycle):
        """Take a value by its cycle in us; ENDLESS stands for a value of 0."""
        if cycle < self._least:
            self.wild += 1
            return
        three = self._three
        three[self._n % 3] = cycle
        self._n += 1
        if self._n >= 3:
            a, b, c = three
            middle = max(min(a, b), min(max(a, b), c))
            self._count += 1
            if middle != ENDLESS:
                value = self.coefficient / middle
                self._sum += value * value if self.squared else value

    def value(self):
        """The block's value, None without any."""
        if not self._count:
            return None
        mean = self._sum / self._count
        return math.sqrt(mean) if self.squared else mean


class Power:
    """Power by its cycles."""

    def __init__(self):
        self.floor = 0  # cycle of a power that cannot be told from none
        self.forget()

    def forget(self):
        """The next cycle is the first."""
        self._skip = ()
        self._whole = 0

    def cycle(self, no_load, whole, cycle, count):
        """The cycle that tells the power by one frame, None while none does. count: the pulses so far.

        The first cycle of a load began before it: the second counts. While a cycle is not whole its number rises: the
        last one stands until this one proves it wrong, then the power is less than this one tells.
        """
        if no_load:
            self.forget()
            return ENDLESS
        if not whole:
            if cycle <= self._whole:
                return self._whole
            return cycle if cycle > self.floor else None
        if self._skip is not None:
            mark = (cycle, count)
            if self._skip == ():
                self._skip = mark
            if self._skip == mark:
                return None
            self._skip = None
        self._whole = cycle
        return cycle or None


class Meter(Polled):
    """CSE7766 of one profile entry.

    Flags: `no_load` when the power is below the chip's range (P is 0, and so is I, which then is noise), `no_voltage`
    likewise, and `uncalibrated` when the chip has no coefficients of its own: values are then by typical ones, some
    percent off until the node's calibration puts them right.
    """

    names = ("voltage", "current", "power")
    period_ms = 500
    settle_ms = 300  # until there are frames for the first reading
    stuck_after = 40

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
        self._floor = 0.001 * nominal * rating * self._mv_per_v * self._mv_per_a
        self._power = Power()
        self._stream = Stream()
        self._newest = bytearray(SIZE)
        self._pulses = array("i", (0, 0, 0))  # of the last three frames
        self._counter = Counter(_PULSES)
        self._candidate = None  # coefficients of one frame, which another one may confirm
        self._frames = self._row = self._faulty = self._trouble = 0
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
        self._row = 0
        self._counter.modulus = None  # silent, the chip may have been without supply: a lower count is no wrap then

    async def measure(self, reading):
        """Take the frames that have come since the last reading."""
        self.settle_ms = 0
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
        if self._row < 3:
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
        if low & _BAD_MEMORY:
            u, i, p = _TYPICAL
        else:
            u, i, p = field(frame, _U), field(frame, _I), field(frame, _P)
        if not self._known(u, i, p):
            return
        self._frames += 1
        self._trouble = low
        adj = frame[20]
        self._v.take(field(frame, _U + _CYCLE), adj & _VOLTAGE_WHOLE, low & _NO_VOLTAGE)
        self._i.take(field(frame, _I + _CYCLE), adj & _CURRENT_WHOLE, low & (_NO_LOAD | _NO_CURRENT))
        count = pulses(frame)
        cycle = self._power.cycle(low & _NO_LOAD, adj & _POWER_WHOLE, field(frame, _P + _CYCLE), count)
        if cycle:
            self._p.add(cycle)
        self._pulses[self._row % 3] = count
        self._row += 1
        self._newest[:] = frame

    def _known(self, u, i, p):
        """Whether the coefficients are those of the frames before; others count when two frames in a row have them."""
        if u == self._v.coefficient and i == self._i.coefficient and p == self._p.coefficient:
            self._candidate = None
            return True
        before, self._candidate = self._candidate, (u, i, p)
        if before != self._candidate:
            return False
        self._v.scale(u)
        self._i.scale(i)
        self._p.scale(p)
        self._power.floor = p / self._floor
        return True

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
        self.fingerprint = None if self._trouble & _NO_VOLTAGE else bytes(self._newest)
        reading.flags = tuple([name for bit, name in _FLAGS if self._trouble & bit])

    def _count(self, reading, now):
        ms = self._time.ticks_diff(now, self._counted)
        uj = int(self._p.coefficient / (self._mv_per_v * self._mv_per_a))
        most = self._limit_w * 1000 * (ms + 1000)
        count = sorted(self._pulses)[1]
        steps = self._counter.step(count)
        if steps * uj > most:
            # A chip that began anew from the upper half of the range looks like one that wrapped.
            steps = count if count * uj <= most else 0
            self._counter.resets += 1
        self._counter.modulus = _PULSES
        self._counted = now
        reading.metered = r.IN_TOTAL
        reading.energy[0] = steps * uj
        reading.energy_step = uj
