"""On-chip temperature: both kinds of chips, and one without a sensor."""

import asyncio
import sys

from gridnode import health
from gridnode.meters import mcu


class Time:
    def ticks_ms(self):
        return 0

    def ticks_diff(self, a, b):
        return a - b


class Esp32:
    def raw_temperature(self):
        return 122  # degF


class Esp32C3:
    def mcu_temperature(self):
        return 41


class Bare:
    pass


def block(chip):
    before = sys.modules.get("esp32")
    sys.modules["esp32"] = chip
    try:
        return asyncio.run(mcu.Meter({"id": "board"}, {}, None, Time()).block())
    finally:
        if before:
            sys.modules["esp32"] = before
        else:
            del sys.modules["esp32"]


def test_both_kinds_of_chips():
    assert abs(block(Esp32()).at[0]["temperature"] - 50) < 1e-4
    assert block(Esp32C3()).at[0]["temperature"] == 41
    assert mcu.Meter.names == ("temperature",) and not mcu.Meter.counts_energy


def test_a_chip_without_a_sensor():
    x = block(Bare())
    assert x.quality == {"temperature": "bus_fault"} and x.at[0]["temperature"] is None


def test_the_node_reports_the_same_figure():
    sys.modules["esp32"] = Esp32()
    try:
        assert abs(health.celsius() - 50) < 1e-4
    finally:
        del sys.modules["esp32"]
