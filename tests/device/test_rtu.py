"""Modbus RTU frames, byte by byte, and transactions on a line that misbehaves.

Frames: Rish Master 3430 manual pp. 43-51; SDM120 as sold (wiki SolarNetwork/SDM-XXX-meters); the Modbus
specification's CRC example 02 07 -> 41 12.
"""

import asyncio
import time

import fake_modbus as fake
from gridnode.meters import rtu
from gridnode.meters.polled import BusError

VOLTS3 = bytes.fromhex("010400040002300A")
VOLTS3_ANSWER = bytes.fromhex("010404435B41216F9B")
SPEC = {"id": "m", "uart": {"id": 2, "tx": 17, "rx": 16, "baud": 9600, "de": 4}, "modbus": {"address": 1}}


def meter(answer, uart=None, unit=1, wire=None):
    wire = wire or fake.Wire(answer)
    spec = dict(SPEC)
    spec["uart"] = uart or SPEC["uart"]
    m = rtu.RtuMeter(spec, time, wire, unit)
    m.latency_ms = 20
    return wire, m


def ask(m, request, **kwargs):
    return asyncio.run(m.ask(request, **kwargs))


def fails(m, request, **kwargs):
    try:
        ask(m, request, **kwargs)
    except BusError as e:
        return str(e)
    raise AssertionError("no fault")


def test_crc():
    assert rtu.crc(b"\x02\x07") == 0x1241  # sent as 41 12
    assert rtu.crc(b"123456789") == 0x4B37
    assert rtu.crc(b"") == 0xFFFF
    assert rtu.crc(VOLTS3) == 0, "over a frame with its CRC nothing remains"
    assert rtu.crc(b"\xff\x02\x07\xff", 1, 3) == 0x1241


def test_requests():
    assert rtu.read(1, 4, 4, 2) == VOLTS3
    assert rtu.read(1, 3, 0x0A, 2) == bytes.fromhex("0103000A0002E409")
    assert rtu.write_many(1, 0x1C, bytes.fromhex("40000000")) == bytes.fromhex("0110001C00020440000000E736")
    # PZEM-004T v3: reset of unit 1 and the change of an address through 0xF8.
    assert rtu.reset_energy(1) == bytes.fromhex("01428011")
    assert rtu.write(0xF8, 2, 5)[:6] == bytes.fromhex("F80600020005")
    assert rtu.crc(rtu.write(0xF8, 2, 5)) == 0


def test_answer():
    assert rtu.answer_size(VOLTS3) == 9
    assert rtu.find(VOLTS3, VOLTS3_ANSWER) == (0, 9)
    assert rtu.payload(VOLTS3, VOLTS3_ANSWER) == bytes.fromhex("435B4121")
    request = rtu.write_many(1, 0x0A, bytes(4))
    answer = bytes.fromhex("0110000A000261CA")
    assert rtu.find(request, answer) == (0, 8) and rtu.payload(request, answer) == bytes.fromhex("000A0002")
    echo = rtu.write(1, 1, 2300)
    assert rtu.find(echo, echo) == (0, 8)
    reset = rtu.reset_energy(1)
    assert rtu.find(reset, reset) == (0, 4)


def test_exception():
    for code, word in ((1, "function"), (2, "address"), (3, "value"), (4, "device"), (11, "exception 11")):
        answer = rtu.seal(bytes((1, 0x84, code)))
        assert rtu.find(VOLTS3, answer) == (0, 5) and rtu.missing(VOLTS3, answer) == 0
        try:
            rtu.payload(VOLTS3, answer)
        except rtu.Refused as e:
            assert e.code == code and word in str(e), e
        else:
            raise AssertionError("no exception")


def test_what_is_no_answer():
    good = VOLTS3_ANSWER
    for bad in (
        b"",
        good[:-1],
        rtu.seal(b"\x02" + good[1:-2]),  # another unit
        rtu.seal(b"\x01\x03" + good[2:-2]),  # another function
        rtu.seal(b"\x01\x04\x02" + good[3:5]),  # another length: late, to an earlier request
        rtu.seal(b"\x01\x04\x06" + good[3:-2]),  # a count that is wrong
        good[:-1] + bytes((good[-1] ^ 1,)),
        good[:3] + bytes((good[3] ^ 0x80,)) + good[4:],
        rtu.seal(b"\x01\x83\x02"),  # an exception to another function
        VOLTS3,  # the request's own echo
    ):
        assert rtu.find(VOLTS3, bad) is None, bad
    write = rtu.write(1, 1, 2300)
    assert rtu.find(write, rtu.write(1, 2, 2300)) is None and rtu.find(write, rtu.write(1, 1, 2301)) is None


def test_any_unit():
    request = rtu.read(0xF8, 4, 0, 10)
    for address in (0xF8, 1, 0xF7):
        answer = rtu.seal(bytes((address, 4, 20)) + bytes(20))
        assert rtu.find(request, answer) == (0, 25), address
    assert rtu.find(request, rtu.seal(b"\x00\x04\x14" + bytes(20))) is None
    assert rtu.find(request, rtu.seal(b"\xf9\x04\x14" + bytes(20))) is None


def test_noise_around_an_answer():
    for before in (b"\x00", b"\xff\xff", b"\x01", b"\x01\x04", b"\x01\x04\x04", b"\x01\x84", VOLTS3, bytes(100)):
        data = before + VOLTS3_ANSWER + b"\x01\x04\x04\xff"
        begin, end = rtu.find(VOLTS3, data)
        assert data[begin:end] == VOLTS3_ANSWER, before
        for n in range(len(before) + 9):
            assert 0 < rtu.missing(VOLTS3, data[:n]) <= len(before) + 9 - n, (before, n)
        assert rtu.missing(VOLTS3, data) == 0


def test_missing():
    assert rtu.missing(VOLTS3, b"") == 5, "an exception has five bytes"
    assert rtu.missing(VOLTS3, VOLTS3_ANSWER[:5]) == 4
    assert rtu.missing(VOLTS3, b"\x01\x84") == 3
    assert rtu.missing(rtu.reset_energy(1), b"") == 4


def test_every_single_bit_error_is_noticed():
    for bit in range(8 * len(VOLTS3_ANSWER)):
        data = bytearray(VOLTS3_ANSWER)
        data[bit // 8] ^= 1 << bit % 8
        assert rtu.find(VOLTS3, data) is None, bit


def test_transaction():
    wire, m = meter(lambda request: VOLTS3_ANSWER)
    assert ask(m, VOLTS3) == bytes.fromhex("435B4121")
    assert wire.requests == [VOLTS3] and fake.Pin.levels == [1, 0]
    assert (m.timeouts, m.garbled, m.refused, m.errors) == (0, 0, 0, 0)
    assert wire.settings["baudrate"] == 9600


def test_answer_that_was_late_is_forgotten():
    wire, m = meter(lambda request: VOLTS3_ANSWER)
    wire.buffer = bytes(70) + rtu.seal(b"\x01\x04\x04\x00\x00\x00\x00")
    assert ask(m, VOLTS3) == bytes.fromhex("435B4121") and not wire.buffer


def test_exceptions_are_counted_and_not_repeated():
    wire, m = meter(lambda request: rtu.seal(b"\x01\x84\x02"))
    assert "illegal address" in fails(m, VOLTS3)
    assert (m.refused, m.errors, len(wire.requests)) == (1, 1, 1)
    assert "illegal address" in fails(m, VOLTS3), "it answers: no rest"
    assert len(wire.requests) == 2


def test_garbled_answer_is_asked_for_again():
    answers = [VOLTS3_ANSWER[:-1] + b"\x00", VOLTS3_ANSWER]
    wire, m = meter(lambda request: answers.pop(0))
    assert ask(m, VOLTS3) == bytes.fromhex("435B4121")
    assert (m.timeouts, m.garbled, m.errors) == (0, 1, 1)


def test_answer_that_came_while_another_task_ran_is_taken():
    wire, m = meter(lambda request: VOLTS3_ANSWER)

    async def busy():
        await asyncio.sleep_ms(5)
        time.sleep_ms(150)  # longer than the deadline of the answer

    async def both():
        task = asyncio.create_task(busy())
        data = await m.ask(VOLTS3)
        await task
        return data

    later = [0]
    was = wire.any

    def some():  # the answer comes in two parts
        later[0] += 1
        return min(5, was()) if later[0] < 3 else was()

    wire.any = some
    assert asyncio.run(both()) == bytes.fromhex("435B4121") and m.errors == 0


def test_silent_meter_is_left_alone():
    wire, m = meter(lambda request: b"")
    began = time.ticks_ms()
    assert "unit 1 is silent" in fails(m, VOLTS3)
    took = time.ticks_diff(time.ticks_ms(), began)
    assert 3 * 65 < took < 400, took  # three times latency, margin and the time of both frames
    assert len(wire.requests) == 3 and m.timeouts == 3
    began = time.ticks_ms()
    assert "unit 1 is silent" in fails(m, VOLTS3)
    assert time.ticks_diff(time.ticks_ms(), began) < 20 and len(wire.requests) == 3, "nothing was sent"
    rests = []
    for _ in range(5):
        m._rests_from = time.ticks_ms() - m._rest_ms  # the rest is over
        fails(m, VOLTS3)
        rests.append(m._rest_ms)
    assert rests == [2000, 4000, 8000, 8000, 8000] and len(wire.requests) == 8
    wire.answer = lambda request: VOLTS3_ANSWER
    m._rests_from = time.ticks_ms() - m._rest_ms
    assert ask(m, VOLTS3) and m._rest_ms == 0


def test_babbling_line_ends_by_its_deadline():
    wire, m = meter(lambda request: b"")
    wire.any = lambda: 64
    wire.read = lambda n=None: bytes(n or 64)
    began = time.ticks_ms()
    assert "garbled" in fails(m, VOLTS3)
    assert time.ticks_diff(time.ticks_ms(), began) < 900 and m.garbled == 3


def test_silent_meter_costs_the_others_its_own_timeout():
    def answer(request):
        return VOLTS3_ANSWER if request[0] == 1 else b""

    wire, good = meter(answer)
    _, dead = meter(answer, unit=2, wire=wire)
    assert good._line is dead._line
    waits = []

    async def others():
        for _ in range(20):
            began = time.ticks_ms()
            await good.ask(VOLTS3)
            waits.append(time.ticks_diff(time.ticks_ms(), began))
            await asyncio.sleep_ms(10)

    async def both():
        task = asyncio.create_task(others())
        for _ in range(20):
            try:
                await dead.ask(rtu.read(2, 4, 4, 2))
            except BusError:
                pass
            await asyncio.sleep_ms(10)
        await task

    asyncio.run(both())
    late = [ms for ms in waits if ms > 60]
    assert len(late) <= 3 and max(waits) < 150, waits
    assert good.errors == 0 and dead.timeouts == 3


def test_time_of_a_frame_counts_at_low_baud_rates():
    wire, m = meter(lambda request: b"", {"id": 1, "tx": 1, "rx": 2, "baud": 2400, "parity": "even"})
    request = rtu.read(1, 4, 0, 80)
    began = time.ticks_ms()
    fails(m, request, tries=1)
    took = time.ticks_diff(time.ticks_ms(), began)
    assert 173 * 11000 // 2400 + 50 <= took < 1100, took  # 8 and 165 bytes of 11 bits, latency, margin
