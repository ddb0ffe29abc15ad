"""Random and mutated frames for every codec of a serial line, and lines that distort them for every driver.

For each codec: nothing escapes, a frame is taken only if its checksum is right by the test's own arithmetic, a whole
one is never overlooked, and after a disturbance the second good frame at the latest is found. All is seeded: what
fails once fails again.
"""

import json
import math
import random

from fake_uart import Time, Uart, run
from gridnode.meters import bl0942, cse7766, modbus, pzem004t, rtu
from harness import fixtures

FIXTURES = ("modbus_maps", "fuzz_frames")
TIMEOUT_S = 300

PROFILE = {"nominal": {"voltage": 230, "frequency": 50}, "rating": {"current": 16}}


def count():
    """Frames per codec: 100,000 unless $FUZZ_FRAMES says otherwise."""
    return fixtures["fuzz_frames"]


def any_bytes(n):
    return bytes([random.getrandbits(8) for _ in range(n)])


def mutated(frame):
    """The frame with one of the things that happen on a wire."""
    kind = random.randrange(10)
    at = random.randrange(len(frame))
    if kind < 3:  # one to three bits
        out = bytearray(frame)
        for _ in range(kind + 1):
            out[random.randrange(len(out))] ^= 1 << random.randrange(8)
        return bytes(out)
    if kind == 3:  # a byte lost
        return frame[:at] + frame[at + 1 :]
    if kind == 4:  # a byte too many
        return frame[:at] + any_bytes(1) + frame[at:]
    if kind == 5:  # cut off
        return frame[:at]
    if kind == 6:  # begun in the middle
        return frame[at:]
    if kind == 7:  # another's bytes in its place
        return any_bytes(random.randrange(2 * len(frame)))
    if kind == 8:  # a dead line
        return bytes((random.choice((0, 0xFF)),)) * len(frame)
    other = random.randrange(len(frame))  # two bytes changed places: a sum does not see it
    out = bytearray(frame)
    out[at], out[other] = out[other], out[at]
    return bytes(out)


def told(codec, tried, accepted, altered):
    print("%s: %d frames, %d accepted, of them %d altered with a right checksum" % (codec, tried, accepted, altered))
    assert accepted > tried // 10


def bl_packet(command, body=None):
    body = b"\x55" + (body or any_bytes(21))
    return body + bytes((255 - (command + sum(body)) % 256,))


def bl_places(command, data):
    """Where a packet with a right checksum begins."""
    return [
        k for k in range(len(data) - 22) if data[k] == 0x55 and (sum(data[k : k + 23]) + command) % 256 == 255
    ]


def test_bl0942_packets():
    random.seed(942)
    accepted = altered = 0
    tried = count()
    for n in range(tried):
        address = n & 3
        good = bl_packet(0x58 | address)
        bad = mutated(good) if n % 3 else good
        data = (any_bytes(n % 7) + bad) if n % 2 else bad
        found = bl0942.find_packet(bytes((0x58 | address, 0xAA)), data)
        places = bl_places(0x58 | address, data)
        if not places:
            assert found is None, data
            continue
        assert found == data[places[0] : places[0] + 23], data
        accepted += 1
        altered += found != good
        i, v, watt, pulses, period, status = bl0942.decode(found)
        assert 0 <= i < 1 << 24 and 0 <= v < 1 << 24 and -(1 << 23) <= watt < 1 << 23
        assert 0 <= pulses < 1 << 24 and 0 <= period < 1 << 16 and 0 <= status < 1 << 16
        assert abs(bl0942.counted(random.getrandbits(24), pulses, watt)) <= 1 << 23
    told("BL0942 packet", tried, accepted, altered)


def test_bl0942_registers():
    random.seed(19)
    accepted = altered = 0
    tried = count()
    for n in range(tried):
        command = bytes((0x58 | n & 3, random.getrandbits(5)))
        value = random.getrandbits(24)
        body = value.to_bytes(3, "little")
        good = body + bytes((255 - (sum(command) + sum(body)) % 256,))
        data = mutated(good) if n % 3 else good
        found = bl0942.register_value(command, data)
        right = len(data) == 4 and (sum(command) + sum(data)) % 256 == 255
        assert (found is not None) == right, (command, data)
        if right:
            accepted += 1
            altered += found != value
            assert found == data[0] + 256 * data[1] + 65536 * data[2]
    told("BL0942 register", tried, accepted, altered)


def cse_frame(state=0x55, body=None):
    body = body or any_bytes(21)
    return bytes((state, 0x5A)) + body + bytes((sum(body) % 256,))


def cse_right(frame):
    state = frame[0]
    return (
        len(frame) == 24
        and frame[1] == 0x5A
        and (state in (0x55, 0xAA) or state // 16 == 15)
        and sum(frame[2:23]) % 256 == frame[23]
    )


def test_cse7766_stream():
    """A stream of good frames in twos and threes, and between them what is none."""
    random.seed(7766)
    stream = cse7766.Stream()
    seen = []
    accepted = altered = tried = missed = 0
    while tried < count():
        bad = mutated(cse_frame(random.choice((0x55, 0xAA, 0xF2, 0xFC)))) if tried % 5 else any_bytes(tried % 90)
        good = [cse_frame(random.choice((0x55, 0xAA, 0xF1, 0xF2))) for _ in range(random.randrange(2, 4))]
        tried += 1 + len(good)
        data = bad + b"".join(good)
        while data:
            n = random.randrange(1, cse7766.CHUNK + 1)
            stream.feed(data[:n], lambda frame: seen.append(bytes(frame)))
            data = data[n:]
        for frame in seen:
            assert cse_right(frame), frame
            for k in (2, 5, 8, 11, 14, 17):
                assert 0 <= cse7766.field(frame, k) < 1 << 24
            assert 0 <= cse7766.pulses(frame) < 1 << 17 and 0 <= cse7766.trouble(frame[0]) < 16
            altered += frame not in good
        accepted += len(seen)
        missed += good[0] not in seen
        for frame in good[1:]:
            assert frame in seen, "not in step with the second good frame"
        seen.clear()
    told("CSE7766 stream", tried, accepted, altered)
    assert missed < tried // 50, missed


def crc16(data):
    """CRC-16/MODBUS bit by bit."""
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return bytes((value % 256, value // 256))


def exchanges():
    """Requests of all kinds, each with a few answers and an exception."""
    pairs = []
    for unit, function, n in ((1, 4, 2), (1, 4, 10), (17, 3, 1), (247, 4, 40), (5, 3, 60)):
        head = bytes((unit, function))
        bodies = [head + bytes((2 * n,)) + any_bytes(2 * n) for _ in range(6)] + [bytes((unit, function | 0x80, 2))]
        pairs.append((rtu.read(unit, function, 0x48, n), [body + crc16(body) for body in bodies]))
    for request in (rtu.write(1, 2, 5), rtu.write_many(1, 0x1C, b"\x40\x00\x00\x00"), rtu.reset_energy(1)):
        echo = request[: min(6, len(request) - 2)]
        bodies = [echo, bytes((1, request[1] | 0x80, 4))]
        pairs.append((request, [body + crc16(body) for body in bodies]))
    return pairs


def test_modbus_answers():
    random.seed(485)
    accepted = altered = 0
    tried = count()
    pairs = exchanges()
    for request, _ in pairs:
        assert crc16(request[:-2]) == request[-2:]
    for n in range(tried):
        request, answers = pairs[n % len(pairs)]
        good = random.choice(answers)
        bad = mutated(good) if n % 3 else good
        data = any_bytes(n % 5) + bad if n % 2 else bad
        accepted, altered = _judge(request, data, good, accepted, altered)
        if n % 16 == 0:  # behind what is none, a good one is found, be it the second
            span = rtu.find(request, data + good)
            assert span and _right(request, (data + good)[span[0] : span[1]])
            assert rtu.missing(request, data + good) == 0
    told("Modbus RTU", tried, accepted, altered)


def _right(request, frame):
    return (
        frame[0] == request[0]
        and frame[1] & 0x7F == request[1]
        and len(frame) == (5 if frame[1] & 0x80 else rtu.answer_size(request))
        and crc16(frame[:-2]) == frame[-2:]
    )


def _judge(request, data, good, accepted, altered):
    span = rtu.find(request, data)
    missing = rtu.missing(request, data)
    if span is None:
        assert 0 < missing <= rtu.answer_size(request) + 5, missing
        assert good not in data, "a whole frame was overlooked"
        return accepted, altered
    frame = data[span[0] : span[1]]
    assert _right(request, frame) and missing == 0, (request, frame)
    try:
        payload = rtu.payload(request, frame)
    except rtu.Refused as e:
        assert frame[1] & 0x80 and e.code == frame[2]
    else:
        assert payload in frame
    return accepted + 1, altered + (frame != good)


def test_pzem_values():
    random.seed(4)
    for _ in range(count()):
        v, i, p, energy, f, pf, alarm = pzem004t.values(any_bytes(20))
        assert 0 <= v <= 6553.6 and 0 <= i < 4294968 and 0 <= p < 429496832 and 0 <= energy < 1 << 32
        assert 0 <= f <= 6553.6 and 0 <= pf <= 655.36 and alarm in (True, False)
        assert pzem004t.plausible(v, i, p, f, pf) in (True, False)


def test_mapped_values():
    random.seed(3430)
    orders = [bytes(o) for o in ((0, 1, 2, 3), (2, 3, 0, 1), (1, 0, 3, 2), (3, 2, 1, 0))]
    edges = (b"\x7f\xc0\x00\x00", b"\x7f\x80\x00\x00", b"\xff\x80\x00\x00", b"\x80\x00\x00\x00", b"\x00\x00\x00\x01")
    for n in range(count()):
        data = any_bytes(4) if n % 4 else random.choice(edges) if n % 8 else any_bytes(1) * 4
        kind, order = n % len(modbus.KINDS), random.choice(orders)
        value = modbus.number(data, 0, kind, order)
        assert value is None or (value == value and abs(value) <= 3.5e38), data
        uj = modbus.total(data, 0, kind, order, 3600000)
        assert uj is None or (isinstance(uj, int) and uj >= 0), data


class Meter:
    """Behind a line that distorts some answers; `answer(frame)` is the good one."""

    def __init__(self, answer):
        self.answer = answer
        self.share = 0.0

    def hear(self, frame):
        good = self.answer(frame)
        if not good or random.random() >= self.share:
            return good
        bad = mutated(good)
        return bad + good if random.getrandbits(1) else bad


def finite(x):
    for k, values in enumerate(x.at):
        for name, value in values.items():
            assert value is None or (value == value and abs(value) < 1e12), (k, name, value)
    for uj in x.energy:
        assert isinstance(uj, int) and uj >= 0, x.energy


def survive(make, answer, blocks, good, rest_ms=10000):
    """Readings of a driver on a good, a bad, a hopeless and again a good line; `good` judges one without a reason."""
    time = Time()
    device = Meter(answer)
    meter = make(Uart(time, device), time)
    meter.start(None)
    judged = 0
    for n in range(blocks):
        device.share = (0.0, 0.2, 0.6, 1.0)[n // 8 % 4]
        if device.share == 0.0 and n % 8 == 0:
            time.ms += rest_ms  # a meter that did not answer is left alone for a while
        time.ms += 1000
        x = run(meter.block())
        finite(x)
        if n % 8 > 2 and not device.share:
            assert not x.quality, (n, x.quality, meter.problem)
        if not x.quality:
            judged += 1
            assert good(x.at[0]), (n, x.at)
    assert judged > blocks // 4, judged
    return meter


def test_bl0942_driver():
    random.seed(1)
    state = {"count": 0, "mode": 0x87}

    def answer(frame):
        if frame == b"\x58\xaa":
            state["count"] += 1
            body = b""
            for value in (2512130 + state["count"] // 4 % 9, 3653159, 0, 716910, state["count"] // 4, 20000):
                body += value.to_bytes(3, "little")
            return bl_packet(0x58, body + b"\x00\x00\x00")
        if frame[0] == 0x58:
            body = bytes(({0x19: state["mode"], 0x14: 11, 0x17: 3, 0x1A: 2}.get(frame[1], 0), 0, 0))
            return body + bytes((255 - (sum(frame) + sum(body)) % 256,))
        if frame[:2] == b"\xa8\x19":
            state["mode"] = frame[2]
        return b""

    spec = {"id": "m", "uart": {"id": 2, "tx": 17, "rx": 16, "baud": 4800}}
    spec["voltage"], spec["current"] = [{"mv_per_v": 0.26147}], [{"shunt_mohm": 1}]
    meter = survive(
        lambda machine, time: bl0942.Meter(spec, PROFILE, machine, time),
        answer,
        count() // 50,
        lambda flat: abs(flat["voltage"] - 230) < 0.1 and abs(flat["power"] - 1150) < 0.5,
    )
    assert meter.errors


def test_cse7766_driver():
    random.seed(2)

    class Talker:
        """Sends good frames, and others as often as `share` says."""

        share = 0.0
        sent = 0.0
        pulses = 0

        def hear(self, data):
            return b""

        def tick(self, ms):
            out = b""
            while ms - self.sent >= 55:
                self.sent += 55
                self.pulses = (self.pulses + 2) & 0xFFFF
                body = b""
                for value in (191200, 831, 16140, 16140 + self.pulses % 50, 5364000, 23322):
                    body += value.to_bytes(3, "big")
                good = cse_frame(0x55, body + bytes((0x71,)) + self.pulses.to_bytes(2, "big"))
                out += mutated(good) if random.random() < self.share else good
            return out

    time = Time()
    talker = Talker()
    talker.sent = time.ms
    spec = {"id": "m", "uart": {"id": 2, "tx": 17, "rx": 16, "baud": 4800, "parity": "even"}}
    spec["voltage"], spec["current"] = [{"mv_per_v": 1}], [{"shunt_mohm": 1}]
    meter = cse7766.Meter(spec, PROFILE, Uart(time, talker), time)
    meter.start(None)
    judged = 0
    for n in range(count() // 50):
        talker.share = (0.0, 0.1, 0.6, 1.0)[n // 8 % 4]
        time.ms += 1000
        x = run(meter.block())
        finite(x)
        if n % 8 > 1 and not talker.share:
            assert not x.quality, (n, x.quality, meter.problem)
        if not x.quality and not talker.share:
            judged += 1
            assert abs(x.at[0]["voltage"] - 230) < 0.5 and abs(x.at[0]["power"] - 230) < 0.5, (n, x.at)
    assert judged and meter.errors


def registers(words):
    """Answers of a unit 1 whose input and holding registers are words(address)."""

    def answer(request):
        if crc16(request[:-2]) != request[-2:] or request[1] not in (3, 4):
            return b""
        start, n = request[2] << 8 | request[3], request[4] << 8 | request[5]
        body = bytes((1, request[1], 2 * n))
        for k in range(n):
            body += words(start + k, request[1]).to_bytes(2, "big")
        return body + crc16(body)

    return answer


def test_pzem_driver():
    random.seed(3)
    state = {"n": 0}
    good = (2304, 1000, 0, 2304, 0, 0, 0, 500, 100, 0)

    def words(address, function):
        state["n"] += 1
        if address == 5:
            return state["n"] // 100  # Wh
        return good[address] + (state["n"] // 10 % 5 if address == 1 else 0)  # mA

    spec = {"id": "m", "uart": {"id": 2, "tx": 17, "rx": 16, "baud": 9600}, "modbus": {"address": 1}}
    survive(
        lambda machine, time: pzem004t.Meter(spec, PROFILE, machine, time),
        registers(words),
        count() // 100,
        lambda flat: abs(flat["voltage"] - 230.4) < 0.01 and abs(flat["power"] - 230.4) < 0.01,
    )


def test_mapped_driver():
    """Every map of the product, on a meter whose registers hold small floats."""
    for name in sorted(fixtures["modbus_maps"]):
        random.seed(5)
        spec = {"id": "m", "uart": {"id": 2, "tx": 17, "rx": 16, "baud": 9600}, "modbus": {"address": 1}}
        spec["modbus"]["map"] = json.loads(fixtures["modbus_maps"][name])
        state = {"n": 0}

        def words(address, function):
            # 1.0 and a little, or the settings of a Rish Master: energy in Wh, three phases
            if function == 3:
                return 0x4040 if address == 0x0A else 0 if address % 2 else 0x3F80
            state["n"] += 1  # noqa: B023
            return state["n"] // 3000 % 256 if address % 2 else 0x3F80  # noqa: B023

        survive(
            lambda machine, time: modbus.Meter(spec, PROFILE, machine, time),  # noqa: B023
            registers(words),
            count() // 400,
            lambda flat: all(value is None or not math.isnan(value) for value in flat.values()),
        )


def test_the_tests_own_arithmetic():
    assert crc16(b"\x02\x07") == b"\x41\x12"  # of the Modbus specification
    assert crc16(bytes.fromhex("010404435B4121")) == bytes.fromhex("6F9B")  # of the Rish manual
    assert cse_right(bytes.fromhex("555A02F7600003AB00401002605D51A65803E9EF710B7A36"))  # as published
    assert bl_places(0x58, bytes.fromhex("5502552627be370000006ef00ad20400204e000000000d")) == [0]
