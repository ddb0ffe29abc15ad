"""`machine` of an ESP32; each bus transaction is carried to the bench.

Of all shims: what no program on the bench uses is left out, since its names would lie on the node's heap.
"""

# ruff: noqa: I001, F401, RET503

import io
from struct import pack

from umachine import Signal

import _bus
import _clock
from _bus import call as _call
from _clock import ADC
from _clock import sleep_ms as lightsleep

PWRON_RESET = 1
HARD_RESET = 2
WDT_RESET = 3
DEEPSLEEP_RESET = 4
SOFT_RESET = 5

_cause = 0  # set at start
_id = b""
_frequency = 160000000


def reset_cause():
    return _cause


def unique_id():
    return _id


def freq(hz=None):
    global _frequency
    if hz is None:
        return _frequency
    if hz not in (20000000, 40000000, 80000000, 160000000, 240000000):
        raise ValueError("frequency must be 20MHz, 40MHz, 80Mhz, 160MHz or 240MHz")
    _frequency = hz


def reset():
    _call(6, 2)


def soft_reset():
    _call(6, 5)


def deepsleep(ms=0):
    _call(6, 4, ms)


def idle():
    _clock.sleep_us(1)


def _number(pin):
    return pin if isinstance(pin, int) else pin.id


class Pin:
    IN = 1
    OUT = 3
    OPEN_DRAIN = 7
    PULL_DOWN = 1
    PULL_UP = 2
    IRQ_RISING = 1
    IRQ_FALLING = 2
    DRIVE_0 = 0
    DRIVE_1 = 1
    DRIVE_2 = 2
    DRIVE_3 = 3

    def __init__(self, id, mode=-1, pull=-1, *, value=None, drive=None, hold=None):
        self.id = _number(id)
        if not 0 <= self.id <= 39:
            raise ValueError("invalid pin")
        self._out = False
        self.init(mode, pull, value=value)

    def init(self, mode=-1, pull=-1, *, value=None, drive=None, hold=None):
        if mode != -1:
            if self.id >= 34 and mode != 1:
                raise ValueError("pin can only be input")
            self._out = mode != 1
        self._pull = 1 if pull == 2 else 0
        if value is not None:
            self.value(value)

    def value(self, level=None):
        if level is None:
            return _call(31, self.id, self._pull)
        _call(30, self.id, 1 if level else 0, 1 if self._out else 0)

    __call__ = value

    def on(self):
        self.value(1)

    def off(self):
        self.value(0)

    def __repr__(self):
        return "Pin({})".format(self.id)


class SPI:
    MSB = 0
    LSB = 1

    def __init__(self, id, baudrate=1000000, **settings):
        self._id = id
        self.init(baudrate, **settings)

    def init(
        self,
        baudrate=1000000,
        *,
        polarity=0,
        phase=0,
        bits=8,
        firstbit=0,
        sck=None,
        mosi=None,
        miso=None,
    ):
        if self._id not in (1, 2):
            raise ValueError("SPI({}) doesn't exist".format(self._id))
        _call(32, self._id, baudrate, polarity | phase << 1 | firstbit << 2 | bits << 8)

    def deinit(self):
        pass

    def write(self, data):
        self._transfer(data)

    def read(self, n, write=0):
        return self._transfer(bytes((write,)) * n)

    def readinto(self, data, write=0):
        _call(33, self._id, 0, 0, bytes((write,)) * len(data), data)

    def write_readinto(self, data, into):
        if len(data) != len(into):
            raise ValueError("buffers must be the same length")
        _call(33, self._id, 0, 0, _plain(data), into)

    def _transfer(self, data):
        return _call(33, self._id, 0, 0, _plain(data)) or b""


def _plain(data):
    # len() of an array counts elements, that of a string characters
    if isinstance(data, str):
        return data.encode()
    return data if isinstance(data, (bytes, bytearray)) else bytes(data)


class I2C:
    _pins = ((18, 19), (25, 26))

    def __init__(self, id=0, *, scl=None, sda=None, freq=400000, timeout=50000):
        if id not in (-1, 0, 1):
            raise ValueError("I2C({}) doesn't exist".format(id))
        self._id = max(id, 0)
        self._freq = freq
        self._timeout = timeout
        own = self._pins[self._id]
        scl = own[0] if scl is None else _number(scl)
        sda = own[1] if sda is None else _number(sda)
        for pin in (scl, sda):
            if pin >= 34:
                raise ValueError("invalid pin")
        _call(42, self._id, scl, sda)

    def _take(self, n):
        # address and data with their acknowledge bits, start and stop
        _clock.sleep_us((9 * n + 11) * 1000000 // self._freq)

    def scan(self):
        self._take(112)
        try:
            return list(_call(34, self._id) or b"")
        except OSError:
            return []

    def writeto(self, address, data, stop=True):
        self._take(len(data))
        _call(35, self._id, address, 0, _plain(data))
        return len(data)

    def writevto(self, address, parts, stop=True):
        return self.writeto(address, b"".join(parts), stop)

    def _read(self, address, n, into=None):
        self._take(n)
        left = self._timeout
        while n:
            data = _call(36, self._id, address, n, None, into)
            if not data or not isinstance(data, int):
                return data
            if data > left:
                import errno

                raise OSError(errno.ETIMEDOUT)
            _clock.sleep_us(data)  # the device stretches the clock
            left -= data
        return b""

    def readfrom(self, address, n, stop=True):
        return self._read(address, n)

    def readfrom_into(self, address, data, stop=True):
        self._read(address, len(data), data)

    def _point(self, address, register, bits):
        self.writeto(address, register.to_bytes(bits // 8, "big"), False)

    def readfrom_mem(self, address, register, n, *, addrsize=8):
        self._point(address, register, addrsize)
        return self.readfrom(address, n)

    def readfrom_mem_into(self, address, register, data, *, addrsize=8):
        self._point(address, register, addrsize)
        self.readfrom_into(address, data)

    def writeto_mem(self, address, register, data, *, addrsize=8):
        self.writeto(address, register.to_bytes(addrsize // 8, "big") + _plain(data))


SoftI2C = I2C


class UART(io.IOBase):
    INV_TX = 32
    INV_RX = 4

    def __init__(self, id, baudrate=115200, *plain, **settings):
        if id not in (0, 1, 2):
            raise ValueError("UART({}) does not exist".format(id))
        self._id = id
        # baudrate, bits, parity (0 none, 1 even, 2 odd), stop, tx, rx, timeout, timeout_char, txbuf, rxbuf
        tx, rx = ((1, 3), (10, 9), (17, 16))[id]
        self._is = [115200, 8, 0, 1, tx, rx, 0, 0, 256, 256]
        self.init(baudrate, *plain, **settings)

    def init(
        self,
        baudrate=0,
        bits=0,
        parity=-1,
        stop=0,
        *,
        tx=None,
        rx=None,
        timeout=-1,
        timeout_char=-1,
        txbuf=-1,
        rxbuf=-1,
        **other,
    ):
        if bits not in (0, 5, 6, 7, 8):
            raise ValueError("invalid data bits")
        if stop not in (0, 1, 2):
            raise ValueError("invalid stop bits")
        if 0 <= rxbuf <= 128 or 0 < txbuf <= 128:
            raise OSError(-1, "ESP_FAIL")  # not above the FIFO's size
        if tx is not None and _number(tx) >= 34:
            raise OSError(-1, "ESP_FAIL")  # a pin that can only be input
        if parity != -1:
            self._is[2] = 0 if parity is None else 2 if parity & 1 else 1
        new = (
            baudrate or -1,
            bits or -1,
            -1,
            stop or -1,
            -1 if tx is None else _number(tx),
            -1 if rx is None else _number(rx),
            timeout,
            timeout_char,
            txbuf,
            rxbuf,
        )
        self._is = [old if value == -1 else value for old, value in zip(self._is, new)]
        baudrate, bits, parity, stop, tx, rx, timeout, gap, txbuf, rxbuf = self._is
        self._gap = max(gap, 1 + 11000 * 2 // baudrate)
        _call(37, self._id, baudrate, rxbuf, pack("<6i", bits, parity, stop, txbuf, tx, rx))

    def deinit(self):
        pass

    def any(self):
        return _call(40, self._id)

    def txdone(self):
        return not _call(41, self._id)

    def flush(self):
        while True:
            left = _call(41, self._id)
            if not left:
                break
            _clock.sleep_us(left)

    def _read(self, n, line=False):
        data = b""
        limit = self._is[6] * 1000
        while True:
            part = _call(39, self._id, n - len(data), 1 if line else 0) or b""
            if part:
                data += part
                limit = self._gap * 1000
                if len(data) >= n or (line and data[-1] == 10):
                    break
            elif limit <= 0:
                break
            else:
                _clock.sleep_us(200)
                limit -= 200
        return data or None

    def read(self, n=-1):
        if n < 0:
            n = max(self.any(), 1)
        return self._read(n)

    def readline(self):
        return self._read(65535, True)

    def readinto(self, data, n=None):
        got = self._read(len(data) if n is None else n)
        if got:
            data[: len(got)] = got
            return len(got)
        return None

    def write(self, data):
        full = _call(38, self._id, 0, 0, _plain(data))
        if full:
            _clock.sleep_us(full)
        return len(data)

    def ioctl(self, op, arg):
        if op == 3:  # poll: always room to write
            return arg & (4 | (1 if self.any() else 0))
        return -22  # EINVAL: it has no file descriptor, for one


class WDT:
    def __init__(self, id=0, timeout=5000):
        if timeout <= 0:
            raise ValueError("WDT timeout must be greater than 0")
        _call(50, timeout)

    def feed(self):
        _call(51)


class RTC:
    def __init__(self):
        pass

    def datetime(self, date=None):
        import time

        if date is None:
            t = time.gmtime()
            return (t[0], t[1], t[2], t[6], t[3], t[4], t[5], _clock.microseconds())
        year, month, day, _, hour, minute, second, us = date
        _clock.set_seconds(time.mktime((year, month, day, hour, minute, second, 0, 0)), us)

    def init(self, date):
        self.datetime(date)

    def memory(self, data=None):
        if data is None:
            return _call(53) or b""
        if len(data) > 2048:
            raise ValueError("buffer too long")
        _call(54, out=_plain(data))
