"""PZEM-004T v3: registers as its manual lists them, commands, and what goes wrong on its line."""

import asyncio
import time

import fake_modbus as fake
from gridnode.meters import pzem004t, rtu
from gridnode.meters.polled import BusError

SPEC = {"id": "m", "uart": {"id": 2, "tx": 17, "rx": 16, "baud": 9600}, "modbus": {"address": 1}}
PROFILE = {"nominal": {"voltage": 230, "frequency": 50}, "rating": {"current": 100}, "meters": [SPEC]}
# 230.4 V, 66.537 A, 15330.5 W, 70001 Wh, 50.0 Hz, 1.00, alarm; 32 bits come low word first
WORDS = (2304, 0x03E9, 0x0001, 0x56D9, 0x0002, 0x1171, 0x0001, 500, 100, 0xFFFF)


def running(unit=None, spec=SPEC, profile=PROFILE):
    unit = unit or fake.Unit(1)
    for k, word in enumerate(WORDS):
        unit.registers[4, k] = word
    m = pzem004t.Meter(spec, profile, fake.Wire(unit), time)
    m.latency_ms = 10
    m.settle_ms = 0
    assert m.start(None) == ()
    return unit, m


def wh(unit, value):
    unit.registers[4, 5], unit.registers[4, 6] = value & 0xFFFF, value >> 16


def test_values():
    data = b"".join([bytes((w >> 8, w & 0xFF)) for w in WORDS])
    v, i, p, energy, f, pf, alarm = pzem004t.values(data)
    assert abs(v - 230.4) < 1e-3 and abs(i - 66.537) < 1e-4 and abs(p - 15330.5) < 0.01
    assert energy == 70001 and f == 50 and pf == 1 and alarm is True
    assert pzem004t.values(bytes(20)) == (0, 0, 0, 0, 0, 0, False)
    assert pzem004t.values(b"\xff" * 20)[3] == 0xFFFFFFFF


def test_reading():
    unit, m = running()
    x = fake.block(m)
    flat = x.at[0]
    assert not x.quality and abs(flat["voltage"] - 230.4) < 1e-3 and abs(flat["current"] - 66.537) < 1e-4
    assert abs(flat["power"] - 15330.5) < 0.01 and flat["frequency"] == 50 and flat["power_factor"] == 1
    assert flat.get("reactive_power") is None and x.flags == ("power_alarm",)
    assert m._line._uart.requests == [rtu.read(1, 3, 1, 1), rtu.read(1, 4, 0, 10)], "one request has it all"
    unit.registers[4, 9] = 0
    assert fake.block(m).flags == ()


def test_energy():
    unit, m = running()
    x = fake.block(m)
    assert x.metered == 1 and x.energy == [0, 0] and x.energy_step == 3600000000
    wh(unit, 70004)
    assert fake.block(m).energy == [3 * 3600000000, 0]
    wh(unit, 2)  # it was reset: what it shows was counted since
    assert fake.block(m).energy == [2 * 3600000000, 0]
    wh(unit, 0xFFFFFFFF)
    fake.block(m)
    wh(unit, 4)  # the counter's 32 bits are full
    assert fake.block(m).energy == [5 * 3600000000, 0]


def test_energy_of_an_outage_is_not_lost():
    unit, m = running()
    fake.block(m)
    unit.off = True
    assert fake.block(m).energy == [0, 0] and m.reading.quality["voltage"] == "bus_fault"
    wh(unit, 70010)
    unit.off = False
    m._rest_ms = 0
    x = fake.block(m)
    assert x.energy == [9 * 3600000000, 0] and x.energy_ms >= x.ms and not x.quality


def test_wild_values_are_dropped_and_counted():
    unit, m = running()
    fake.block(m)
    for register, word in ((0, 3001), (2, 0xFFFF), (4, 0x00FF), (7, 711), (7, 0), (8, 101)):
        before = unit.registers[4, register]
        unit.registers[4, register] = word
        wh(unit, 0x7FFFFFFF)
        errors = m.errors
        x = fake.block(m)
        assert all(x.quality[name] == "implausible" for name in m.names), (register, x.quality)
        assert x.at[0]["voltage"] is None and x.energy == [0, 0] and m.errors == errors + 1
        unit.registers[4, register] = before
        wh(unit, 70001)
    x = fake.block(m)
    assert not x.quality and x.energy == [0, 0]


def test_end_of_the_range_is_saturated():
    for rating, milliamperes, saturated in ((100, 99999, False), (100, 100000, True), (10, 10000, True)):
        profile = dict(PROFILE)
        profile["rating"] = {"current": rating}
        unit, m = running(profile=profile)
        unit.registers[4, 1], unit.registers[4, 2] = milliamperes & 0xFFFF, milliamperes >> 16
        unit.registers[4, 3], unit.registers[4, 4] = 100, 0
        x = fake.block(m)
        expected = dict.fromkeys(("current", "power", "power_factor"), "saturated") if saturated else {}
        assert x.quality == expected and x.at[0]["voltage"], x.quality


def test_faults_heal():
    unit, m = running()
    fake.block(m)
    broken = (
        lambda a: b"",
        lambda a: a[:-1],
        lambda a: a[:-1] + bytes((a[-1] ^ 1,)),
        lambda a: rtu.seal(b"\x02" + a[1:-2]),
        lambda a: rtu.seal(b"\x01\x04\x04\x00\x00\x00\x00"),
        lambda a: rtu.seal(b"\x01\x84\x04"),
        lambda a: rtu.seal(b"\x01\x04\x14" + bytes(20)),
    )
    for k, distort in enumerate(broken):
        wh(unit, 70001 + k)
        m._line._uart.distort = distort
        x = fake.block(m)
        assert x.quality["voltage"] == "bus_fault" and x.at[0]["power"] is None and x.covered_ms == 0
        assert m.problem.startswith("no proper answer: "), m.problem
        m._line._uart.distort = None
        m._rest_ms = 0
        assert not fake.block(m).quality
    assert (m.timeouts, m.garbled, m.refused) == (3, 12, 1), (m.timeouts, m.garbled, m.refused)


def test_noise_and_a_single_error_cost_nothing():
    unit, m = running()
    for mangle in (lambda a: b"\x01\x04" + a, lambda a: bytes(30) + a + bytes(9), lambda a: a[3:]):
        unit.mangle = mangle
        assert not fake.block(m).quality
    assert m.garbled == 1


def test_a_counter_that_stands_still_under_load_is_stale():
    unit, m = running()
    for word, standing, expected in ((2000, 14, "stale"), (0, 40, None)):
        unit.registers[4, 3], unit.registers[4, 4] = word, 0  # 200 W, no load
        wh(unit, 70100)
        kinds = []
        for _ in range(standing):
            m._last = time.ticks_ms() - 8000
            kinds.append(fake.block(m).quality.get("voltage"))
        assert kinds[:8] == [None] * 8 and kinds[-1] == expected, kinds
        wh(unit, 70110)
        assert not fake.block(m).quality


def test_commands():
    unit, m = running()
    assert set(m.commands) == {"reset_energy", "set_address", "set_alarm"}
    asyncio.run(m.reset_energy())
    assert m._line._uart.requests[-1] == bytes.fromhex("01428011") and unit.registers[4, 5] == 0
    asyncio.run(m.set_alarm(2300))
    assert unit.registers[3, 1] == 2300
    assert m._line._uart.requests[-2:] == [rtu.write(1, 1, 2300), rtu.read(1, 3, 1, 1)]


def test_address_is_changed_and_followed():
    unit, m = running()
    reply = unit.reply

    def moves(request):
        answer = reply(request)
        if request[1] == 6 and request[3] == 2:
            unit.address = request[5]
        return answer

    unit.reply = moves
    asyncio.run(m.set_address(7))
    assert unit.address == m.unit == 7 and not fake.block(m).quality
    assert rtu.read(7, 3, 2, 1) in m._line._uart.requests, "read back at its new place"


def test_commands_are_checked():
    unit, m = running()
    refused = (("set_address", 0), ("set_address", 248), ("set_alarm", 0), ("set_alarm", 65536), ("set_alarm", 2.5))
    for order, value in refused:
        try:
            asyncio.run(getattr(m, order)(value))
        except ValueError:
            continue
        raise AssertionError("no refusal of %s %s" % (order, value))
    assert not m._line._uart.requests
    reply = unit.reply
    unit.reply = lambda request: request[:6] if request[1] == 6 else reply(request)  # writes nothing
    for order in (m.set_alarm(2300), m.set_address(7)):
        try:
            asyncio.run(order)
        except BusError:
            continue
        raise AssertionError("an unwritten register went unnoticed")


def test_any_address_is_for_a_single_meter():
    spec = dict(SPEC)
    spec["modbus"] = {"address": 0xF8}
    profile = dict(PROFILE)
    profile["meters"] = [spec]
    unit, m = running(fake.Unit(9), spec, profile)
    assert not fake.block(m).quality
    other = {"id": "o", "uart": SPEC["uart"], "modbus": {"address": 2}}
    same = {"id": "o", "uart": SPEC["uart"], "modbus": {"address": 1}}
    for mine, company in ((spec, other), (SPEC, same)):
        profile["meters"] = [mine, company, {"id": "t"}]
        try:
            pzem004t.Meter(mine, profile, fake.Wire(unit), time)
        except ValueError as e:
            assert "UART 2" in str(e)
            continue
        raise AssertionError("no refusal")
    elsewhere = {"id": "o", "uart": {"id": 1, "tx": 1, "rx": 3, "baud": 9600}, "modbus": {"address": 1}}
    profile["meters"] = [SPEC, elsewhere]
    pzem004t.Meter(SPEC, profile, fake.Wire(unit), time)


def test_it_is_not_asked_faster_than_it_measures():
    spec = dict(SPEC)
    spec["period_ms"] = 100
    assert running(spec=spec)[1].period_ms == 200
    assert running()[1].period_ms == 1000
