"""BL0942 codec, byte by byte, and the driver with a chip that misbehaves. Values: datasheet and application note."""

from fake_uart import Time, Uart, run
from gridnode.meters import bl0942 as bl
from gridnode.setup import bl0942 as setup

# The application note's board: 1 mohm and 5 x 390 kohm over 510 ohm.
SPEC = {
    "id": "main",
    "uart": {"id": 2, "tx": 17, "rx": 16, "baud": 4800},
    "voltage": [{"mv_per_v": 1000 * 510 / 1950510}],
    "current": [{"shunt_mohm": 1}],
}
PROFILE = {"nominal": {"voltage": 230, "frequency": 50}, "rating": {"current": 16}}

PACKET = b"\x58\xaa"
# 230 V, 10 A and 1150 W, 1234 pulses, 50 Hz
IMPORT = bytes.fromhex("5502552627be37000000 6ef00a d20400 204e00 000000 0d".replace(" ", ""))
EXPORT = bytes.fromhex("5502552627be37000000 920ff5 d20400 204e00 010000 de".replace(" ", ""))
NO_LOAD = bytes.fromhex("5500000027be37000000 000000 d20400 204e00 020100 ef".replace(" ", ""))
# of address 2: no supply, no load
DEAD = bytes.fromhex("55000000e80300000000 000000 d20400 204e00 020300 1c".replace(" ", ""))

RESET = {0x12: 0, 0x14: 0x0B, 0x17: 3, 0x18: 0x24, 0x19: 0x87, 0x1A: 2}
UJ = 672815300  # 1638.4 * 256 / 623.4 J: 0.18689 Wh


class Chip:
    """Registers and the packet, as the datasheet has them; `spoil(request, answer)` may change any answer.

    wild: number of a packet from now on -> values that it has instead.
    """

    def __init__(self, address=0):
        self.address = address
        self.spoil = None
        self.wild = {}
        self.heads = set()  # first bytes of the frames that came
        self.volts, self.amperes, self.watts, self.hertz = 230.0, 10.0, 1150.0, 50.0
        self.count = 1234
        self.noise = 0
        self.reset()

    def reset(self):
        self.registers = dict(RESET)
        self.open = False

    def hear(self, frame):
        self.heads.add(frame[0])
        answer = self._answer(frame)
        return self.spoil(frame, answer) if self.spoil else answer

    def _answer(self, frame):
        if frame[0] == 0xA8 | self.address and len(frame) == 6 and sum(frame) & 0xFF == 0xFF:
            value = frame[2] | frame[3] << 8 | frame[4] << 16
            if frame[1] == 0x1D:
                self.open = value == 0x55
            elif self.open:
                self.registers[frame[1]] = value
        elif frame == bytes((0x58 | self.address, 0xAA)):
            self.wild = {n - 1: values for n, values in self.wild.items()}
            return self.packet(**self.wild.get(0, {}))
        elif frame[0] == 0x58 | self.address:
            live = {0x07: self.count, 0x09: 1 if self.watts < 0 else 0}
            body = live.get(frame[1], self.registers.get(frame[1], 0)).to_bytes(3, "little")
            return body + bytes((~(sum(frame) + sum(body)) & 0xFF,))
        return b""

    def packet(self, **values):
        low = self.volts * 15883.3 < 0x7FFFF
        status = (2 if not self.watts else 0) | (0x200 if low else 0) | (1 if self.watts < 0 else 0)
        body = b"\x55"
        for value in (
            values.get("i", int(self.amperes * 251213)),
            values.get("v", int(self.volts * 15883.3) + self.noise),
            0,
            values.get("w", int(self.watts * 623.4)) & 0xFFFFFF,
            values.get("count", self.count) & 0xFFFFFF,
            values.get("f", int(1e6 / self.hertz)),
        ):
            body += value.to_bytes(3, "little")
        body += bytes((status & 0xFF, status >> 8, 0))
        return body + bytes((~((0x58 | self.address) + sum(body)) & 0xFF,))


class Rig:
    def __init__(self, profile=PROFILE, **spec):
        self.time = Time()
        self.chip = Chip(spec.get("address", 0))
        self.uart = Uart(self.time, self.chip)
        full = dict(SPEC)
        full.update(spec)
        self.meter = bl.Meter(full, profile, self.uart, self.time)
        assert self.meter.start(None) == ()

    def block(self, count=None):
        """The next reading; `count` pulses are added before it."""
        self.time.ms += 800
        self.chip.count = (self.chip.count + (count or 0)) & 0xFFFFFF
        self.chip.noise = (self.chip.noise + 1) % 4  # of the converters: the next window has other last digits
        return run(self.meter.block())

    def settle(self):
        """The readings until the first with values."""
        for n in range(6):
            x = self.block()
            if not x.quality:
                return x
            assert x.quality["voltage"] == "stale" or not n, x.quality
        raise AssertionError(x.quality)


def near(a, b, share=2e-4):
    return abs(a - b) <= share * abs(b)


def test_frames():
    assert bl.read_command(0, 0xAA) == PACKET and bl.read_command(2, 0x19) == b"\x5a\x19"
    assert bl.write_command(0, 0x1D, 0x55) == b"\xa8\x1d\x55\x00\x00\xe5"
    assert bl.write_command(0, 0x19, 0x0F) == b"\xa8\x19\x0f\x00\x00\x2f"
    assert bl.write_command(2, 0x1C, 0x5A5A5A) == b"\xaa\x1c\x5a\x5a\x5a\x2b"
    assert bl.register_value(b"\x58\x19", b"\x87\x00\x00\x07") == 0x87
    for wrong in (b"\x87\x00\x00\x08", b"\x87\x00\x00", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b""):
        assert bl.register_value(b"\x58\x19", wrong) is None, wrong
    assert bl.register_value(b"\x59\x19", b"\x87\x00\x00\x07") is None, "the answer of another chip"


def test_packets():
    assert bl.decode(IMPORT) == (2512130, 3653159, 716910, 1234, 20000, 0)
    assert bl.decode(EXPORT) == (2512130, 3653159, -716910, 1234, 20000, 1)
    assert bl.decode(NO_LOAD) == (0, 3653159, 0, 1234, 20000, 0x102)
    assert bl.decode(DEAD) == (0, 1000, 0, 1234, 20000, 0x302)
    for packet in (IMPORT, EXPORT, NO_LOAD):
        assert bl.find_packet(PACKET, packet) == packet
        assert bl.find_packet(b"\x59\xaa", packet) is None, "the answer of another chip"
    assert bl.find_packet(b"\x5a\xaa", DEAD) == DEAD


def test_a_packet_is_found_between_others_bytes():
    noise = b"\x55\x00\xaa\x55\x58\xaa"
    assert bl.find_packet(PACKET, noise + IMPORT + noise) == IMPORT
    assert bl.find_packet(PACKET, IMPORT[7:] + EXPORT) == EXPORT, "the rest of a late one before it"
    for k in range(23):
        assert bl.find_packet(PACKET, IMPORT[:k]) is None
        assert bl.find_packet(PACKET, IMPORT[:k] + bytes((IMPORT[k] ^ 0x10,)) + IMPORT[k + 1 :]) is None, k
    for dead in (b"", b"\x00" * 40, b"\xff" * 40, b"\x55" * 40):
        assert bl.find_packet(PACKET, dead) is None


def test_scales_follow_from_divider_and_shunt():
    per_v, per_a, per_w, uj = setup.scales(SPEC)
    assert near(per_v, 15883.3, 1e-5) and near(per_a, 251213, 1e-5) and near(per_w, 623.4, 1e-4)
    # 0.000186894 kWh per pulse
    assert near(uj, 0.186894 * 3600e6, 1e-4) and abs(uj - UJ) < 30000, uj
    volts, amperes = setup.ends(SPEC)
    assert near(volts, 270.4, 1e-3) and near(amperes, 29.7, 1e-3)


def test_the_counter_goes_both_ways():
    assert bl.counted(1234, 1240, 500) == 6
    assert bl.counted(1240, 1234, -500) == -6
    assert bl.counted(0xFFFFFE, 3, 500) == 5, "a wrap"
    assert bl.counted(2, 0xFFFFFF, -500) == -3, "below zero"
    assert bl.counted(1234, 7, 500) == 7, "it began anew at zero"
    assert bl.counted(0xFFFF00, 0xFFFFFE, -500) == -2
    assert bl.counted(1234, 1233, 500) == -1, "the last pulse of the export before"
    assert bl.counted(1234, 1200, 0) == -34, "a power that has changed its sign tells nothing"


def test_values_of_a_block():
    rig = Rig()
    x = rig.settle()
    flat = x.at[0]
    assert near(flat["voltage"], 230) and near(flat["current"], 10) and near(flat["power"], 1150), flat
    assert flat["frequency"] == 50 and x.flags == () and x.metered and not x.energy[0]
    assert rig.uart.settings["baudrate"] == 4800 and rig.uart.settings["parity"] is None
    assert rig.chip.registers[0x19] == 0x0F and not rig.chip.open
    x = rig.block(3)
    assert abs(x.energy[0] - 3 * UJ) < 1e5 and x.energy[1] == 0 and abs(x.energy_step - UJ) < 3e4
    rig.chip.watts = -1150.0
    x = rig.block(-2)
    assert near(x.at[0]["power"], -1150) and x.energy[0] == 0 and abs(x.energy[1] - 2 * UJ) < 1e5
    assert rig.meter.errors == 0


def test_chips_of_several_addresses():
    rig = Rig(address=2, uart={"id": 2, "tx": 17, "rx": 16, "baud": 9600})
    assert near(rig.settle().at[0]["voltage"], 230)
    assert rig.chip.heads == {0, 0x5A, 0xAA}, "zeros reset the chips' UARTs"
    # An answer of another address that comes first is no answer.
    other = Chip(1)
    rig.chip.spoil = lambda frame, answer: other.packet(v=0) + answer if frame[1] == 0xAA else answer
    assert near(rig.block().at[0]["voltage"], 230) and rig.meter.errors == 0


def test_sixty_hertz():
    rig = Rig({"nominal": {"voltage": 120, "frequency": 60}, "rating": {"current": 16}})
    rig.chip.volts, rig.chip.hertz, rig.chip.watts = 120.0, 60.0, 1200.0
    x = rig.settle()
    assert rig.chip.registers[0x19] == 0x2F and near(x.at[0]["frequency"], 60)


def test_no_load_and_no_supply():
    rig = Rig()
    rig.settle()
    rig.chip.amperes = rig.chip.watts = 0.0
    x = rig.block()
    assert x.flags == ("no_load",) and x.at[0]["current"] == 0 and x.at[0]["power"] == 0 and not x.quality
    rig.chip.volts = 2.0
    for _ in range(30):  # nothing moves, and nothing must
        x = rig.block()
        assert x.at[0]["frequency"] is None and near(x.at[0]["voltage"], 2, 0.01) and not x.quality, x.quality


def test_saturation():
    rig = Rig()
    rig.settle()
    rig.chip.amperes, rig.chip.watts = 31.0, 6500.0
    x = rig.block()
    assert x.quality == {"current": "saturated", "power": "saturated"} and near(x.at[0]["voltage"], 230)
    rig.chip.amperes, rig.chip.watts, rig.chip.volts = 10.0, 2700.0, 275.0
    assert rig.block().quality == {"voltage": "saturated", "power": "saturated"}


def test_a_wild_packet_with_a_right_checksum_does_not_count():
    for wild in ({"v": 6353}, {"i": 0xFFFFFF}, {"w": 0x7FFFFF}, {"count": 0xABCDEF}, {"v": 0, "i": 0, "w": 0, "f": 0}):
        for which in (1, 2, 3):
            rig = Rig()
            rig.settle()
            rig.block(1)
            rig.chip.wild = {which: wild}
            rig.chip.amperes, rig.chip.watts = 5.0, 1100.0  # a real step is believed
            x = rig.block(2)
            assert not x.quality and near(x.at[0]["voltage"], 230), (wild, which, x.quality)
            assert near(x.at[0]["current"], rig.chip.amperes) and near(x.at[0]["frequency"], 50)
            assert abs(x.energy[0] - 2 * UJ) < 1e5 and not x.energy[1], (wild, which, x.energy)
            x = rig.block(1)
            assert abs(x.energy[0] - UJ) < 1e5 and not x.energy[1]


def test_values_that_cannot_be_are_implausible():
    rig = Rig()
    rig.settle()
    for wild in ({"v": 0xFFFFFF}, {"i": 0xFFFFFF}, {"w": 0x7FFFFF}, {"f": 0}):
        rig.chip.wild = {1: wild, 2: wild}
        x = rig.block(1)
        assert x.quality["voltage"] == "implausible" and x.at[0]["power"] is None and not x.metered, wild
    assert "cannot be" in rig.meter.problem
    x = rig.block(1)
    assert not x.quality and abs(x.energy[0] - 5 * UJ) < 1e5, "the counter has lost nothing"
    assert x.energy_ms > 4 * x.ms


def test_packets_agree():
    values = bl.decode(IMPORT)
    assert bl.agree(values, values) and not bl.agree(values, bl.decode(EXPORT))
    for k, step, same in ((0, 1, False), (1, -1, False), (2, 1, False), (3, 1, True), (3, 9, False), (4, 40, False)):
        other = list(values)
        other[k] += step
        assert bl.agree(values, tuple(other)) == same, k
    # The registers may be refreshed between the packets of a reading; if they never stand still, none is right.
    rig = Rig()
    rig.settle()
    rig.chip.wild = {1: {"v": 3653000}}
    assert not rig.block().quality
    rig.chip.wild = {n: {"v": 3653000 + n} for n in range(9)}
    x = rig.block()
    assert x.quality["voltage"] == "implausible" and "agree" in rig.meter.problem


def cut(n):
    """Spoils the first packet at byte n: it ends there, or a bit is wrong."""
    left = [1]

    def spoil(frame, answer):
        if frame[1] != 0xAA or not left:
            return answer
        left.pop()
        return answer[:n] if n % 2 else answer[:n] + bytes((answer[n] ^ 4,)) + answer[n + 1 :]

    return spoil


def test_disturbed_answers_are_asked_for_again():
    rig = Rig()
    rig.settle()
    for n in range(23):
        errors = rig.meter.errors
        rig.chip.spoil = cut(n)
        assert not rig.block().quality and rig.meter.errors == errors + 1, n
    # Bytes before the packet, and a packet that was late, cost nothing.
    rig.chip.spoil = lambda frame, answer: b"\x00\x58\x55" + answer
    errors = rig.meter.errors
    rig.chip.registers[0x19] = 0x0F
    x = rig.block()
    assert x.quality["voltage"] == "bus_fault" and "read 19" in rig.meter.problem, "no register between others' bytes"
    rig.chip.spoil = lambda frame, answer: b"\x00\x58\x55" + answer if frame[1] == 0xAA else answer
    assert not rig.block().quality


def test_dead_buses_are_faults_and_heal():
    for name, broken in (
        ("silent", lambda frame, answer: b""),
        ("zeros", lambda frame, answer: b"\x00" * len(answer)),
        ("ones", lambda frame, answer: b"\xff" * len(answer)),
        ("noise", lambda frame, answer: bytes([(37 * k + len(answer)) & 0xFF for k in range(len(answer))])),
        ("echo", lambda frame, answer: frame),
    ):
        rig = Rig()
        rig.settle()
        rig.block(1)
        rig.chip.spoil = broken
        began = rig.time.ms
        x = rig.block(4)
        assert rig.time.ms - began < 2000, "the others on the line wait"
        assert x.at[0]["voltage"] is None and x.quality["power"] == "bus_fault" and x.covered_ms == 0, name
        assert "no proper answer" in rig.meter.problem and rig.meter.errors
        rig.block(4)
        rig.chip.spoil = None
        x = rig.block(4)
        assert not x.quality and abs(x.energy[0] - 12 * UJ) < 1e6 and x.energy_ms > 3 * 800, name


def test_a_reset_chip_is_set_up_again_and_its_reset_is_no_wrap():
    for before in (9000000, 5, 0xFFFFF0):
        for way in (1, -1):
            rig = Rig()
            rig.chip.watts *= way
            rig.chip.count = before
            rig.settle()
            rig.block(way)
            rig.chip.reset()
            rig.chip.count = 0
            assert rig.block(1).quality["voltage"] == "bus_fault", "no value from a chip that has lost its settings"
            # In absolute mode it has counted up twice; set up again, it goes both ways.
            assert rig.block(1).quality["voltage"] == "stale", "its first window"
            rig.block(2 * way)
            x = rig.block(2 * way)
            assert not x.quality and rig.chip.registers[0x19] == 0x0F
            assert x.energy[way > 0] == 0 and abs(x.energy[way < 0] - 6 * UJ) < 2e5, (before, way, x.energy)
            assert x.energy_ms > 2 * x.ms


def test_a_count_that_begins_anew_without_a_reset_of_the_settings():
    rig = Rig()
    rig.settle()
    rig.chip.count = 3
    x = rig.block()
    assert x.energy[1] == 0 and abs(x.energy[0] - 3 * UJ) < 1e5, x.energy


def test_settings_that_do_not_stay_are_a_fault():
    rig = Rig()
    answer = rig.chip.hear
    rig.chip.hear = lambda frame: b"" if frame[0] == 0xA8 else answer(frame)
    x = rig.block()
    assert x.quality["voltage"] == "bus_fault" and "read back" in rig.meter.problem, rig.meter.problem


def test_a_frozen_chip_is_stale():
    rig = Rig()
    rig.settle()
    packet = rig.chip.packet()
    rig.chip.spoil = lambda frame, answer: packet if frame[1] == 0xAA else answer
    reasons = [rig.block().quality.get("voltage") for _ in range(30)]
    assert reasons[:9] == [None] * 9 and reasons[-1] == "stale", reasons
    rig.chip.spoil = None
    assert not rig.block().quality


def test_other_baud_rates_are_refused():
    try:
        Rig(uart={"id": 2, "tx": 17, "rx": 16, "baud": 38400})
    except ValueError as e:
        assert "4800 or 9600" in str(e)
        return
    raise AssertionError("no refusal")
