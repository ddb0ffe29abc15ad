"""Node time, and the conversions of the ADC, which take some of it.

Node time runs at the bench's rate, and its ticks start at the VM's own: asyncio's task queue,
which is C, uses those and must not be ahead. While the ADC is being read, time stands at the
conversion made last: the VM converts faster than the chip, so it sleeps off what it is ahead; and
where it is slower (a busy host, a high rate) the samples stay equidistant all the same, and time
jumps to the present when the burst ends.

Where the bench gives no rate, the node itself steps time: it stands still but for conversions,
requests to the bench and sleep, and a look at the clock takes a microsecond, so that who waits
for a time sees it come.
"""

# ruff: noqa: I001

import utime
from array import array
from micropython import const
from struct import unpack_from

import _bus

_nat = utime.ticks_us
_diff = utime.ticks_diff
_add = utime.ticks_add
_nap = utime.sleep_us
_MASK = _add(0, -1)  # the period of the ticks, less one
_LOW = const(0x3FFFFFFF)

_CHUNK = const(50000)  # us of real time between two looks at the bus
_AHEAD = const(2000)  # us of real time that conversions may be ahead
_BEHIND = const(1000000)  # us of real time that they may be behind
_PAUSE = const(100000)  # us of real time without a new block that end a burst
_BLOCK = const(3072)  # samples
_SLOTS = const(512)  # the most conversions in a block
_SHORT = const(16)  # conversions in the first block of a burst: a single reading needs no more
_UNREAD = const(0xFFFF)  # in place of a channel that was not expected to be converted in that slot
_REQUEST = const(50)  # us of stepped time that a request takes
_HEAD_START_MS = const(86400000)  # of the VM's own ticks, which asyncio gives to tasks that are to run at once

# node time at the native tick _n0
_n0 = _nat()
_us = _n0
_ms = utime.ticks_ms()
_us_rest = 0
_sec = 0
_sec_rest = 0
_rate = 1
_limit = 0  # us of real time over which _us may be extrapolated
_looked = _n0  # native tick of the last look at the bus
_next_rate = 0
_next_at = 0
_stepped = False
_steps = 0  # us

# the burst: interleaved samples in _block from _p to _end, the first taken at the tick _t0. A
# program that reads several channels does so in turns; once their order is known (_orders, by the
# channel that comes first) the bench converts no other. To learn it, _end leaves one slot at a
# time of those up to _filled_to.
_burst = False
_t0 = 0
_t0_ns = 0
_filled = 0  # native tick of the last block
_conversion = 0  # ns
_channels = []
_step = 1
_p = 0
_end = 0
_filled_to = 0
_seen = []
_orders = None
_block = array("H", bytes(2 * _BLOCK))
_full = None
_short = None


def _advance(real):
    global _n0, _us, _ms, _us_rest, _sec, _sec_rest
    node = real * _rate
    _n0 = _add(_n0, real)
    _us = (_us + node) & _MASK
    rest = _us_rest + node
    _ms = (_ms + rest // 1000) & _MASK
    _us_rest = rest % 1000
    rest = _sec_rest + node
    _sec += rest // 1000000
    _sec_rest = rest % 1000000


def sync():
    """Bring the reference point of node time to the present."""
    global _rate, _next_rate, _limit
    real = _diff(_nat(), _n0)
    if _next_rate:
        wait = (_next_at - _n0) & _LOW
        if wait > _LOW >> 1:
            wait = 0  # it began before we heard of it
        if real >= wait:
            _advance(wait)
            real -= wait
            _rate = _next_rate
            _next_rate = 0
            _limit = _CHUNK
    _advance(real)


def start(data):
    """Take over rate, time of day and conversion time from the bench's greeting."""
    global _sec, _sec_rest, _rate, _conversion, _n0, _us, _ms, _limit
    at, _rate, _sec, _sec_rest, _conversion = unpack_from("<2iI2i", data)
    _ms = utime.ticks_ms()
    _limit = _CHUNK
    _bus.on_clock = _fetch_rate
    _bus.before = _before
    if _rate:
        now = _nat()
        _n0 = _us = _add(now, -((now - at) & _LOW))
    else:
        _step_by_itself()
    sync()


def _step_by_itself():
    # in place of the native clock: one that only the node moves
    global _nat, _nap, _n0, _us, _ms, _rate, _looked, _stepped
    _nat, _nap = _step, _pass
    _n0 = _us = _looked = _steps
    _ms = _add(_ms, _HEAD_START_MS)
    _rate = 1
    _stepped = True
    _bus.tick = lambda: _steps & _LOW


def _step():
    global _steps
    _steps = (_steps + 1) & _MASK
    return _steps


def _pass(us):
    global _steps
    _steps = (_steps + us) & _MASK


def _before():
    # a request to the bench, which takes its time, ends a burst
    leave()
    if _stepped:
        _pass(_REQUEST)


def _fetch_rate():
    global _next_rate, _next_at, _limit
    data = _bus.transfer(5, 0, 0, 0, None, None)
    sync()
    _next_at, _next_rate = unpack_from("<2i", data)
    _limit = 0
    sync()


def look():
    """Let the bench be heard now and then, however busy the program is."""
    global _looked
    if _diff(_n0, _looked) >= _CHUNK:
        _looked = _n0
        _bus.call(4)
        sync()


def _present():
    # ticks in us, also within a burst; _us is at most some microseconds old
    if _burst:
        if _diff(_nat(), _filled) < _PAUSE:
            return _add(_t0, (_p // _step * _conversion + _t0_ns) // 1000)
        leave()
    sync()
    look()
    return _us


def ticks_us():
    if not _burst:
        real = _diff(_nat(), _n0)
        if 0 <= real < _limit:
            return _add(_us, real * _rate)
    return _present()


def ticks_ms():
    if not _burst:
        real = _diff(_nat(), _n0)
        if 0 <= real < _limit:
            return _add(_ms, (_us_rest + real * _rate) // 1000)
    ahead = _diff(_present(), _us)
    return _add(_ms, (_us_rest + ahead) // 1000)


def seconds():
    """Seconds since 2000-01-01."""
    ahead = _diff(_present(), _us)
    return _sec + (_sec_rest + ahead) // 1000000


def microseconds():
    """Microseconds within the second that `seconds` has just returned."""
    return (_sec_rest + _diff(_present(), _us)) % 1000000


def set_seconds(value, us=0):
    """Set the time of day; the bench keeps it through a reset."""
    global _sec, _sec_rest
    _bus.call(52, value, us)
    sync()
    _sec = value
    _sec_rest = us


def nap(left, wait):
    """Wait up to `left` node us (None: without end), one chunk of real time at most.

    `wait(ms)` waits real milliseconds for an event and returns what it found. Returns that, or
    else the us that are left.
    """
    sync()
    begin = _us
    real = _CHUNK if left is None else left // _rate
    if _stepped:
        found = wait(0)
        if not found:
            _pass(min(real, _CHUNK))
    elif real >= 1000:
        found = wait(min(real, _CHUNK) // 1000)
    else:
        _nap(real)
        found = wait(0)
    if found:
        return found
    sync()
    look()
    return left if left is None else left - _diff(_us, begin)


def sleep_us(us):
    leave()
    while us > 0:
        us = nap(us, utime.sleep_ms)


def sleep_ms(ms):
    while ms > 500000:
        sleep_us(500000000)
        ms -= 500000
    sleep_us(ms * 1000)


def leave():
    """End a burst: sleep off what is ahead of the present, or catch up with it."""
    global _burst, _p, _end, _filled_to
    if not _burst:
        return
    end = _add(_t0, (_p // _step * _conversion + _t0_ns) // 1000)
    _burst = False
    _p = _end = _filled_to = 0
    _seen.clear()
    while True:
        sync()
        ahead = _diff(end, _us) // _rate
        if ahead <= 0:
            break
        _nap(min(ahead, _CHUNK))


def _fill(column):
    global _burst, _t0, _t0_ns, _filled, _filled_to, _p, _end
    if _p < _filled_to:
        _learn(column)
        return
    if _burst:
        spent = _p // _step * _conversion + _t0_ns
        _t0 = _add(_t0, spent // 1000)
        _t0_ns = spent % 1000
        _p = _end = 0
        while True:
            sync()
            ahead = _diff(_t0, _us) // _rate
            if ahead < _AHEAD:
                break
            _nap(min(ahead - _AHEAD // 2, _CHUNK))
        if ahead < -_BEHIND:
            _t0 = _us
        into = _full
    else:
        sync()
        _t0 = _us
        _t0_ns = 0
        _burst = True
        into = _short
    order = _orders.get(column) if _orders else None
    _bus.transfer(21, len(into) // _step, _t0_ns, _t0 & _LOW, order, into)
    _filled = _nat()
    if _bus.flags:
        _bus.attend()
    _end = _filled_to = len(into)
    if _orders is None:
        _seen.append(column)
        _end = _step


def _learn(column):
    # the order of the channels from one slot after the other
    global _end, _orders, _filled_to
    _seen.append(column)
    if len(_seen) < 4 * len(_channels):
        _end = _p + _step
        return
    _orders = {}
    for turn in range(2, len(_channels) + 1):
        if _seen[turn:] == _seen[:-turn]:
            order = bytes(_seen[:turn])
            for k in range(turn):
                _orders[order[k]] = order[k:] + order[:k]
            _filled_to = _p  # and the next block is one in that order
            break
    _seen.clear()
    _end = _filled_to


def _unexpected(p, column):
    # a channel out of turn: what was converted from here on is of no use
    global _p, _orders, _filled_to
    _p = _filled_to = p
    _orders = None
    _seen.clear()
    _fill(column)
    _p = _step
    return _block[column]


def _channel(pin, atten, millivolts):
    # the place of a channel in the block; a new one changes the block's form
    global _step, _full, _short, _orders
    leave()
    key = bytes((pin, atten, millivolts))
    if key not in _channels:
        _channels.append(key)
        _bus.call(20, out=b"".join(_channels))
        _step = len(_channels)
        _full = memoryview(_block)[: min(_BLOCK // _step, _SLOTS) * _step]
        _short = memoryview(_block)[: _SHORT * _step]
        _orders = None if _step > 1 else {}
    return _channels.index(key)


class ADC:
    ATTN_0DB = 0
    ATTN_2_5DB = 1
    ATTN_6DB = 2
    ATTN_11DB = 3
    WIDTH_9BIT = 9
    WIDTH_10BIT = 10
    WIDTH_11BIT = 11
    WIDTH_12BIT = 12

    def __init__(self, pin, *, atten=0, sample_ns=None):
        pin = int(pin) if isinstance(pin, int) else pin.id
        if pin not in (32, 33, 34, 35, 36, 37, 38, 39, 0, 2, 4, 12, 13, 14, 15, 25, 26, 27):
            raise ValueError("invalid pin")
        self._pin = pin
        self._shift = 0
        self.atten(atten)

    def init(self, *, atten=0):
        self.atten(atten)

    def atten(self, atten):
        self._atten = atten
        self._o = _channel(self._pin, atten, 0)
        self._mv = None

    def width(self, bits):
        self._shift = 12 - bits

    def read(self):
        global _p
        if _p >= _end:
            _fill(self._o)
        p = _p
        _p = p + _step
        counts = _block[p + self._o]
        if counts == _UNREAD:
            counts = _unexpected(p, self._o)
        return counts >> self._shift

    def read_u16(self):
        raw = self.read() << self._shift
        return raw << 4 | raw >> 8

    def read_uv(self):
        global _p
        if self._mv is None:
            self._mv = _channel(self._pin, self._atten, 1)
        if _p >= _end:
            _fill(self._mv)
        p = _p
        _p = p + _step
        millivolts = _block[p + self._mv]
        if millivolts == _UNREAD:
            millivolts = _unexpected(p, self._mv)
        return millivolts * 1000
