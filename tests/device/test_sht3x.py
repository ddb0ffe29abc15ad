"""SHT3x codec and driver. Values: SHT3x-DIS datasheet, version 5."""

import asyncio

from gridnode.meters import sht3x
from gridnode.meters.polled import BusError

SPEC = {"id": "air", "i2c": {"id": 0, "scl": 22, "sda": 21, "address": 68}}
GOOD = b"\x66\x66\x93\x80\x00\xa2"  # 25 degC, 50 %


class Sensor:
    """The sensor, its bus, the machine and the time: just enough to be asked and to fail."""

    def __init__(self):
        self.sent = []
        self.data = GOOD
        self.status = 0x8010
        self.present = True
        self.ms = 0

    def I2C(self, number, scl, sda, freq, timeout):
        assert (number, scl, sda, freq) == (0, 22, 21, 100000)
        return self

    def Pin(self, number):
        return number

    def writeto(self, address, data):
        self._answer(address)
        self.sent.append(bytes(data))
        if data == b"\x30\x41":
            self.status &= 0x7BF0 & ~0x0010

    def readfrom(self, address, n):
        self._answer(address)
        if self.sent[-1] == b"\xf3\x2d":
            word = bytes((self.status >> 8, self.status & 0xFF))
            return word + bytes((sht3x.crc8(word),))
        assert self.sent[-1] == b"\x24\x00" and n == 6
        return self.data

    def _answer(self, address):
        assert address == 0x44
        if not self.present:
            raise OSError(19)

    def ticks_ms(self):
        self.ms += 1
        return self.ms

    def ticks_diff(self, a, b):
        return a - b


def running():
    sensor = Sensor()
    meter = sht3x.Meter(SPEC, {}, sensor, sensor)
    assert meter.start(None) == () and not sensor.sent
    return sensor, meter


def block(meter):
    return asyncio.run(meter.block())


def test_crc_of_the_datasheet():
    assert sht3x.crc8(b"\xbe\xef") == 0x92


def test_numbers():
    assert sht3x.words(GOOD) == [0x6666, 0x8000]
    assert abs(sht3x.celsius(0x6666) - 25) < 1e-3 and abs(sht3x.percent(0x8000) - 50) < 1e-2
    assert sht3x.percent(0) == 0 and sht3x.percent(0xFFFF) == 100
    assert abs(sht3x.celsius(1873) + 40) < 3e-3 and abs(sht3x.celsius(63662) - 125) < 3e-3


def test_every_flipped_bit_is_seen():
    for bit in range(48):
        data = bytearray(GOOD)
        data[bit // 8] ^= 1 << bit % 8
        try:
            sht3x.words(data)
            assert 0, bit
        except BusError:
            pass


def test_a_block():
    sensor, meter = running()
    x = block(meter)
    assert sensor.sent == [b"\x30\xa2", b"\x30\x41", b"\xf3\x2d", b"\x24\x00", b"\xf3\x2d"], sensor.sent
    assert not x.quality and abs(x.at[0]["temperature"] - 25) < 1e-3 and abs(x.at[0]["humidity"] - 50) < 1e-2
    sensor.sent = []
    block(meter)
    assert sensor.sent == [b"\x24\x00", b"\xf3\x2d"]


def test_what_is_no_answer_is_a_bus_fault():
    for data in (b"\xff" * 6, bytes(6), GOOD[:5] + b"\xa3", b"\x66\x66\x93\xff\xff\xff"):
        sensor, meter = running()
        sensor.data = data
        x = block(meter)
        assert x.quality == {"temperature": "bus_fault", "humidity": "bus_fault"}, x.quality
        assert x.at[0]["temperature"] is None and x.at[0]["humidity"] is None and "crc" in meter.problem


def test_extremes_with_a_valid_crc_are_implausible():
    for word in (b"\x00\x00\x81", b"\xff\xff\xac"):
        sensor, meter = running()
        sensor.data = word + GOOD[3:]
        x = block(meter)
        assert x.quality == {"temperature": "implausible", "humidity": "implausible"}, x.quality
        assert x.at[0]["humidity"] is None and "cannot be" in meter.problem  # -45 and 130 degC
    sensor, meter = running()
    sensor.data = GOOD[:3] + b"\xff\xff\xac"  # dew
    assert block(meter).at[0]["humidity"] == 100


def test_unplugged_and_plugged_in_again():
    sensor, meter = running()
    block(meter)
    sensor.present = False
    for _ in range(3):
        assert block(meter).quality["humidity"] == "bus_fault"
    sensor.present, sensor.status, sensor.sent = True, 0x8010, []
    x = block(meter)
    assert not x.quality and sensor.sent[0] == b"\x30\xa2", (x.quality, sensor.sent)


def test_a_reset_or_a_heater_in_between_is_seen():
    for status in (0x0010, 0x2000, 0x0002):
        sensor, meter = running()
        block(meter)
        sensor.status = status
        assert block(meter).quality["temperature"] == "bus_fault" and "status" in meter.problem
        sensor.status = 0x0010
        assert not block(meter).quality


def test_a_stuck_value_is_stale():
    sensor, meter = running()
    meter.stuck_after = 3
    assert [block(meter).quality.get("humidity") for _ in range(4)] == [None, None, None, "stale"]
    sensor.data = GOOD[3:] + GOOD[3:]
    assert not block(meter).quality
