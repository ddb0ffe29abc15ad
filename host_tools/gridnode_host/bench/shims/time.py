"""`time` as on the ESP32: seconds since 2000 as an integer, in node time."""

# ruff: noqa: I001, F401

import utime
from utime import ticks_add, ticks_diff

import _clock
from _clock import seconds as time
from _clock import sleep_ms, sleep_us, ticks_ms, ticks_us

_EPOCH = 946684800

ticks_cpu = ticks_us


def sleep(seconds):
    if seconds < 500:
        sleep_us(int(seconds * 1000000))
    else:
        sleep_ms(int(seconds * 1000))


def time_ns():
    return time() * 1000000000 + _clock.microseconds() * 1000


def gmtime(seconds=None):
    return utime.gmtime((time() if seconds is None else int(seconds)) + _EPOCH)[:8]


localtime = gmtime


def mktime(date):
    return int(utime.mktime(tuple(date)[:8])) - _EPOCH
