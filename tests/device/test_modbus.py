"""Mapped Modbus meters: Rish Master 3430, SDM120 and SDM630 by the maps of the product, and what they may do wrong."""

import json
import struct
import time

import fake_modbus as fake
from gridnode.meters import modbus, rtu
from gridnode.setup import modbus as setup
from harness import fixtures

FIXTURES = ("modbus_maps",)
HEAP_KW = 192

UART = {"id": 2, "tx": 17, "rx": 16, "baud": 9600, "de": 4}
ABCD = bytes((0, 1, 2, 3))
CDAB = bytes((2, 3, 0, 1))
MWH = 3600000  # uJ


def chart(name):
    return json.loads(fixtures["modbus_maps"][name])


def put(unit, address, value, function=4, order="ABCD"):
    """Write a float32 into two registers."""
    raw = struct.pack(">f", value)
    raw = bytes([raw["ABCD".index(letter)] for letter in order])
    unit.registers[function, address] = raw[0] << 8 | raw[1]
    unit.registers[function, address + 1] = raw[2] << 8 | raw[3]


def entry(name, unit=1, meter="m", **more):
    spec = {"id": meter, "uart": UART, "modbus": {"address": unit, "map": chart(name)}}
    spec["modbus"].update(more)
    return spec


def profile(*specs):
    return {"nominal": {"voltage": 230, "frequency": 50}, "rating": {"current": 100}, "meters": specs}


def running(name, unit=None, wire=None, spec=None):
    unit = unit or fake.Unit(1)
    spec = spec or entry(name)
    m = modbus.Meter(spec, profile(spec), wire or fake.Wire(unit), time)
    m.latency_ms = 10
    m.settle_ms = 0
    assert m.start(None) == ()
    return unit, m


def three_phases(unit, order="ABCD"):
    """Values of the registers that Rish and SDM630 have in common: 231, 232, 233 V; 11, 12, 13 A, and so on."""
    for k in range(3):
        for base, value in (
            (0x00, 231.0),
            (0x06, 11.0),
            (0x0C, 2400.0),
            (0x12, 2500.0),
            (0x18, 700.0),
            (0x1E, 0.96),
            (0x24, 16.0),
            (0xC8, 401.0),
        ):
            step = 0.01 if base == 0x1E else 1
            put(unit, base + 2 * k, value + step * k, order=order)
    for address, value in (
        (0x2A, 232.0),
        (0x2E, 12.0),
        (0x34, 7203.0),
        (0x38, 7503.0),
        (0x3C, 2103.0),
        (0x3E, 0.96),
        (0x42, 16.5),
        (0x46, 50.02),
        (0xE0, 0.5),
    ):
        put(unit, address, value, order=order)


def rish(energy_unit=1.0, system=3.0):
    unit = fake.Unit(1)
    unit.most = 40
    three_phases(unit)
    put(unit, 0x04, energy_unit, 3)
    put(unit, 0x0A, system, 3)
    for address, value in ((0x48, 1000.0), (0x4A, 20.0), (0x4C, 300.0), (0x4E, 40.0), (0x50, 1100.0)):
        put(unit, address, value)
    for k in range(3):
        put(unit, 0xCE + 2 * k, 2.5 + k)
        put(unit, 0xD4 + 2 * k, 12.5 + k)
    put(unit, 0x54, 6900.0)
    put(unit, 0xDA, 3.5)
    put(unit, 0xDC, 13.5)
    return unit


def near(a, b, tolerance=1e-3):
    return a is not None and abs(a - b) <= tolerance


def same(values, **expected):
    for name, value in expected.items():
        assert near(values[name], value), (name, values[name], value)


def test_numbers():
    # 219.25 V of the Rish manual, p. 44
    assert near(modbus.number(bytes.fromhex("435B4121"), 0, 0, ABCD), 219.2544, 1e-4)
    assert near(modbus.number(bytes.fromhex("4121435B"), 0, 0, CDAB), 219.2544, 1e-4)
    assert near(modbus.number(bytes.fromhex("0000435B4121"), 2, 0, ABCD), 219.2544, 1e-4)
    u32, s32, u16, s16 = [modbus.KINDS.index(k) for k in "IiHh"]
    assert modbus.number(b"\x80\x00\x00\x01", 0, u32, ABCD) == 0x80000001
    assert modbus.number(b"\x00\x01\x80\x00", 0, u32, CDAB) == 0x80000001
    assert modbus.number(b"\xff\xff\xff\xfe", 0, s32, ABCD) == -2
    assert modbus.number(b"\xff\xfe", 0, u16, ABCD) == 65534 and modbus.number(b"\xff\xfe", 0, s16, CDAB) == -2
    assert modbus.number(b"\xfe\xff", 0, u16, bytes((1, 0, 3, 2))) == 65534  # BADC
    assert modbus.words(u32) == 2 and modbus.words(s16) == 1 and modbus.words(modbus.BY_SETTING) == 2


def test_what_is_no_number():
    for raw in ("7F800000", "FF800000", "7FC00000", "FFFFFFFF", "7F800001"):
        assert modbus.number(bytes.fromhex(raw), 0, 0, ABCD) is None, raw
        assert modbus.total(bytes.fromhex(raw), 0, 0, ABCD, MWH) is None, raw
    assert modbus.number(b"\xff\xff", 0, modbus.KINDS.index("H"), ABCD) is None
    assert modbus.number(b"\xff" * 4, 0, modbus.KINDS.index("I"), ABCD) is None
    assert modbus.total(struct.pack(">f", -1.0), 0, 0, ABCD, MWH) is None, "a total below zero"


def test_totals_are_exact():
    def total(value, unit):
        return modbus.total(struct.pack(">f", value), 0, 0, ABCD, unit)

    assert total(0.0, MWH) == 0 and total(1.0, MWH) == MWH and total(0.5, MWH) == MWH // 2
    assert total(12345.5, 1000000 * MWH) == 12345500000 * MWH
    # 16 777 215 and 8 388 607.5 have all 24 bits of the mantissa; the last float has steps of two.
    for bits, exact in ((0x4B7FFFFF, 16777215 * MWH), (0x4AFFFFFF, 16777215 * MWH // 2), (0x4B800001, 16777218 * MWH)):
        raw = bytes((bits >> 24, bits >> 16 & 0xFF, bits >> 8 & 0xFF, bits & 0xFF))
        assert modbus.total(raw, 0, 0, ABCD, MWH) == exact
    assert modbus.total(b"\x00\x01\xe2\x40", 0, modbus.KINDS.index("I"), ABCD, 10 * MWH) == 1234560 * MWH


def test_small_steps_of_a_large_total_are_not_lost():
    # 0.01 kWh at 99 999 kWh: a float32 of that size has steps of 1/128 kWh; sums of the increments end exact.
    unit, m = running("sdm120")
    put(unit, 0x48, 99990.0)
    fake.block(m)
    summed = 0
    for k in range(1, 201):
        put(unit, 0x48, 99990.0 + k / 128)
        summed += fake.block(m).energy[0]
    assert summed == 1563 * 1000 * MWH, summed  # 1562.5 Wh, in whole ones
    assert m.reading.energy_step >= 7812 * MWH


def test_rish_reading():
    unit, m = running("rish-3430", rish())
    x = fake.block(m)
    assert not x.quality, (x.quality, m.problem)
    same(x.at[0], voltage=232, current=12, power=7203, apparent_power=7503, reactive_power=2103, power_factor=0.96)
    same(x.at[0], phase_angle=16.5, frequency=50.02, neutral_current=0.5)
    same(x.at[0], power_demand=6900, thd_voltage=3.5, thd_current=13.5)
    same(x.at[0], reactive_energy_import_varh=300, reactive_energy_export_varh=40, apparent_energy_vah=1100)
    for k in range(3):
        same(x.at[k + 1], voltage=231 + k, current=11 + k, power=2400 + k, apparent_power=2500 + k)
        same(x.at[k + 1], reactive_power=700 + k, power_factor=0.96 + 0.01 * k, phase_angle=16 + k)
        same(x.at[k + 1], voltage_ll=401 + k, thd_voltage=2.5 + k, thd_current=12.5 + k)
    assert x.metered == 2 and x.own_totals == ("voltage", "current", "power", "apparent_power", "reactive_power")
    assert "energy_import" not in m.names and m.names[0] == "voltage"
    x.derive()
    same(x.at[0], voltage=232, current=12, power=7203, apparent_power=7503, reactive_power=2103)


def test_requests_are_few_and_within_the_limits():
    expected = {
        "rish-3430": [(0x00, 40), (0x28, 38), (0x4E, 8), (0xC8, 26)],
        "sdm630": [(0x00, 80), (0x54, 2), (0xC8, 46), (0x15A, 12)],
        "sdm120": [(0x00, 38), (0x46, 16)],
    }
    for name, groups in expected.items():
        spec = entry(name)
        plan = setup.plan(spec, profile(spec))
        address, kind = plan[6][0], plan[6][3]
        spans = []
        for first, end in plan[9]:
            spans.append((address[first], address[end - 1] + modbus.words(kind[end - 1]) - address[first]))
        assert spans == groups, (name, spans)
        assert plan[9][0][0] == 0 and plan[9][-1][1] == len(address), "every row is asked for"
        lengths = [count for _, count in spans]
        assert len(set(lengths)) == len(lengths), "a late answer must not fit another request"


def test_energy_in_each_unit():
    for setting, wh in ((1.0, 1), (2.0, 1000), (3.0, 1000000)):
        unit, m = running("rish-3430", rish(setting))
        x = fake.block(m)
        assert x.energy[:2] == [0, 0] and not x.quality
        same(x.at[0], reactive_energy_import_varh=300.0 * wh)
        put(unit, 0x48, 1003.0)
        put(unit, 0x4A, 22.0)
        x = fake.block(m)
        assert x.energy[:2] == [3 * wh * 1000 * MWH, 2 * wh * 1000 * MWH], (setting, x.energy)
        assert x.energy_step == wh * 1000 * MWH and x.metered == 2


def test_energy_unit_is_read_again_when_energy_has_grown():
    unit, m = running("rish-3430", rish())
    settings = rtu.read(1, 3, 4, 8)
    requests = m._line._uart.requests
    fake.block(m)
    asked = requests.count(settings)
    assert asked > 0
    fake.block(m)
    assert requests.count(settings) == asked, "nothing has grown"
    put(unit, 0x48, 1001.0)
    assert fake.block(m).energy[0] == 1000 * MWH and requests.count(settings) == asked + 1


def test_change_of_the_energy_unit_is_no_energy():
    for before, after, factor in ((1.0, 2.0, 1e-3), (2.0, 1.0, 1e3)):
        unit, m = running("rish-3430", rish(before))
        fake.block(m)
        put(unit, 0x04, after, 3)
        for address, value in ((0x48, 1000.0), (0x4A, 20.0), (0x4C, 300.0), (0x4E, 40.0), (0x50, 1100.0)):
            put(unit, address, value * factor)
        x = fake.block(m)
        assert x.quality["v1"] == "bus_fault" and "unit was changed" in m.problem and not any(x.energy)
        x = fake.block(m)
        assert not x.quality and not any(x.energy)
        put(unit, 0x48, 1000.0 * factor + 1)
        wh = 1000 if after == 2.0 else 1
        assert abs(fake.block(m).energy[0] - wh * 1000 * MWH) < 0.001 * wh * 1000 * MWH


def test_unknown_energy_unit_is_not_trusted():
    for value in (0.0, 4.0, 1.5):
        unit, m = running("rish-3430", rish(value))
        x = fake.block(m)
        assert x.metered == 0 and not any(x.energy) and x.at[0]["power"] == 7203
        assert x.at[0]["reactive_energy_import_varh"] is None and "energy unit" in m.problem
        assert x.quality == {name: "bus_fault" for name in m.names if name.endswith("h")}, x.quality
        put(unit, 0x04, 2.0, 3)  # somebody sets it
        readings = [fake.block(m).metered for _ in range(2)]
        assert readings == [0, 2] and not m.reading.quality and not m.problem, readings
    unit, m = running("rish-3430", rish())
    reply = unit.reply
    unit.reply = lambda request: bytes((1, 0x83, 1)) if request[1] == 3 else reply(request)
    x = fake.block(m)
    assert x.metered == 0 and x.at[0]["power"] == 7203 and "does not tell its settings" in m.problem


def test_another_wiring_is_refused():
    unit, m = running("rish-3430", rish(system=2.0))
    x = fake.block(m)
    assert x.quality["v1"] == "bus_fault" and "needs system type 3 (3P4W), it reads 2.0" in m.problem, m.problem
    put(unit, 0x0A, 3.0, 3)
    assert not fake.block(m).quality


def test_sdm630_reading():
    unit = fake.Unit(1)
    unit.most = 80
    three_phases(unit)
    for k in range(3):
        put(unit, 0xEA + 2 * k, 1.5 + k)
        put(unit, 0xF0 + 2 * k, 9.5 + k)
        put(unit, 0x15A + 2 * k, 100.0 + k)
        put(unit, 0x160 + 2 * k, 10.0 + k)
    put(unit, 0x4C, 5.5)
    unit, m = running("sdm630", unit)
    x = fake.block(m)
    assert not x.quality and x.metered == 1 and not any(x.energy)
    same(x.at[0], voltage=232, power=7203, frequency=50.02, reactive_energy_import_varh=5500)
    same(x.at[3], voltage=233, thd_voltage=3.5, thd_current=11.5, voltage_ll=403)
    for k in range(3):
        put(unit, 0x15A + 2 * k, 100.0 + k + 0.25 * (k + 1))
        put(unit, 0x160 + 2 * k, 10.0 + k + 0.5)
    x = fake.block(m)
    assert x.energy == [0, 0] + [e * 1000 * MWH for e in (250, 500, 500, 500, 750, 500)], x.energy
    assert x.energy_step == 10 * 1000 * MWH


def test_sdm120_reading():
    unit, m = running("sdm120")
    for address, value in ((0, 229.5), (6, 4.5), (0xC, -1000.0), (0x12, 1032.0), (0x18, -250.0), (0x1E, -0.97)):
        put(unit, address, value)
    put(unit, 0x24, 166.0)
    put(unit, 0x46, 49.98)
    put(unit, 0x4A, 7.0)
    x = fake.block(m)
    assert not x.quality and x.phases == 1
    same(x.at[0], voltage=229.5, current=4.5, power=-1000, reactive_power=-250, frequency=49.98, phase_angle=-166)
    put(unit, 0x4A, 7.5)
    x = fake.block(m)
    assert x.metered == 2 and x.energy == [0, 500 * 1000 * MWH]


def test_reset_of_the_counter_is_no_wrap():
    unit, m = running("sdm120")
    put(unit, 0x48, 99999.0)
    fake.block(m)
    put(unit, 0x48, 0.25)
    assert fake.block(m).energy[0] == 250 * 1000 * MWH


def test_integers_and_scales():
    rows = "voltage 0 16 H 0.1\ncurrent 0 17 i 0.001\npower 0 19 h 10\n"
    rows += "energy_import 0 20 I 10\nenergy_export 0 22 H 0.1"
    spec = entry("sdm120")
    spec["modbus"]["map"].update({"max_registers": 20, "max_gap": 0, "function": 3, "rows": rows})
    unit, m = running("", spec=spec)
    for k, word in enumerate((2301, 0xFFFF, 0xFB2E, 0xFFF6, 0x0001, 0x0000, 0xFFFF - 1)):
        unit.registers[3, 0x10 + k] = word
    x = fake.block(m)
    assert not x.quality, x.quality
    same(x.at[0], voltage=230.1, current=-1.234, power=-100)
    unit.registers[3, 0x15] = 3
    unit.registers[3, 0x16] = 3  # it wraps
    x = fake.block(m)
    assert x.energy == [30 * 1000 * MWH, 500 * MWH], x.energy
    assert m._line._uart.requests[-1] == rtu.read(1, 3, 0x10, 7)


def test_other_word_orders():
    for order in ("CDAB", "BADC", "DCBA"):
        unit = fake.Unit(1)
        three_phases(unit, order)
        unit, m = running("sdm630", unit, spec=entry("sdm630", word_order=order))
        x = fake.block(m)
        assert not x.quality, (order, x.quality)
        same(x.at[2], voltage=232, current=12)


def test_a_wrong_word_order_does_not_pass():
    unit = fake.Unit(1)
    three_phases(unit, "CDAB")
    unit, m = running("sdm630", unit)
    x = fake.block(m)
    assert set(x.quality.values()) == {"implausible"} and x.at[1]["power"] is None, x.quality
    assert "word order" in m.problem and not any(x.energy)


def test_rounding_of_the_meter_is_no_fault():
    unit, m = running("rish-3430", rish())
    for address in (0x18, 0x3C, 0xCE, 0xE0):
        put(unit, address, 1e-13)
    x = fake.block(m)
    assert not x.quality and near(x.at[1]["reactive_power"], 0)


def test_what_is_no_number_has_a_reason():
    unit, m = running("rish-3430", rish())
    fake.block(m)
    for high, low in ((0x7FC0, 0), (0xFFFF, 0xFFFF), (0x7F80, 0), (0x4700, 0)):
        unit.registers[4, 2], unit.registers[4, 3] = high, low
        x = fake.block(m)
        assert x.quality == {"v2": "implausible"} and x.at[2]["voltage"] is None and near(x.at[1]["voltage"], 231)
    three_phases(unit)
    unit.registers[4, 0x48] = unit.registers[4, 0x49] = 0xFFFF
    x = fake.block(m)
    assert x.metered == 0 and not any(x.energy[:1])
    put(unit, 0x48, 1003.0)
    x = fake.block(m)
    assert x.metered == 2 and x.energy[0] == 3000 * MWH, "what came meanwhile is counted"


def test_a_meter_that_was_just_switched_on_is_stale():
    unit, m = running("sdm120")
    m.settle_ms = 60
    assert fake.block(m).quality["voltage"] == "stale" and m._line._uart.requests == [rtu.read(1, 4, 0, 2)]
    time.sleep_ms(80)
    assert not fake.block(m).quality


def test_dead_supply_has_no_frequency():
    unit, m = running("sdm120")
    x = fake.block(m)
    assert not x.quality and x.at[0]["voltage"] == 0 and x.at[0]["frequency"] is None


def test_rows_that_the_meter_lacks_are_left_out():
    unit, m = running("rish-3430", rish())
    unit.refuse = {0xCE, 0xD2}
    for _ in range(8):
        x = fake.block(m)
        assert near(x.at[1]["voltage"], 231) and x.quality.get("thd_v1") == "bus_fault", x.quality
    assert x.quality == {"thd_v1": "bus_fault", "thd_v3": "bus_fault"}, x.quality
    assert near(x.at[2]["thd_voltage"], 3.5) and near(x.at[0]["neutral_current"], 0.5)
    assert "illegal address" in m.problem, m.problem
    refused = m.refused
    fake.block(m)
    assert m.refused == refused, "it is not asked for them again"


def test_a_meter_without_energy_registers_leaves_power_to_count():
    unit, m = running("rish-3430", rish())
    unit.refuse = set(range(0x48, 0x54))
    for _ in range(8):
        x = fake.block(m)
        assert x.metered == 0 and near(x.at[1]["power"], 2400)
    assert near(x.at[0]["frequency"], 50.02) and x.at[0]["apparent_energy_vah"] is None


def test_a_meter_that_refuses_all_is_a_fault():
    unit, m = running("sdm630")
    unit.reply = lambda request: bytes((1, request[1] | 0x80, 2))
    for _ in range(3):
        x = fake.block(m)
        assert x.quality["v1"] == "bus_fault" and "illegal address" in m.problem
    assert len(m._groups) == 4, "nothing is learnt from that"


def test_faults_heal_and_cost_no_energy():
    unit, m = running("rish-3430", rish())
    fake.block(m)
    wire = m._line._uart
    for distort in (
        lambda a: b"",
        lambda a: a[:-2],
        lambda a: a[:-1] + bytes((a[-1] ^ 0x40,)),
        lambda a: rtu.seal(b"\x02" + a[1:-2]),
        lambda a: rtu.seal(a[:1] + bytes((a[1] | 0x80, 6))),  # busy
    ):
        wire.distort = distort
        x = fake.block(m)
        assert x.quality["v1"] == x.quality["frequency"] == "bus_fault" and x.at[1]["voltage"] is None
        assert not any(x.energy) and m.problem
        wire.distort = None
        m._rest_ms = 0
        x = fake.block(m)
        assert not x.quality and not any(x.energy), x.quality
    unit.off = True
    fake.block(m)
    put(unit, 0x48, 1003.0)  # it went on counting
    unit.off = False
    m._rest_ms = 0
    assert fake.block(m).energy[0] == 3 * 1000 * MWH


def test_late_answer_of_another_request_is_not_taken():
    unit, m = running("rish-3430", rish())
    fake.block(m)
    wire = m._line._uart
    late = [rtu.seal(unit.reply(rtu.read(1, 4, 0x28, 38)))]
    was = wire.answer
    wire.answer = lambda request: (late.pop() if late else b"") + was(request)
    put(unit, 0x00, 239.0)
    x = fake.block(m)
    assert not x.quality and near(x.at[1]["voltage"], 239) and not m.garbled


def test_two_meters_on_one_bus():
    first, second = rish(), fake.Unit(2)
    three_phases(second)
    put(second, 0x00, 240.0)
    second.most = 80
    wire = fake.Wire(lambda request: first(request) + second(request))
    specs = (entry("rish-3430"), entry("sdm630", 2, "f"))
    meters = [modbus.Meter(spec, profile(*specs), wire, time) for spec in specs]
    for m in meters:
        m.latency_ms = 10
        m.settle_ms = 0
    assert meters[0]._line is meters[1]._line
    readings = [fake.block(m) for m in meters]
    assert near(readings[0].at[1]["voltage"], 231) and near(readings[1].at[1]["voltage"], 240)
    assert fake.Pin.levels == [1, 0] * len(wire.requests)
    second.off = True
    began = time.ticks_ms()
    for _ in range(5):
        assert fake.block(meters[1]).quality["v1"] == "bus_fault"
        assert not fake.block(meters[0]).quality
    assert meters[1].timeouts == 3 and time.ticks_diff(time.ticks_ms(), began) < 2000
    second.off = False
    meters[1]._rest_ms = 0
    assert not fake.block(meters[1]).quality and meters[0].errors == 0


def test_a_meter_that_stands_still_under_load_is_stale():
    for power, expected in ((7203.0, "stale"), (0.0, None)):
        unit, m = running("rish-3430", rish())
        put(unit, 0x34, power)
        kinds = []
        for _ in range(12):
            m._last = time.ticks_ms() - 1500  # at 7.2 kW ten counts of 1 Wh are overdue after four of these
            kinds.append(fake.block(m).quality.get("v1"))
        assert kinds[:4] == [None] * 4 and kinds[-1] == expected, kinds
        put(unit, 0x48, 1001.0)
        assert not fake.block(m).quality, m.problem


def test_maps_that_are_none():
    for change in ({"map": "rish-3430"}, {"map": {"version": 2}}, {"map": {"version": 1}}):
        spec = entry("sdm120", **change)
        try:
            setup.plan(spec, profile(spec))
        except (ValueError, KeyError):
            continue
        raise AssertionError("no refusal")


def test_what_stays_in_memory_is_small():
    import gc

    spec = entry("rish-3430")
    wire = fake.Wire(rish())
    gc.collect()
    m = modbus.Meter(spec, profile(spec), wire, time)
    del spec
    fake.block(m)
    fake.block(m)
    gc.collect()
    before = gc.mem_alloc()
    fake.block(m)
    gc.collect()
    assert gc.mem_alloc() - before < 512, "a reading keeps nothing"
