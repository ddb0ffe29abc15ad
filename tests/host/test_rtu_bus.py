"""The Modbus line: when a request is complete, who hears what, and what the direction pin costs."""

from __future__ import annotations

import pytest
from gridnode_host.bench.chips.modbus_rtu import ModbusSlave, Refused, crc16, sealed
from gridnode_host.bench.rtu_bus import RtuBus
from rig_time import HandClock

BYTE_S = 10 / 9600
REQUEST = sealed(bytes.fromhex("11 04 0000 0001"))
ANSWER = sealed(bytes.fromhex("11 04 02 1234"))


class Echo(ModbusSlave):
    """Answers every function with two bytes, after 50 ms."""

    latency_s = (0.05, 0.05)
    asked: list[float]

    def _reset(self) -> None:
        self.asked = []

    def _serve(self, function: int, data: bytes, at: float) -> bytes:
        self.asked.append(at)
        if function == 5:
            raise Refused(3)
        return b"\x02\x12\x34"


class Line:
    def __init__(self, *addresses: int) -> None:
        self.clock = HandClock()
        self.bus = RtuBus(self.clock.now)
        for address in addresses:
            slave = Echo(self.clock.now, address)
            slave._reset()
            self.bus.slaves.append(slave)
        self.bus.setup(9600, "none")

    def ask(self, frame: bytes = REQUEST, wait: float = 0.2) -> bytes:
        self.bus.receive(frame)
        return self.after(wait)

    def after(self, seconds: float) -> bytes:
        self.clock.pass_(seconds)
        return self.bus.pending(self.clock.now())


def test_crc_and_frames_of_the_manuals() -> None:
    assert sealed(bytes.fromhex("01 04 0004 0002")).hex() == "010400040002300a"
    assert sealed(bytes.fromhex("01 04 04 435B4121")).hex() == "010404435b41216f9b"
    assert sealed(bytes.fromhex("01 03 000A 0002")).hex() == "0103000a0002e409"
    assert sealed(bytes.fromhex("01 10 000A 0002")).hex() == "0110000a000261ca"
    assert crc16(b"123456789") == 0x4B37


def test_answer_comes_byte_by_byte_after_silence_and_latency() -> None:
    line = Line(0x11)
    start = line.clock.time
    line.bus.receive(REQUEST)
    complete = len(REQUEST) * BYTE_S + 3.5 * BYTE_S
    assert line.after(complete + 0.05 + 0.9 * BYTE_S) == b""
    assert line.after(0.2 * BYTE_S) == ANSWER[:1]
    assert line.after(3 * BYTE_S) == ANSWER[1:4]
    assert line.after(1) == ANSWER[4:]
    assert line.bus.slaves[0].asked == pytest.approx([start + complete])  # type: ignore[attr-defined]


def test_request_in_two_parts_is_one_within_the_silence_and_two_after_it() -> None:
    line = Line(0x11)
    line.bus.receive(REQUEST[:3])
    line.clock.pass_(3 * BYTE_S + 3 * BYTE_S)
    assert line.ask(REQUEST[3:]) == ANSWER
    line.bus.receive(REQUEST[:3])
    line.clock.pass_(3 * BYTE_S + 4 * BYTE_S)
    assert line.ask(REQUEST[3:]) == b""


def test_each_slave_answers_its_address_alone() -> None:
    line = Line(0x11, 0x12)
    assert line.ask() == ANSWER
    assert line.ask(sealed(bytes.fromhex("12 04 0000 0001")))[0] == 0x12
    assert line.ask(sealed(bytes.fromhex("13 04 0000 0001"))) == b""
    assert line.ask(REQUEST[:-1] + b"\0") == b"", "a wrong CRC"
    assert line.ask(sealed(bytes.fromhex("11 05 0000 0001"))) == sealed(bytes.fromhex("11 85 03"))


def test_two_of_one_address_garble_each_other() -> None:
    line = Line(0x11, 0x11)
    assert line.ask() != ANSWER
    assert line.bus.collisions == len(ANSWER)


def test_node_that_talks_into_an_answer_garbles_its_own_request_and_the_answer_goes_on() -> None:
    line = Line(0x11)
    line.bus.receive(REQUEST)
    assert line.after((len(REQUEST) + 3.5) * BYTE_S + 0.05 + 2 * BYTE_S) == ANSWER[:2]
    assert line.ask() != ANSWER + ANSWER
    assert line.bus.collisions > 0
    assert line.bus.slaves[0].asked[1:] == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(("baudrate", "parity"), [(4800, "none"), (9600, "even")])
def test_wrong_settings_of_the_node_reach_nobody(baudrate: int, parity: str) -> None:
    line = Line(0x11)
    line.bus.setup(baudrate, parity)
    assert line.ask(wait=0.5) == b""
    line.bus.setup(9600, "none")
    assert line.ask() == ANSWER


# -- direction pin ---------------------------------------------------------------------------


def rs485() -> Line:
    line = Line(0x11)
    line.bus.use_direction_pin()
    return line


def test_with_the_pin_handled_well_all_comes_through() -> None:
    line = rs485()
    line.bus.direction(1)
    line.bus.receive(REQUEST)
    line.clock.pass_(len(REQUEST) * BYTE_S)
    line.bus.direction(0)
    assert line.after(0.2) == ANSWER
    assert line.bus.slaves[0].requests == 1  # type: ignore[attr-defined]


def test_what_is_sent_while_the_pin_is_low_is_lost() -> None:
    line = rs485()
    assert line.ask() == b""
    line.bus.direction(1)
    line.bus.receive(REQUEST)
    line.clock.pass_((len(REQUEST) - 0.5) * BYTE_S)  # half a byte too early
    line.bus.direction(0)
    assert line.after(0.2) == b""
    assert line.bus.slaves[0].requests == 0  # type: ignore[attr-defined]


def test_what_comes_while_the_pin_is_high_is_lost() -> None:
    line = rs485()
    line.bus.direction(1)
    line.bus.receive(REQUEST)
    line.clock.pass_((len(REQUEST) + 3.5 + 2.5) * BYTE_S + 0.05)
    line.bus.direction(0)
    assert line.after(0.2) == ANSWER[3:]


# -- faults ----------------------------------------------------------------------------------


def test_faults_of_a_slave() -> None:
    line = Line(0x11)
    (slave,) = line.bus.slaves
    assert isinstance(slave, ModbusSlave)

    def with_fault(name: str, rate: float = 1.0) -> bytes:
        slave.fault(name, rate)
        answer = line.ask()
        slave.clear(name)
        return answer

    for name in ("absent", "silent", "stuck_high"):
        assert with_fault(name) == b""
    assert with_fault("stuck_low") == b"\0"
    assert with_fault("wrong_id") == sealed(bytes.fromhex("12 04 02 1234"))
    crc = with_fault("crc")
    assert (crc[:-2], len(crc)) == (ANSWER[:-2], len(ANSWER)) and crc != ANSWER
    flipped = with_fault("bit_error")
    assert sum((a ^ b).bit_count() for a, b in zip(flipped, ANSWER, strict=True)) == 1
    assert len(with_fault("garbage")) == len(ANSWER)
    noisy = [with_fault("noise", 0.1) for _ in range(40)]
    assert 5 < sum(answer != ANSWER for answer in noisy) < 40
    assert len({len(answer) for answer in noisy}) > 1
    assert line.ask() == ANSWER
    with pytest.raises(ValueError, match="gremlins"):
        slave.fault("gremlins")


def test_nodes_supply_has_no_power_over_a_slave_its_own_has() -> None:
    line = Line(0x11)
    (slave,) = line.bus.slaves
    assert isinstance(slave, ModbusSlave)
    slave.power(False)
    assert line.ask() == ANSWER
    slave.brown_out()
    assert line.ask() == b""
    line.clock.pass_(1)
    assert line.ask() == ANSWER
