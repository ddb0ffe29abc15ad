"""MQTT session against scripted bytes: framing, acks, long messages, lost peers, no growth."""

import gc

import umqtt.simple
from fake_link import FakeLink, FakeTime, message, packet, word
from gridnode import mqtt
from gridnode.fault import Fault

CONNACK = b"\x20\2\0\0"
clock = mqtt.time = FakeTime()


def make(connect=True):
    link = FakeLink()
    s = mqtt.Session("node-1", link)
    s.got = []
    s.acks = []
    s.on_message = lambda topic, data, offset, total: s.got.append(
        (topic, bytes(data), offset, total, s.flags)
    )
    s.on_ack = lambda token, delivered: s.acks.append((token, delivered))
    if connect:
        s.begin()
        link.inbox = CONNACK
        s.step()
        assert s.connected
        link.packets()
    return s, link


def fault(code, call, *args):
    try:
        call(*args)
    except Fault as e:
        assert e.code == code, (e.code, e.message)
        return e
    raise AssertionError("no fault " + code)


def late(s):
    clock.now += s.timeout_ms + 1


# -- connect


def test_connect_packet_is_whole_in_the_buffer():
    s, link = make(False)
    kept = umqtt.simple.socket
    s.begin()
    assert umqtt.simple.socket is kept
    assert not link.sent
    link.flush()
    assert link.packets() == [(0x10, b"\0\4MQTT\4\2\0\x3c\0\6node-1")]


def test_will_and_persistent_session():
    s, link = make(False)
    s.will = (b"dt/x/status", b"gone")
    s.begin(clean=False)
    link.flush()
    body = link.packets()[0][1]
    assert body[7] == 0x04 | 1 << 3, body
    assert body.endswith(b"\0\x0bdt/x/status\0\4gone")


def test_begin_again_after_a_lost_connection():
    s, link = make()
    s.publish(b"t", b"x", qos=1)
    s.disconnect()
    s.begin()
    link.flush()
    assert [p[0] for p in link.packets()][-1:] == [0x10]
    assert not s.connected and not s.subscribed


def test_session_present():
    s, link = make(False)
    s.begin()
    link.inbox = b"\x20\2\1\0"
    s.step()
    assert s.connected and s.present


def test_refused():
    s, link = make(False)
    s.begin()
    link.inbox = b"\x20\2\0\5"
    assert "authorised" in fault("mqtt_refused", s.step).message
    s.begin()
    link.inbox = b"\x20\2\0\x97"
    fault("mqtt_refused", s.step)


def test_no_connack():
    s, link = make(False)
    s.begin()
    late(s)
    s.step()  # its own time begins here: the link had its own to open
    late(s)
    fault("mqtt_timeout", s.step)


def test_end_of_stream():
    s, link = make()
    link.ends = True
    fault("closed", s.step)


# -- publish


def test_publish_leaves_in_one_piece_and_is_acknowledged():
    s, link = make()
    token = s.publish(b"a/b", b"payload", qos=1)
    assert link.room() < link.size and not link.sent
    s.step()
    assert link.packets() == [(0x32, b"\0\3a/b" + word(s.pid) + b"payload")]
    link.inbox = b"\x40\2" + word(s.pid)
    s.step()
    assert s.acks == [(token, True)]
    assert not s.waiting()


def test_long_publish_has_a_right_length():
    s, link = make()
    s.publish(b"t" * 100, b"x" * 1000, qos=1)
    s.step()
    ((head, body),) = link.packets()
    assert head == 0x32 and len(body) == 2 + 100 + 2 + 1000


def test_qos_0_and_retain():
    s, link = make()
    assert s.publish(b"a", b"x", retain=True) == 0
    s.step()
    assert link.packets() == [(0x31, b"\0\1ax")]
    assert not s.acks


def test_publish_that_can_never_fit():
    s, link = make()
    long = b"x" * 4096
    for arguments in ((b"t", long, False, 1), (b"t", long, False, 0, True), (b"t", b"", False, 2)):
        try:
            s.publish(*arguments)
        except ValueError:
            continue
        raise AssertionError(arguments)


def test_long_publish_is_lent_not_copied():
    s, link = make()
    link.stuck = True
    payload = memoryview(bytearray(b"x" * 5000))
    token = s.publish(b"t", payload, qos=1, lend=True)
    assert link.lent is payload and s.waiting()
    assert s.publish(b"t", b"after", qos=1) is None  # nothing but acks gets in before it has left
    link.stuck = False
    late(s)
    link.inbox = message(b"t", b"x", 9)
    s.step()
    s.step()
    first, ack, again = link.packets()
    assert first == (0x32, b"\0\1t" + word(s.pid) + bytes(payload))
    assert ack == (0x40, b"\0\x09")
    assert again == (0x3A, first[1])
    s.withdraw(token)
    assert link.given_back == 1 and s.acks == [(token, False)]
    assert s.publish(b"t", b"short", qos=1, lend=True)
    assert not link.lent


def test_publish_without_room_or_connection():
    s, link = make()
    link.stuck = True
    assert s.publish(b"t", b"x" * 3000, qos=1)
    assert s.publish(b"t", b"x" * 3000, qos=1) is None
    s.disconnect()
    assert s.publish(b"t", b"x", qos=1) is None
    assert s.acks == [(1, False)]


def test_flight_is_bounded_and_order_of_acks_free():
    s, link = make()
    tokens = [s.publish(b"t", b"%d" % i, qos=1) for i in range(mqtt.IN_FLIGHT + 1)]
    assert tokens[-1] is None and None not in tokens[:-1]
    s.step()
    ids = [p[1][3:5] for p in link.packets()]
    link.inbox = b"".join(b"\x40\2" + i for i in reversed(ids))
    s.step()
    assert s.acks == [(t, True) for t in reversed(tokens[:-1])]
    assert s.publish(b"t", b"", qos=1)


def test_stray_ack_leaves_the_stream_in_step():
    s, link = make()
    link.inbox = b"\x40\2\x12\x34" + message(b"t", b"x")
    s.step()
    assert s.late == 1 and len(s.got) == 1


def test_packet_ids_wrap_and_skip_those_in_flight():
    s, link = make()
    s.pid = 65533
    first = s.publish(b"t", b"", qos=1)
    assert s.pid == 65534 and first
    s.publish(b"t", b"", qos=1)
    s.publish(b"t", b"", qos=1)
    assert s.pid == 1
    s.pid = 65533
    s.publish(b"t", b"", qos=1)
    assert s.pid == 2


def test_packet_id_of_a_waiting_subscribe_is_not_used():
    s, link = make()
    s.subscribe([b"a"])
    s.step()
    s.pid -= 1
    s.publish(b"t", b"", qos=1)
    s.step()
    sub, publish = link.packets()
    assert sub[1][:2] != publish[1][3:5]


def test_unacknowledged_publish_is_repeated_as_duplicate_then_given_up():
    s, link = make()
    token = s.publish(b"t", b"x", retain=True, qos=1)
    s.step()
    for _ in range(2):
        late(s)
        link.inbox = b"\xd0\0"
        s.step()
    sent = link.packets()
    assert [p[0] for p in sent] == [0x33, 0x3B, 0x3B]
    assert len({p[1] for p in sent}) == 1
    late(s)
    link.inbox = b"\xd0\0"
    fault("mqtt_timeout", s.step)
    s.disconnect()
    assert s.acks == [(token, False)]


def test_publish_from_a_handler():
    s, link = make()
    s.on_message = lambda *a: s.publish(b"answer", b"y", qos=1)
    link.inbox = message(b"t", b"x", 9) + message(b"t", b"x", 10)
    s.step()
    assert [p[0] for p in link.packets()] == [0x32, 0x40, 0x32, 0x40]


# -- receive


def gather(s):
    """Payloads by topic, put together from their pieces."""
    whole = {}

    def take(topic, data, offset, total):
        text = whole.setdefault(topic, bytearray())
        assert offset == len(text)
        text.extend(data)
        assert len(text) <= total
        assert topic != b"d" or (s.flags & 9 == 9 and total == 5000)

    s.on_message = take
    return whole


def test_messages_in_any_pieces():
    stream = message(b"a", b"") + message(b"b/c", b"x" * 200, 7) + b"\xd0\0"
    stream += message(b"d", b"y" * 5000, 0x1234, 9) + message(b"e", b"last")
    for chunk in (None, 1, 2, 3, 100, 1023):
        s, link = make()
        whole = gather(s)
        link.inbox = stream
        link.chunk = chunk
        while link.inbox:
            s.step()
        assert s.handler_error is None
        assert whole == {b"a": b"", b"b/c": b"x" * 200, b"d": b"y" * 5000, b"e": b"last"}
        assert link.packets() == [(0x40, b"\0\7"), (0x40, b"\x12\x34")], chunk
        assert not s.waiting()


def test_short_messages_come_whole():
    s, link = make()
    link.chunk = 1
    link.inbox = message(b"a", b"z" * 200)
    while link.inbox:
        s.step()
    assert s.got == [(b"a", b"z" * 200, 0, 200, 0)]


def test_giant_message_is_dropped_but_acknowledged():
    s, link = make()
    size = mqtt.MAX_MESSAGE + 5000
    length = size + 5
    link.inbox = bytes((0x32, length & 0x7F | 0x80, length >> 7 & 0x7F | 0x80, length >> 14))
    link.inbox += b"\0\1a\0\5"
    while size:
        link.inbox += bytes(min(size, 1000))
        size -= min(size, 1000)
        s.step()
    link.inbox = message(b"b", b"x")
    s.step()
    assert s.dropped == 1
    assert [g[0] for g in s.got] == [b"b"]
    assert link.packets() == [(0x40, b"\0\5")]


def test_handler_that_raises():
    s, link = make()

    def bad(*_):
        raise KeyError("x")

    s.on_message = bad
    link.inbox = message(b"t", b"x", 9)
    s.step()
    assert isinstance(s.handler_error, KeyError)
    assert link.packets() == [(0x40, b"\0\x09")]


def test_reads_stop_at_the_end_of_a_packet():
    s, link = make()
    link.inbox = message(b"t", b"x") + b"\xd0\0" + message(b"t", b"x" * 200)
    ends = []
    read = link.readinto

    def readinto(buf):
        n = read(buf)
        ends.append((n, len(buf)))
        return n

    link.readinto = readinto
    s.step()
    s.step()
    assert len(s.got) == 2
    assert all(n == asked or n == 0 for n, asked in ends), ends


def test_cut_message_is_not_delivered():
    s, link = make()
    link.inbox = message(b"t", b"command")[:6]
    link.ends = True
    fault("closed", s.step)
    assert not s.got


def test_rest_of_a_packet_does_not_come():
    s, link = make()
    link.inbox = message(b"t", b"x" * 4000)
    link.chunk = 1

    def dribble():
        for _ in range(50):
            s.step()
            clock.now += s.timeout_ms // 40

    fault("mqtt_timeout", dribble)


def steps(s):
    for _ in range(5):
        s.step()


def test_malformed_packets():
    for data in (
        b"\x30\xff\xff\xff\xff\1",
        b"\x30\3\0\5a",
        b"\x30\1\0",
        b"\x32\3\0\1a",
        b"\x34\5\0\1a\0\1",
        b"\x40\3\0\1\2",
        b"\x00\0",
        b"\x82\x80\x40" + b"x" * 20,
        b"\x30\x84\x40\x20\x01" + b"t" * 1100,
    ):
        s, link = make()
        link.inbox = data
        fault("mqtt_protocol", steps, s)
        assert not s.got


# -- subscribe and keep-alive


def test_subscribe_in_one_packet():
    s, link = make()
    topics = [b"a" * 60, b"b" * 60, b"c" * 60]
    s.subscribe(topics)
    s.step()
    ((head, body),) = link.packets()
    assert head == 0x82
    assert body[2:] == b"".join(word(60) + t + b"\1" for t in topics)
    link.inbox = packet(0x90, body[:2] + b"\1\1\0")
    s.step()
    assert s.subscribed


def test_subscribe_refused_or_unanswered():
    s, link = make()
    s.subscribe([b"a", b"b"])
    link.inbox = packet(0x90, word(s.pid) + b"\1\x80")
    assert "b" in fault("subscribe_refused", s.step).message
    s, link = make()
    s.subscribe([b"a"])
    late(s)
    link.inbox = b"\xd0\0"
    fault("mqtt_timeout", s.step)


def test_suback_of_another_packet():
    s, link = make()
    s.subscribe([b"a"])
    link.inbox = packet(0x90, word(s.pid + 1) + b"\1")
    s.step()
    assert not s.subscribed and s.late == 1


def pings(s, link, seconds):
    for _ in range(seconds):
        s.publish(b"t", b"x")  # sending alone is no sign of life
        s.step()
        clock.now += 1000
    return [p[0] for p in link.packets()].count(0xC0)


def test_ping_when_nothing_comes_in_and_death_without_answer():
    s, link = make()
    assert pings(s, link, 30) == 0
    assert pings(s, link, 3) == 1
    link.inbox = b"\xd0\0"
    assert pings(s, link, 30) == 0
    assert pings(s, link, 3) == 1
    assert "PINGRESP" in fault("mqtt_timeout", lambda: pings(s, link, 30)).message


def test_incoming_alone_does_not_keep_a_session_alive_at_the_broker():
    s, link = make()
    for _ in range(40):
        link.inbox = message(b"t", b"x")
        s.step()
        clock.now += 1000
    assert 0xC0 in [p[0] for p in link.packets()]


def test_disconnect_says_goodbye_and_never_raises():
    s, link = make()
    s.disconnect()
    assert link.packets() == [(0xE0, b"")] and link.closed
    s, link = make()
    link.size = 0
    s.disconnect()
    assert link.closed and not s.connected


# -- memory


def test_no_growth():
    s, link = make()
    s.on_message = lambda *_: None
    s.on_ack = None
    payload = b"x" * 600
    stream = message(b"t" * 40, b"y" * 2000, 5) + b"\x40\2"

    def cycle():
        assert s.publish(b"t", payload, qos=1)
        s.step()
        link.inbox = stream + word(s.pid)
        while link.inbox:
            s.step()
        link.packets()

    for _ in range(5):
        cycle()
    gc.collect()
    before = gc.mem_alloc()
    for _ in range(100):
        cycle()
    gc.collect()
    growth = gc.mem_alloc() - before
    assert growth < 100 * 8, growth  # a leak would be a block (16 bytes) or more each
