"""Reference instruments: real protocol peers, faults that must not become values, deadlines."""

from __future__ import annotations

import itertools
import json
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from gridnode_host.calibrate import references
from gridnode_host.calibrate.modbus_meter import Meter
from gridnode_host.calibrate.plan import (
    ModbusReference,
    Plan,
    ScpiLink,
    ScpiReference,
    Source,
)
from gridnode_host.calibrate.quantities import Value, typed
from gridnode_host.calibrate.references import Mean, Sampling, instruments, with_angle
from gridnode_host.calibrate.scpi import Instrument, number
from gridnode_host.errors import Exit, GridnodeError
from instrument_peers import ModbusPeer, ScpiOnPty, ScpiPeer

QUERIES = {
    "voltage": "MEAS:VOLT{phase}?",
    "current": "MEAS:CURR{phase}?",
    "power": "MEAS:POW{phase}?",
}
NOMINAL = {"voltage": 230.0, "current": 60.0, "power": 13800.0, "reactive_power": 13800.0}


def link(peer: ScpiPeer, **changes: Any) -> ScpiLink:
    return ScpiLink(peer.resource, timeout_s=changes.pop("timeout_s", 1.0), **changes)


def refused(work: Any) -> GridnodeError:
    with pytest.raises(GridnodeError) as failure:
        work()
    assert failure.value.action
    return failure.value


def test_an_instrument_says_who_it_is_and_gives_values_with_their_resolution() -> None:
    with ScpiPeer({"MEAS:VOLT1?": "+2.30125E+02"}) as peer:
        instrument = Instrument(link(peer))
        assert instrument.name == "Bench Reference 3 s/n 1234"
        assert instrument.value("MEAS:VOLT1?") == Value(230.125, pytest.approx(1e-3))
        instrument.close()


@pytest.mark.parametrize(
    "answer", ["9.9E37", "-9.9E37", "+9.91E37", "NAN", "nan", "INF", "-inf", "----", "", "1,2", "1e12"]
)
def test_what_is_no_value_is_a_fault(answer: str) -> None:
    assert number(answer) is None
    with ScpiPeer({"MEAS:VOLT1?": answer or " "}) as peer:
        instrument = Instrument(link(peer))
        err = refused(lambda: instrument.value("MEAS:VOLT1?"))
        instrument.close()
    assert err.exit == Exit.REFUSED
    assert err.fields["condition"] == "reference_value"
    assert "is no value" in err.cause


def test_a_silent_instrument_ends_in_time() -> None:
    with ScpiPeer({"*IDN?": None}) as peer:
        started = time.monotonic()
        err = refused(lambda: Instrument(link(peer, timeout_s=0.3)))
        assert time.monotonic() - started < 3
    assert err.exit == Exit.NO_NODE
    assert "*IDN?" in err.cause


def test_an_instrument_that_is_not_there_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    err = refused(lambda: Instrument(ScpiLink(f"TCPIP0::127.0.0.1::{port}::SOCKET", timeout_s=0.5)))
    assert err.exit == Exit.NO_NODE
    assert str(port) in err.cause


def test_an_instrument_that_hangs_up_is_told() -> None:
    with ScpiPeer({"MEAS:VOLT1?": "230"}) as peer:
        peer.hang_up_at = "MEAS:VOLT1?"
        instrument = Instrument(link(peer, timeout_s=0.5))
        err = refused(lambda: instrument.value("MEAS:VOLT1?"))
        instrument.close()
    assert err.exit == Exit.NO_NODE


@pytest.mark.parametrize("resource", ["nonsense", "TCPIP0::127.0.0.1::x::SOCKET", "ASRL"])
def test_a_name_that_is_none_is_usage(resource: str) -> None:
    err = refused(lambda: Instrument(ScpiLink(resource, timeout_s=0.5)))
    assert err.exit == Exit.USAGE
    assert "SOCKET" in err.action


def test_line_endings_are_those_of_the_plan() -> None:
    with ScpiPeer({"MEAS:VOLT1?": "230.0"}) as peer:
        peer.ending = b"\r\n"
        own = link(peer, read_termination="\r\n", write_termination="\r\n")
        instrument = Instrument(own)
        assert instrument.value("MEAS:VOLT1?").value == 230.0
        instrument.close()


def test_an_instrument_on_a_serial_port() -> None:
    with ScpiPeer({"MEAS:VOLT1?": "229.9"}) as peer, ScpiOnPty(peer) as port:
        instrument = Instrument(ScpiLink(port.resource, timeout_s=2.0, baud=115200))
        assert instrument.name.startswith("Bench")
        assert instrument.value("MEAS:VOLT1?").value == 229.9
        instrument.close()


def plan(peer: ScpiPeer, **changes: Any) -> Plan:
    reference = ScpiReference(link(peer), QUERIES, uncertainty_percent={"voltage": 0.02})
    commands = {
        "voltage": "SOUR:VOLT{phase} {value}",
        "current": "SOUR:CURR{phase} {value}",
        "frequency": "SOUR:FREQ {value}",
    }
    source = Source(link(peer), commands, 0.0, ("SOUR:CURR 0",))
    return Plan((), reference=reference, source=source, **changes)


def test_reference_and_source_of_one_instrument_share_its_line() -> None:
    with ScpiPeer() as peer:
        with instruments(plan(peer)) as opened:
            assert opened.source and opened.reference
            assert opened.reference.phases == 3
            load = {"current": (Value(30.0),), "voltage": (Value(230.0),), "frequency": (Value(50.0),)}
            opened.source.set(load, (1, 2, 3))
        assert peer.connections == 1
        sent = [text for text in peer.received if text.startswith("SOUR")]
        assert sent == [
            "SOUR:FREQ 50",
            *(f"SOUR:VOLT{phase} 230" for phase in (1, 2, 3)),
            *(f"SOUR:CURR{phase} 30" for phase in (1, 2, 3)),
            "SOUR:CURR 0",
        ]


def test_values_per_phase_go_to_their_phases() -> None:
    with ScpiPeer() as peer, instruments(plan(peer)) as opened:
        assert opened.source
        opened.source.set({"current": (Value(1.0), Value(2.0), Value(3.0))}, (1, 2, 3))
        opened.source.set({"current": (Value(4.5),)}, (2,))
        sent = [text for text in peer.received if text.startswith("SOUR")]
    assert sent[:4] == ["SOUR:CURR1 1", "SOUR:CURR2 2", "SOUR:CURR3 3", "SOUR:CURR2 4.5"]


def test_the_source_ends_safe_whatever_happens() -> None:
    with ScpiPeer() as peer:
        with pytest.raises(KeyboardInterrupt), instruments(plan(peer)):
            raise KeyboardInterrupt
        assert peer.received[-2:] == ["SOUR:CURR 0", "SYST:ERR?"]


def test_a_command_that_the_source_does_not_take_is_told() -> None:
    with ScpiPeer({"SYST:ERR?": '-222,"Data out of range"'}) as peer, instruments(plan(peer)) as opened:
        assert opened.source
        err = refused(lambda: opened.source.set({"voltage": (Value(9e5),)}, (1,)))  # type: ignore[union-attr]
    assert err.exit == Exit.USAGE
    assert "out of range" in err.cause
    assert "SOUR:VOLT1" in err.cause


@pytest.mark.parametrize("answer", ['0,"No error"', '+0,"No error"', "0", "No Error", '"No error"'])
def test_no_error_has_many_forms(answer: str) -> None:
    with ScpiPeer({"SYST:ERR?": answer}) as peer:
        instrument = Instrument(link(peer))
        instrument.tell("SOUR:VOLT 1")
        instrument.close()


# -- Modbus

SDM630 = {
    **{0x00 + 2 * k: 230.0 + k for k in range(3)},
    **{0x06 + 2 * k: 10.0 + k for k in range(3)},
    **{0x0C + 2 * k: 2300.0 + 100 * k for k in range(3)},
    **{0x12 + 2 * k: 2310.0 for k in range(3)},
    **{0x18 + 2 * k: 50.0 for k in range(3)},
}


def meter(url: str, **changes: Any) -> Meter:
    settings: dict[str, Any] = {"map": "sdm630", "timeout_s": 0.5, **changes}
    return Meter(ModbusReference(url, folder=Path(), **settings))


def test_a_meter_on_tcp_gives_three_phases_in_one_request() -> None:
    with ModbusPeer(SDM630) as peer:
        found = meter(peer.url)
        sample = found.read(("voltage", "current", "power"), (1, 2, 3))
        found.close()
    assert found.phases == 3
    assert {phase: value.value for phase, value in sample["voltage"].items()} == {1: 230, 2: 231, 3: 232}
    assert sample["power"][3].value == 2500.0
    assert 0 < sample["voltage"][1].resolution < 1e-4


def test_a_meter_on_a_serial_line() -> None:
    with ModbusPeer(SDM630, serial=True) as peer:
        found = meter(peer.url, timeout_s=1.0)
        assert found.read(("current",), (2,))["current"][2].value == 11.0
        found.close()


def test_a_meter_of_one_phase_stands_for_the_phase_it_is_on() -> None:
    with ModbusPeer({0x00: 229.5, 0x06: 5.0, 0x0C: 1140.0}) as peer:
        found = meter(peer.url, map="sdm120")
        assert found.phases == 1
        assert found.read(("voltage",), (2,))["voltage"][2].value == 229.5
        found.close()


@pytest.mark.parametrize(
    "words", [[0xFFFF, 0xFFFF], [0x7FC0, 0x0000], [0x7F80, 0x0000], [0xFF80, 0x0000], [0x7F7F, 0xFFFF]]
)
def test_registers_that_hold_no_value_are_a_fault(words: list[int]) -> None:
    floats = {address: value for address, value in SDM630.items() if address != 0x08}
    with ModbusPeer(floats, raw={0x08: words}) as peer:
        found = meter(peer.url)
        assert found.read(("current",), (1,))["current"][1].value == 10.0
        err = refused(lambda: found.read(("current",), (2,)))
        found.close()
    assert err.exit == Exit.REFUSED
    assert err.fields["condition"] == "reference_value"


def test_whole_numbers_have_their_scale_and_all_ones_are_none(tmp_path: Path) -> None:
    chart = {
        "version": 1, "title": "t", "source": ["s"], "phases": 1, "max_registers": 20, "max_gap": 0,
        "rows": [
            {"name": "voltage", "address": "0x00", "type": "u16", "scale": 0.1, "unit": "V"},
            {"name": "current", "address": "0x01", "type": "s32", "unit": "mA"},
            {"name": "power", "address": "0x03", "type": "s16", "unit": "W"},
        ],
    }  # fmt: skip
    (tmp_path / "own.json").write_text(json.dumps(chart))

    def read(words: list[int]) -> dict[str, dict[int, Value]]:
        with ModbusPeer({}, raw={0x00: words}) as peer:
            found = Meter(ModbusReference(peer.url, "own.json", tmp_path, timeout_s=0.5))
            try:
                return found.read(("voltage", "current", "power"), (1,))
            finally:
                found.close()

    sample = read([2301, 0x0000, 12500, 0xFFFF])
    assert sample["voltage"][1] == Value(pytest.approx(230.1), pytest.approx(0.1))
    assert sample["current"][1] == Value(pytest.approx(12.5), pytest.approx(0.001))
    assert sample["power"][1].value == -1.0  # a signed value may be that
    for words in ([0xFFFF, 0, 12500, 100], [0xFFFF] * 4):
        assert refused(lambda words=words: read(words)).exit == Exit.REFUSED  # type: ignore[misc]


def test_a_reply_of_all_ones_is_none_whatever_its_type(tmp_path: Path) -> None:
    chart = {
        "version": 1, "title": "t", "source": ["s"], "phases": 1, "max_registers": 20, "max_gap": 0,
        "rows": [{"name": "power", "address": "0x00", "type": "s32", "unit": "W"}],
    }  # fmt: skip
    (tmp_path / "own.json").write_text(json.dumps(chart))
    with ModbusPeer({}, raw={0x00: [0xFFFF, 0xFFFF]}) as peer:
        found = Meter(ModbusReference(peer.url, "own.json", tmp_path, timeout_s=0.5))
        assert "all ones" in refused(lambda: found.read(("power",), (1,))).cause
        found.close()


def test_word_order_is_that_of_the_plan() -> None:
    high, low = struct.unpack(">HH", struct.pack(">f", 230.5))
    with ModbusPeer({}, raw={0x00: [low, high, 0, 0]}) as peer:
        found = meter(peer.url, word_order="CDAB")
        assert found.read(("voltage",), (1,))["voltage"][1].value == 230.5
        found.close()


def test_registers_that_are_not_there_and_another_address_are_told() -> None:
    with ModbusPeer({0x00: 230.0}) as peer:
        found = meter(peer.url)
        assert refused(lambda: found.read(("current",), (1,))).exit == Exit.NO_NODE
        found.close()
        other = meter(peer.url, address=9, timeout_s=0.3)
        started = time.monotonic()
        err = refused(lambda: other.read(("voltage",), (1,)))
        assert time.monotonic() - started < 3
        other.close()
    assert err.exit == Exit.NO_NODE
    assert "address" in err.action


def test_a_meter_that_is_not_there_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert refused(lambda: meter(f"tcp://127.0.0.1:{port}")).exit == Exit.NO_NODE
    assert refused(lambda: meter(str(tmp_path / "ttyUSB9"))).exit == Exit.NO_NODE
    assert refused(lambda: meter("http://127.0.0.1:502")).exit == Exit.USAGE
    assert refused(lambda: meter("tcp://127.0.0.1:notaport")).exit == Exit.USAGE
    assert refused(lambda: meter("tcp://127.0.0.1:502", map="nomap")).exit == Exit.USAGE


def test_a_meter_that_is_set_up_otherwise_is_refused() -> None:
    volts = {2 * k: 230.0 for k in range(3)}
    right, wrong = (list(struct.unpack(">HH", struct.pack(">f", x))) for x in (3.0, 2.0))
    with ModbusPeer(volts, holding={0x0A: right}) as peer:
        found = meter(peer.url, map="rish-3430")
        found.close()
    with ModbusPeer(volts, holding={0x0A: wrong}) as peer:
        err = refused(lambda: meter(peer.url, map="rish-3430"))
    assert err.exit == Exit.REFUSED
    assert "system type" in err.cause


# -- sampling while the node measures


class Scripted:
    """A reference whose samples are written down."""

    name, identity, phases = "scripted", "scripted", 1
    quantities = frozenset(NOMINAL)
    uncertainty_percent: dict[str, float] = {}

    def __init__(self, **values: Iterable[float]) -> None:
        self._values = {name: iter(found) for name, found in values.items()}
        self.taken = 0

    def read(self, quantities: Iterable[str], phases: Sequence[int]) -> references.Sample:
        self.taken += 1
        return {
            name: {phase: Value(next(self._values[name]), 0.001) for phase in phases}
            for name in quantities
        }

    def close(self) -> None:
        pass


def test_the_reference_is_sampled_before_while_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "_INTERVAL_S", 0.02)
    reference = Scripted(voltage=itertools.cycle((230.0, 230.2)))
    with Sampling(reference, ("voltage",), (1,)) as sampling:
        assert reference.taken == 1
        time.sleep(0.2)
        during = reference.taken
        assert during > 2
    assert reference.taken > during
    mean = sampling.means(0.5, NOMINAL)["voltage"][1]
    assert mean.value == pytest.approx(230.1, abs=0.05)
    assert mean.spread_percent == pytest.approx(100 * 0.2 / 230.1, rel=0.01)
    assert mean.samples == reference.taken
    assert mean.resolution == 0.001
    assert 0 < mean.scatter_percent < mean.spread_percent


def test_without_time_for_samples_there_are_those_before_and_after() -> None:
    reference = Scripted(current=iter((10.0, 10.02)))
    with Sampling(reference, ("current",), (1,)) as sampling:
        pass
    assert sampling.means(0.5, NOMINAL)["current"][1].samples == 2


def test_a_reference_that_moves_is_refused_with_the_numbers() -> None:
    reference = Scripted(current=iter((10.0, 10.1)))
    with Sampling(reference, ("current",), (1,)) as sampling:
        pass
    err = refused(lambda: sampling.means(0.5, NOMINAL))
    assert err.exit == Exit.REFUSED
    assert "load moved during the step" in err.cause
    assert err.fields == {
        "condition": "reference_steady",
        "measured": pytest.approx(0.995, abs=0.01),
        "limit": 0.5,
    }
    assert sampling.means(2.0, NOMINAL)


def test_reactive_power_is_judged_by_the_apparent_power() -> None:
    reference = Scripted(power=iter((2300.0, 2301.0)), reactive_power=iter((1.0, 4.0)))
    with Sampling(reference, ("power", "reactive_power"), (1,)) as sampling:
        pass
    means = sampling.means(0.5, NOMINAL)
    assert means["reactive_power"][1].spread_percent == pytest.approx(0.13, abs=0.01)


def test_a_reference_without_load_is_not_judged_by_its_noise() -> None:
    reference = Scripted(current=iter((0.00001, 0.00003)))
    with Sampling(reference, ("current",), (1,)) as sampling:
        pass
    assert sampling.means(0.5, NOMINAL)["current"][1].spread_percent < 0.5


def test_a_failure_while_the_node_measures_is_the_failure_of_the_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(references, "_INTERVAL_S", 0.01)

    class Broken(Scripted):
        failures = 0

        def read(self, quantities: Iterable[str], phases: Sequence[int]) -> references.Sample:
            if self.taken == 1 and not self.failures:
                self.failures += 1  # afterwards it answers again
                raise GridnodeError("read", "gone", "Plug it in.", Exit.NO_NODE)
            return super().read(quantities, phases)

    with pytest.raises(GridnodeError, match="gone"):
        with Sampling(Broken(voltage=itertools.repeat(230.0)), ("voltage",), (1,)):
            time.sleep(0.2)


def test_the_angle_comes_from_both_powers() -> None:
    means = {"power": {1: Mean(1000.0)}, "reactive_power": {1: Mean(1000.0)}}
    assert with_angle(means)["phase_deg"][1].value == pytest.approx(45.0)
    known = {**means, "phase_deg": {1: Mean(0.0)}}
    assert with_angle(known)["phase_deg"][1].value == 0.0
    assert "phase_deg" not in with_angle({"power": {1: Mean(1.0)}})


# -- numbers that people type


@pytest.mark.parametrize(
    ("text", "value", "resolution"),
    [
        ("12.5", 12.5, 0.1),
        ("12,50", 12.5, 0.01),
        (" 230 ", 230.0, 1.0),
        ("230V", 230.0, 1.0),
        ("1,234", 1.234, 0.001),
        ("-0.5 v", -0.5, 0.1),
        (".5", 0.5, 0.1),
    ],
)
def test_numbers_with_point_or_comma(text: str, value: float, resolution: float) -> None:
    assert typed(text, "voltage") == Value(value, pytest.approx(resolution))


@pytest.mark.parametrize(
    "text", ["", "abc", "1.234,5", "1 234", "1e3", "nan", "inf", "--1", "12.5 A", "12.5kV", "٣", "1" * 400]
)
def test_what_is_no_number_says_what_to_write(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        typed(text, "voltage")
