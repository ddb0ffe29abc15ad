"""`machine` of an ESP32; each bus transaction is carried to the bench."""

# ruff: noqa: I001, F401, RET503

import io

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
PIN_WAKE = 2
EXT0_WAKE = 2
EXT1_WAKE = 3
TIMER_WAKE = 4

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


def wake_reason():
    return TIMER_WAKE if _cause == DEEPSLEEP_RESET else 0


def idle():
    _clock.sleep_us(1)


def disable_irq():
    return 0


def enable_irq(state):
    pass


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
    def __init__(self, id=0, *, scl=None, sda=None, freq=400000, timeout=50000):
        if id not in (-1, 0, 1):
            raise ValueError("I2C({}) doesn't exist".format(id))
        self._id = max(id, 0)

    def scan(self):
        return list(_call(34, self._id) or b"")

    def writeto(self, address, data, stop=True):
        _call(35, self._id, address, 0, _plain(data))
        return len(data)

    def writevto(self, address, parts, stop=True):
        return self.writeto(address, b"".join(parts), stop)

    def readfrom(self, address, n, stop=True):
        return _call(36, self._id, address, n) or b""

    def readfrom_into(self, address, data, stop=True):
        _call(36, self._id, address, len(data), None, data)

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

    def __init__(self, id, baudrate=115200, **settings):
        if id not in (0, 1, 2):
            raise ValueError("UART({}) doesn't exist".format(id))
        self._id = id
        self.init(baudrate, **settings)

    def init(
        self,
        baudrate=115200,
        bits=8,
        parity=None,
        stop=1,
        *,
        tx=None,
        rx=None,
        timeout=0,
        timeout_char=0,
        txbuf=256,
        rxbuf=256,
        **other,
    ):
        self._timeout = timeout
        self._gap = max(timeout_char, 1 + 11000 * 2 // baudrate)
        _call(37, self._id, baudrate, rxbuf)

    def deinit(self):
        pass

    def any(self):
        return _call(40, self._id)

    def txdone(self):
        return True

    def flush(self):
        pass

    def _read(self, n, line=False):
        data = b""
        limit = self._timeout * 1000
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
        _call(38, self._id, 0, 0, _plain(data))
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
