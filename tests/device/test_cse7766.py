"""CSE7766 codec, byte by byte, and the driver with a chip that misbehaves. Frames: published by users of Tasmota."""

from fake_uart import Time, Uart, run
from gridnode.meters import cse7766 as cse

SPEC = {
    "id": "main",
    "uart": {"id": 2, "tx": 17, "rx": 16, "baud": 4800, "parity": "even"},
    "voltage": [{"mv_per_v": 1}],
    "current": [{"shunt_mohm": 1}],
}
PROFILE = {"nominal": {"voltage": 230, "frequency": 50}, "rating": {"current": 16}}


def hexed(text):
    return bytes.fromhex(text.replace(" ", ""))


# state, 5A, U coefficient, cycle, I.., P.., Adj, pulses, sum
NO_LOAD = hexed("F25A 02F760 000361 004010 057240 51A658 63101B E1 7F4D 4E")
NOT_WHOLE = hexed("555A 02F760 00035A 004010 048B9F 51A658 187275 61 ACA1 30")
LOAD = hexed("555A 02F760 0003AB 004010 02605D 51A658 03E9EF 71 0B7A 36")
OVERFLOWN = hexed("555A 02F1E8 00079D 003F3E 0035F8 50DB38 00B2A2 F1 D697 3E")
# One after the other: 232 V, then 0.40 V with a right checksum.
RIGHT = hexed("555A 02DB40 000325 003D18 038ECD 4F0A60 2A5685 61 0102 1A")
WILD = hexed("555A 02DB40 07171D 003D18 038ECD 4F0A60 2BEFEA 61 0102 2C")
PUBLISHED = (NO_LOAD, NOT_WHOLE, LOAD, OVERFLOWN, RIGHT, WILD)

FRAME_MS = 55  # 24 bytes of 11 bits at 4800 baud
COEFFICIENTS = (191200, 16140, 5364000)


def frame(u=831, i=16140, p=23322, adj=0x71, pulses=0, state=0x55, coefficients=COEFFICIENTS):
    body = b""
    for n in (coefficients[0], u, coefficients[1], i, coefficients[2], p):
        body += n.to_bytes(3, "big")
    body += bytes((adj | pulses >> 9 & 0x80, pulses >> 8 & 0xFF, pulses & 0xFF))
    return bytes((state, 0x5A)) + body + bytes((sum(body) & 0xFF,))


class Chip:
    """Sends a frame every 55 ms: 230 V, 1 A, 230 W and a pulse every 23322 us.

    change: what is different in each frame; wild: number of a frame from now on -> what it is instead;
    spoil(frame) may change its bytes.
    """

    def __init__(self, ms):
        self.ms = ms
        self.silent = False
        self.change = {}
        self.wild = {}
        self.spoil = None
        self.exact = 1000.0  # pulses
        self.per_frame = FRAME_MS * 1000 / 23322
        self.noise = 0

    def hear(self, data):
        raise AssertionError("the chip has no receiver")

    def tick(self, now):
        if self.silent:
            self.ms = now
        out = b""
        while self.ms + FRAME_MS <= now:
            self.ms += FRAME_MS
            self.exact += self.per_frame
            self.noise = (self.noise + 7) % 5
            self.wild = {n - 1: values for n, values in self.wild.items()}
            values = {"i": 16140 + self.noise, "pulses": int(self.exact) & 0x1FFFF}
            values.update(self.change)
            values.update(self.wild.get(0, {}))
            data = frame(**values)
            out += self.spoil(data) if self.spoil else data
        return out


class Rig:
    def __init__(self, profile=PROFILE, **spec):
        self.time = Time()
        self.chip = Chip(self.time.ms)
        self.uart = Uart(self.time, self.chip)
        full = dict(SPEC)
        full.update(spec)
        self.meter = cse.Meter(full, profile, self.uart, self.time)
        assert self.meter.start(None) == ()

    def block(self, ms=1000):
        self.time.ms += ms
        return run(self.meter.block())

    def settle(self):
        assert self.block(0).quality["voltage"] == "stale" and not self.meter.problem
        x = self.block()
        assert not x.quality, x.quality
        return x


def near(a, b, share=1e-3):
    return abs(a - b) <= share * abs(b)


def uj(pulses):
    return pulses * COEFFICIENTS[2]


def test_published_frames():
    for data in PUBLISHED:
        assert cse.is_frame(data) and not cse.is_frame(data[:23] + bytes((data[23] ^ 1,)))
    assert [cse.field(LOAD, k) for k in (2, 5, 8, 11, 14, 17)] == [194400, 939, 16400, 155741, 5351000, 256495]
    assert cse.pulses(LOAD) == 0x0B7A and cse.pulses(OVERFLOWN) == 0x1D697
    assert near(cse.field(LOAD, 2) / 939, 207.03) and near(cse.field(LOAD, 14) / 256495, 20.862)
    assert near(cse.field(WILD, 2) / cse.field(WILD, 5), 0.4029)
    assert near(cse.field(RIGHT, 2) / cse.field(RIGHT, 5), 232.55)


def test_states():
    assert [cse.trouble(s) for s in (0x55, 0xAA, 0xF1, 0xF2, 0xF8)] == [0, 1, 1, 2, 8]
    for state in range(256):
        known = state in (0x55, 0xAA) or state >= 0xF0
        assert cse.is_frame(frame(state=state)) == known, state


def frames_of(stream, data, size):
    found = []
    for k in range(0, len(data), size):
        stream.feed(data[k : k + size], lambda f: found.append(bytes(f)))
    return found


def test_frames_are_found_in_a_stream():
    whole = b"".join(PUBLISHED)
    for size in (1, 5, 23, 24, 25, 64):
        assert frames_of(cse.Stream(), whole, size) == list(PUBLISHED), size
    for cut in range(1, 24):  # begins in the middle of a frame
        stream = cse.Stream()
        assert frames_of(stream, whole[cut:], 64) == list(PUBLISHED[1:]), cut
        assert stream.lost == 1


def test_the_stream_is_found_again_after_noise():
    for noise in (b"\x55", b"\x55\x5a", b"\x5a\x55", b"\xff" * 30, b"\x00" * 30, b"\x55" * 29, LOAD[:23], LOAD[3:20]):
        for size in (1, 7, 64):
            stream = cse.Stream()
            found = frames_of(stream, LOAD + noise + NO_LOAD + RIGHT + LOAD, size)
            assert found[-2:] == [RIGHT, LOAD] and len(found) >= 3, (noise, size, found)
            assert stream.lost


def test_middle_of_three():
    m = cse.Middle(500, True)
    m.scale(191200)
    for cycle in (831, 831, 464669, 831, 300, 831):
        m.add(cycle)
    assert near(m.value(), 191200 / 831, 1e-6) and m.wild == 1
    m.restart()
    assert m.value() is None
    m = cse.Middle(500)
    m.scale(60)
    for cycle in (60, 30, 20, 15, 12):
        m.add(cycle)
    assert near(m.value(), 3, 1e-6), "2, 3, 4"
    m.restart()
    for _ in range(4):
        m.add(cse.ENDLESS)
    assert near(m.value(), 1, 1e-6), "4, 0, 0, 0"


def test_power_by_its_cycles():
    p = cse.Power()
    p.floor = 1340000  # 4 W
    assert p.cycle(True, False, 999, 7) == cse.ENDLESS
    assert p.cycle(False, True, 400000, 8) is None, "the first cycle began before the load"
    assert p.cycle(False, True, 400000, 8) is None, "that one still"
    assert p.cycle(False, True, 1000000, 9) == 1000000
    assert p.cycle(False, False, 300000, 9) == 1000000, "not whole yet, and no contradiction"
    assert p.cycle(False, False, 1200000, 9) is None, "less than 4.5 W"
    assert p.cycle(False, False, 2682000, 9) == 2682000, "too little to tell from none"
    assert p.cycle(False, True, 1000000, 10) == 1000000
    assert p.cycle(False, True, 0, 11) is None
    # A node that starts under a steady load tells the second cycle from the first by the pulses.
    p = cse.Power()
    assert p.cycle(False, True, 23322, 7) is None
    assert p.cycle(False, True, 23322, 9) == 23322


def test_values_of_a_block():
    rig = Rig()
    x = rig.settle()
    flat = x.at[0]
    assert near(flat["voltage"], 191200 / 831) and near(flat["current"], 1.0) and near(flat["power"], 230), flat
    assert "reactive_power" not in flat and x.flags == () and x.metered and x.energy_step == 5364000
    settings = rig.uart.settings
    assert settings["baudrate"] == 4800 and settings["parity"] == 0 and settings["bits"] == 8
    assert settings["rxbuf"] >= 480, "what comes in a second must fit"
    total = 0
    for _ in range(20):
        total += rig.block().energy[0]
    assert abs(total - 20 * 230e6) < 3 * uj(1), total
    assert rig.meter.errors == 0


def test_a_loop_that_was_kept_busy_loses_nothing():
    rig = Rig()
    rig.settle()
    for ms in (500, 700, 1400):
        x = rig.block(ms)
        assert not x.quality and near(x.energy[0], 230e3 * ms, 0.1), (ms, x.energy)


def test_other_shunts_and_dividers():
    rig = Rig(voltage=[{"mv_per_v": 0.6}], current=[{"shunt_mohm": 2}])
    x = rig.settle()
    assert near(x.at[0]["voltage"], 383.47) and near(x.at[0]["current"], 0.5) and near(x.at[0]["power"], 191.67)
    rig = Rig(voltage=[{"mv_per_v": 1}], current=[{"shunt_mohm": 2}])
    rig.settle()
    assert near(rig.block().energy[0], 115e6, 0.03)


def test_no_load():
    rig = Rig()
    rig.settle()
    # the current of the published frame: 0.046 A of noise
    rig.chip.change = {"state": 0xF2, "i": 350000, "p": 0x63101B, "adj": 0x61}
    rig.chip.per_frame = 0
    rig.block()
    x = rig.block()
    assert x.at[0]["power"] == 0 and x.at[0]["current"] == 0 and near(x.at[0]["voltage"], 230)
    assert x.flags == ("no_load",) and not x.quality and not x.energy[0]
    # The first cycle under the load is not whole: it would be 10 W.
    rig.chip.per_frame = FRAME_MS * 1000 / 23322
    rig.chip.change = {"p": 536400, "pulses": 1200}
    x = rig.block(165)
    assert (x.at[0]["power"] is None and x.quality["power"] == "stale") or x.at[0]["power"] == 0, x.at
    rig.chip.change = {}
    rig.block()
    x = rig.block()
    assert near(x.at[0]["power"], 230) and x.flags == ()


def test_ranges_and_bits():
    rig = Rig()
    rig.settle()
    rig.chip.change = {"state": 0xF8}
    rig.block()
    x = rig.block()
    assert x.at[0]["voltage"] == 0 and x.flags == ("no_voltage",)
    rig.chip.change = {"state": 0xF4}
    rig.block()
    assert rig.block().at[0]["current"] == 0
    rig.chip.change = {"adj": 0x31}
    rig.block()
    x = rig.block()
    assert x.quality == {"voltage": "stale"} and near(x.at[0]["current"], 1), x.quality
    rig.chip.change = {"adj": 0x51}
    rig.block()
    assert rig.block().quality == {"current": "stale"}
    # The power's cycle is not whole: 5.364 W at most.
    rig.chip.change = {"adj": 0x61, "p": 1000000}
    rig.block()
    assert rig.block().quality == {"power": "stale"}
    rig.chip.change = {"u": 0, "i": 0, "p": 0}
    rig.block()
    assert len(rig.block().quality) == 3


def test_a_chip_without_coefficients():
    for state in (0xAA, 0xF1):
        rig = Rig()
        rig.chip.change = {"state": state, "coefficients": (0xFFFFFF, 0, 1)}
        x = rig.settle()
        assert near(x.at[0]["voltage"], 191200 / 831) and near(x.at[0]["current"], 1) and near(x.at[0]["power"], 230)
        assert x.flags == ("uncalibrated",) and x.energy_step == 5364000


def test_a_hardware_fault():
    for state in (0xFC, 0xFF):
        rig = Rig()
        rig.settle()
        rig.chip.change = {"state": state}
        rig.block()  # of frames from before
        x = rig.block()
        assert x.quality["voltage"] == "bus_fault" and "state %02X" % state in rig.meter.problem
        rig.chip.change = {}
        rig.block()
        assert not rig.block().quality


def test_wild_frames_do_not_count():
    wild = ({"u": 464669}, {"u": 1}, {"i": 7}, {"p": 9}, {"p": 8000000}, {"pulses": 99999}, {"coefficients": (1, 2, 3)})
    for values in wild:
        rig = Rig()
        rig.settle()
        start = rig.chip.exact
        total = 0
        for n in range(10):
            rig.chip.wild = {1 + n // 2: values, 10: values, 16: values}
            x = rig.block()
            flat = x.at[0]
            assert not x.quality and near(flat["voltage"], 230, 2e-3) and near(flat["current"], 1), (values, n, flat)
            assert near(flat["power"], 230), (values, n, flat)
            total += x.energy[0]
        assert abs(total - uj(rig.chip.exact - start)) < 8 * uj(1), (values, total)


def test_values_that_cannot_be_are_implausible():
    for name, values in (("voltage", {"u": 400}), ("current", {"i": 300}), ("power", {"p": 400})):
        rig = Rig()
        rig.settle()
        rig.chip.change = values
        rig.block()
        x = rig.block()
        assert x.quality == {name: "implausible"} and x.at[0][name] is None, (name, x.quality)
        rig.chip.change = {}
        rig.block()
        assert not rig.block().quality


def test_silence_is_stale_then_a_fault_and_heals():
    for kind in ("silent", "zeros", "ones", "noise"):
        rig = Rig()
        rig.settle()
        seed = [1]

        def noise(data):
            seed[0] = seed[0] * 1103515245 + 12345 & 0x3FFFFFFF  # noqa: B023
            return bytes([(seed[0] >> k) + 91 * k & 0xFF for k in range(24)])  # noqa: B023

        rig.chip.silent = kind == "silent"
        rig.chip.spoil = {
            "silent": None,
            "zeros": lambda data: b"\x00" * 24,
            "ones": lambda data: b"\xff" * 24,
            "noise": noise,
        }[kind]
        reasons = [rig.block().quality.get("voltage") for _ in range(8)]
        assert reasons[0] is None or reasons[0] == "stale", reasons  # the frame that had not ended
        assert reasons[1] == "stale" and reasons[-3:] == ["bus_fault"] * 3, (kind, reasons)
        assert ("noise" in rig.meter.problem) == (kind != "silent"), rig.meter.problem
        rig.chip.silent = False
        rig.chip.spoil = None
        rig.block()
        x = rig.block()
        assert not x.quality and near(x.at[0]["power"], 230)


def test_energy_over_an_outage_is_recovered():
    rig = Rig()
    rig.settle()
    first = rig.chip.exact
    rig.chip.spoil = lambda data: b"\x00" * 24
    for _ in range(8):
        rig.block()
    rig.chip.spoil = None
    total = 0
    for _ in range(3):
        x = rig.block()
        total += x.energy[0]
        if x.energy[0] > 4 * 230e6:
            assert x.energy_ms > 8000, "the gate must know the time"
    assert abs(total - uj(rig.chip.exact - first)) < 10 * uj(1), total


def test_the_counter_wraps():
    for begin in (65530.0, 131060.0):
        rig = Rig()
        rig.chip.exact = begin
        rig.settle()
        first = rig.chip.exact
        total = 0
        for _ in range(5):
            total += rig.block().energy[0]
        assert abs(total - uj(rig.chip.exact - first)) < 8 * uj(1), (begin, total)


def test_a_chip_that_began_anew_is_no_wrap():
    for before in (500.0, 65000.0, 70000.0, 100000.0):
        for silence in (0, 1, 5):
            rig = Rig()
            rig.chip.exact = before
            rig.settle()
            if silence:
                rig.chip.silent = True
                for _ in range(silence):
                    rig.block()
                rig.chip.silent = False
            rig.chip.exact = 0.0
            total = 0
            for _ in range(5):
                total += rig.block().energy[0]
            assert total <= uj(rig.chip.exact + 60), (before, silence, total / uj(1))


def test_a_stuck_frame_is_stale():
    rig = Rig()
    rig.settle()
    rig.chip.change = {"i": 16140, "pulses": 1234}
    reasons = [rig.block().quality.get("voltage") for _ in range(60)]
    assert reasons[5:35] == [None] * 30 and reasons[-1] == "stale", reasons
    rig.chip.change = {}
    rig.block()
    assert not rig.block().quality


def test_other_line_settings_are_refused():
    for change in ({"baud": 9600}, {"parity": "none"}):
        uart = dict(SPEC["uart"])
        uart.update(change)
        try:
            Rig(uart=uart)
        except ValueError as e:
            assert "even parity" in str(e)
        else:
            raise AssertionError("no refusal")
