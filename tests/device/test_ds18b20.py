"""DS18B20 codec and driver. Values: DS18B20 datasheet; CRC: Maxim application note 27."""

import asyncio
import sys

from gridnode.meters import ds18b20
from gridnode.meters.polled import BusError, Unusable

SPEC = {"id": "terminal", "onewire": {"pin": 27}}
ROM = b"\x28\xff\x64\x1e\x0f\x16\x03"
POWER_ON = b"\x50\x05\x4b\x46\x7f\xff\x0c\x10\x1c"


def sealed(data):
    return data + bytes((ds18b20.crc8(data),))


def scratchpad(sixteenths, mark=b"\x7f\x80"):
    value = sixteenths & 0xFFFF
    return sealed(bytes((value & 0xFF, value >> 8)) + mark + b"\x7f\xff\x0c\x10")


ROMS = [sealed(ROM), sealed(ROM[:6] + b"\x04")]


class Wire:
    """Sensors on a wire, as module `onewire` shows them; also the machine, the time and asyncio's sleep."""

    def __init__(self, roms):
        self.roms = roms
        self.present = True
        self.parasite = False
        self.scratchpads = {rom: bytearray(POWER_ON) for rom in roms}
        self.sixteenths = 25 * 16 + 1
        self.commands = []
        self.ms = 0

    def Pin(self, number):
        assert number == 27
        return self

    def OneWire(self, pin):
        return self

    def reset(self, required=False):
        self._selected = None
        self._out = b""
        return self.present and bool(self.roms)

    def scan(self):
        return [bytearray(rom) for rom in self.roms] if self.present else []

    def write(self, data):
        assert data[0] == 0x55
        self._selected, data = bytes(data[1:9]), data[9:]
        self.commands.append(data[0])
        memory = self.scratchpads.get(self._selected)
        if not self.present or memory is None:
            return
        if data[0] == 0x4E:
            memory[2:5] = data[1:4]
            memory[8] = ds18b20.crc8(memory[:8])
        elif data[0] == 0x44:
            memory[:] = scratchpad(self.sixteenths, bytes(memory[2:4]))
        elif data[0] == 0xBE:
            self._out = bytes(memory)
        elif data[0] == 0xB4:
            self._out = b"\x00" if self.parasite else b"\xff"

    def readbyte(self):
        value, self._out = (self._out or b"\xff")[0], self._out[1:]
        return value

    async def sleep_ms(self, ms):
        self.ms += ms

    def ticks_ms(self):
        self.ms += 1
        return self.ms

    def ticks_diff(self, a, b):
        return a - b


def running(roms=ROMS[:1], **entry):
    wire = Wire(roms)
    sys.modules["onewire"] = ds18b20.asyncio = wire
    meter = ds18b20.Meter({"id": "terminal", "onewire": dict(SPEC["onewire"], **entry)}, {}, wire, wire)
    assert meter.start(None) == () and not wire.commands
    return wire, meter


def block(meter):
    return asyncio.run(meter.block())


def refused(data):
    try:
        return ds18b20.celsius(data)
    except BusError as e:
        return str(e)


def test_crc_of_the_application_note():
    assert ds18b20.crc8(b"\x02\x1c\xb8\x01\x00\x00\x00") == 0xA2
    assert ds18b20.crc8(POWER_ON) == 0


def test_temperatures_of_the_datasheet():
    for word, value in ((0x07D0, 125), (0x0550, 85), (0x0191, 25.0625), (0x00A2, 10.125), (0x0008, 0.5), (0, 0)):
        assert ds18b20.celsius(scratchpad(word)) == value
    for word, value in ((0xFFF8, -0.5), (0xFF5E, -10.125), (0xFE6F, -25.0625), (0xFC90, -55)):
        assert ds18b20.celsius(scratchpad(word)) == value


def test_what_is_no_temperature():
    assert refused(bytes(9)) == "no scratchpad" and refused(b"\xff" * 9) == "crc"
    assert "without supply" in refused(POWER_ON)
    for degrees in (126, -56):
        try:
            ds18b20.celsius(scratchpad(16 * degrees))
            assert 0
        except Unusable as e:
            assert "%d.0 degC" % degrees in e.args[0]
    good = scratchpad(401)
    for bit in range(72):
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        assert refused(data) == "crc", bit


def test_addresses():
    assert ds18b20.address("".join(["%02x" % b for b in ROMS[0]])) == ROMS[0]
    for text in ("28ff641e0f160300", "10" + "00" * 7, "zz" + "00" * 7):
        try:
            ds18b20.address(text)
            assert 0, text
        except ValueError:
            pass


def test_a_block_of_the_only_sensor():
    wire, meter = running()
    x = block(meter)
    assert not x.quality and x.at[0]["temperature"] == 25.0625, (x.quality, meter.problem)
    assert wire.commands == [0xB4, 0x4E, 0x44, 0xBE] and 750 <= x.ms < 800
    wire.sixteenths = 85 * 16  # a true 85 degC is one
    assert block(meter).at[0]["temperature"] == 85


def test_one_of_several():
    wire, meter = running(ROMS, rom="".join(["%02x" % b for b in ROMS[1]]))
    assert block(meter).at[0]["temperature"] == 25.0625
    assert wire.scratchpads[ROMS[0]] == POWER_ON
    wire, meter = running(ROMS)
    assert block(meter).quality == {"temperature": "bus_fault"} and "2 sensors" in meter.problem
    wire, meter = running([])
    assert block(meter).quality == {"temperature": "bus_fault"} and "no sensor" in meter.problem


def test_unplugged_and_plugged_in_again():
    wire, meter = running()
    block(meter)
    wire.present = False
    for _ in range(2):
        assert block(meter).quality == {"temperature": "bus_fault"}
    wire.present = True
    wire.scratchpads[ROMS[0]][:] = POWER_ON
    assert block(meter).at[0]["temperature"] == 25.0625


def test_a_lost_supply_during_the_conversion_gives_no_85_degrees():
    wire, meter = running()
    block(meter)
    wire.write = lambda data, write=wire.write: write(data) if data[9] != 0x44 else None
    wire.scratchpads[ROMS[0]][:] = POWER_ON
    assert block(meter).quality == {"temperature": "bus_fault"} and "without supply" in meter.problem


def test_out_of_its_range_is_implausible():
    wire, meter = running()
    wire.sixteenths = 2047
    assert block(meter).quality == {"temperature": "implausible"}


def test_parasite_supply_is_refused():
    wire, meter = running()
    wire.parasite = True
    assert block(meter).quality == {"temperature": "bus_fault"} and "parasite" in meter.problem


def test_an_image_without_onewire_is_refused_at_start():
    wire, meter = running()
    other = ds18b20.Meter(SPEC, {}, wire, wire)
    sys.modules["onewire"] = None
    del sys.modules["onewire"]
    path = list(sys.path)
    sys.path[:] = []
    try:
        other.start(None)
        assert 0
    except ValueError as e:
        assert "onewire" in str(e)
    finally:
        sys.path[:] = path
