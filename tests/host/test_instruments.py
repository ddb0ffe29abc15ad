"""Instruments of a bench: a SCPI instrument and a Modbus reference meter on real sockets."""

from __future__ import annotations

import json
import math
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import pyvisa
from gridnode_host import resources
from gridnode_host.bench import frontend
from gridnode_host.bench.clock import RigClock, SteppedClock
from gridnode_host.bench.environment import Environment
from gridnode_host.bench.instruments import Instruments
from gridnode_host.bench.reference import UNCERTAINTY_PERCENT
from gridnode_host.bench.rig_node import RigNode
from gridnode_host.bench.solo import Solo
from gridnode_host.bench.supply import Supply
from gridnode_host.bench.tolerance import Tolerance
from gridnode_host.bench.wiring import Wiring
from pymodbus.client import ModbusTcpClient

MAPS = Path(__file__).parents[2] / "boards" / "maps"
WITHIN = UNCERTAINTY_PERCENT / 100


class Bench:
    """A front end without a node, its surroundings, its instruments."""

    def __init__(self, name: str = "home-3ph-ct", seed: int = 0) -> None:
        profile = resources.profile(name)
        self.clock = SteppedClock()
        self.circuit = frontend.circuit(profile, self.clock)
        self.wiring, self.environment = Wiring(), Environment()
        frontend.wire(profile, self.circuit, self.wiring, self.environment, ideal=True)
        self.instruments = Instruments(self.circuit, self.environment, self.wiring, seed)
        self.lines = [Line(self.instruments)]

    def line(self) -> Line:
        self.lines.append(Line(self.instruments))
        return self.lines[-1]

    def ask(self, text: str) -> str:
        return self.lines[0].ask(text)

    def send(self, text: str) -> None:
        """Send a command and wait until it has been obeyed without an error."""
        assert self.lines[0].ask(f"{text};:SYST:ERR?") == '0,"No error"', text

    def error(self, text: str) -> int:
        """The code of the error that a line leads to."""
        self.lines[0].write(text)
        return int(self.lines[0].ask("SYST:ERR?").split(",")[0])

    def close(self) -> None:
        for line in self.lines:
            line.socket.close()
        self.instruments.close()


class Line:
    """A bare socket to the SCPI instrument."""

    def __init__(self, instruments: Instruments) -> None:
        port = int(instruments.resource.split("::")[2])
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self.file = self.socket.makefile("rb")

    def write(self, text: str) -> None:
        self.socket.sendall(text.encode("latin-1") + b"\n")

    def ask(self, text: str) -> str:
        self.write(text)
        return self.file.readline().decode().rstrip("\n")


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


@pytest.fixture
def single() -> Iterator[Bench]:
    made = Bench("home-60a-ct")
    yield made
    made.close()


# -- source ----------------------------------------------------------------------------------


def test_the_source_sets_one_phase_or_all(bench: Bench) -> None:
    bench.send("SOUR:VOLT 231.5")
    bench.send("SOURce:CURRent2 30; PHASe2 60")
    bench.send("sour:freq 49.5")
    truth = bench.circuit.truth()
    assert [truth[f"l{k}"]["voltage"] for k in (1, 2, 3)] == pytest.approx([231.5] * 3)
    assert [truth[f"l{k}"]["current"] for k in (1, 2, 3)] == pytest.approx([10, 30, 10])
    assert truth["l2"]["power"] == pytest.approx(231.5 * 30 * 0.5)
    assert truth["l2"]["reactive_power"] == pytest.approx(231.5 * 30 * math.sqrt(0.75))
    assert truth["frequency"] == 49.5
    assert bench.ask("SOUR:CURR?") == "1.000000E+01,3.000000E+01,1.000000E+01"
    assert bench.ask("SOUR:PHAS2?;FREQ?") == "6.000000E+01;4.950000E+01"


def test_the_chamber_is_the_air_of_the_node(bench: Bench) -> None:
    bench.send("SOUR:TEMP 55.5")
    assert bench.environment.temperature() == 55.5
    assert bench.wiring.temperature() == 55.5
    assert float(bench.ask("SOUR:TEMP?")) == 55.5
    assert float(bench.ask("MEAS:TEMP?")) == pytest.approx(55.5, abs=0.05)


def test_a_level_at_a_pin_replaces_its_sensor(bench: Bench) -> None:
    source = bench.wiring.adc[33]
    t = bench.clock.now() + np.arange(4000) * 1e-5

    def millivolts() -> tuple[float, float]:
        mv = source.millivolts(source.sample(t, 3))  # type: ignore[attr-defined]
        return float(mv.mean()), float(mv.std())

    assert millivolts()[1] > 70  # 10 A on 11 mV per A
    for level in (300.0, 1300.0, 2300.0):
        bench.send(f"SOUR:DC 33,{level}")
        mean, spread = millivolts()
        assert mean == pytest.approx(level, abs=1.5)
        assert spread == pytest.approx(5.0, rel=0.1)  # the converter's noise
        assert float(bench.ask("SOUR:DC? 33")) == level
    assert bench.ask("SOUR:DC? 32") == "OFF"
    bench.send("SOUR:DC 33,off")
    assert millivolts()[1] > 70


def test_reset_makes_everything_as_it_was(bench: Bench) -> None:
    before = bench.circuit.truth()
    bench.send("SOUR:VOLT 200;CURR 50;PHAS 30;FREQ 51;TEMP 80;DC 33,1000")
    assert bench.circuit.truth()["l1"]["current"] == pytest.approx(50)
    bench.send("*RST")
    after = bench.circuit.truth()
    assert after["l3"]["power"] == pytest.approx(before["l3"]["power"])
    assert after["frequency"] == 50
    assert bench.environment.temperature() == 25.0
    assert bench.ask("SOUR:DC? 33") == "OFF"


def test_closing_gives_the_pins_back() -> None:
    made = Bench()
    made.send("SOUR:DC 33,1000")
    made.close()
    assert made.wiring.adc[33].level_mv is None  # type: ignore[attr-defined]


# -- reference meter -------------------------------------------------------------------------


def test_readings_are_the_truth_but_for_a_small_error_of_the_instrument(bench: Bench) -> None:
    bench.send("SOUR:VOLT1 229;VOLT2 231;CURR1 5;CURR2 20;CURR3 60;PHAS1 60;PHAS2 -30")
    truth = bench.circuit.truth()
    off = []
    for phase in (1, 2, 3):
        for word, name in (
            ("VOLT", "voltage"),
            ("CURR", "current"),
            ("POW", "power"),
            ("REAC", "reactive_power"),
        ):
            told = float(bench.ask(f"MEAS:{word}{phase}?"))
            true = truth[f"l{phase}"][name]
            assert told == pytest.approx(true, rel=WITHIN, abs=1e-6)
            if true:
                off.append(told / true - 1)
    assert np.std(off) > 2e-5, "it has an error"
    assert float(bench.ask("MEAS:FREQ?")) == pytest.approx(50, abs=0.002)
    assert float(bench.ask("MEAS:POW?")) == pytest.approx(truth["power"], rel=WITHIN)
    assert float(bench.ask("MEAS:VOLT?")) == pytest.approx(230, rel=WITHIN)


def test_the_error_belongs_to_the_instrument(bench: Bench) -> None:
    def errors(of: Bench) -> list[float]:
        return [float(of.ask(f"MEAS:VOLT{k}?")) / 230 - 1 for k in (1, 2, 3)]

    other, same = Bench(seed=5), Bench(seed=0)
    first = errors(bench)
    assert errors(bench) != first  # a little scatter
    assert errors(bench) == pytest.approx(first, abs=5e-5)
    assert errors(same) == pytest.approx(first, abs=5e-5)
    assert errors(other) != pytest.approx(first, abs=5e-5)
    other.close(), same.close()


def test_seven_digits(single: Bench) -> None:
    answer = single.ask("MEAS:VOLT1?")
    digits = answer.split("E")[0]
    assert len(digits.replace(".", "")) == 7
    assert single.ask("MEAS:VOLT?") != ""


def test_what_is_measured_is_the_wire_and_not_the_clamp(single: Bench) -> None:
    single.circuit.fault("ct_reversed")
    single.circuit.fault("voltage_lost")
    assert float(single.ask("MEAS:POW1?")) == pytest.approx(2300, rel=WITHIN)
    assert float(single.ask("MEAS:VOLT1?")) == pytest.approx(230, rel=WITHIN)


def test_means_are_of_the_last_second(single: Bench) -> None:
    single.clock.step(5_000_000)
    now = single.clock.now()
    single.circuit.set(current=20.0, at=now + 0.75)
    single.clock.step(1_000_000)
    expected = math.sqrt(0.75 * 10**2 + 0.25 * 20**2)
    assert float(single.ask("MEAS:CURR1?")) == pytest.approx(expected, rel=1e-3)
    assert float(single.ask("MEAS:POW1?")) == pytest.approx(230 * 12.5, rel=1e-3)
    single.clock.step(1_000_000)
    assert float(single.ask("MEAS:CURR1?")) == pytest.approx(20, rel=WITHIN)


def test_a_setting_is_measured_though_time_stands_still(single: Bench) -> None:
    single.clock.step(5_000_000)
    for amperes in (30.0, 3.0, 60.0):
        single.send(f"SOUR:CURR {amperes}")
        assert float(single.ask("MEAS:CURR1?")) == pytest.approx(amperes, rel=WITHIN)


def test_it_works_on_running_time_too() -> None:
    profile, clock = resources.profile("home-60a-ct"), RigClock()
    circuit = frontend.circuit(profile, clock)
    with Instruments(circuit, Environment(), Wiring()) as instruments:
        line = Line(instruments)
        line.write("SOUR:CURR 42")
        time.sleep(0.05)
        assert float(line.ask("MEAS:CURR?")) == pytest.approx(42, rel=WITHIN)
        line.socket.close()


# -- language --------------------------------------------------------------------------------


def test_pyvisa_talks_to_it(bench: Bench) -> None:
    manager = pyvisa.ResourceManager("@py")
    instrument = manager.open_resource(
        bench.instruments.resource, read_termination="\n", write_termination="\n"
    )
    assert instrument.query("*IDN?").startswith("Gridnode,Virtual bench,0,")  # type: ignore[attr-defined]
    instrument.write("SOUR:CURR3 12.5")  # type: ignore[attr-defined]
    told = float(instrument.query("MEAS:CURR3?"))  # type: ignore[attr-defined]
    assert told == pytest.approx(12.5, rel=WITHIN)
    instrument.close()
    manager.close()


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("NONSENSE", -113),
        ("SOURC:VOLT 230", -113),  # neither the short nor the long form
        ("SOUR:VOLTS 230", -113),
        ("SOUR:VOLT4 230", -114),
        ("SOUR:VOLT0 230", -114),
        ("MEAS:CURR9?", -114),
        ("SOUR:VOLT", -109),
        ("SOUR:VOLT 1,2", -108),
        ("SOUR:VOLT high", -104),
        ("SOUR:VOLT nan", -222),
        ("SOUR:VOLT inf", -222),
        ("SOUR:VOLT -1", -222),
        ("SOUR:FREQ 0", -222),
        ("SOUR:TEMP 101", -222),
        ("SOUR:DC 33,3301", -222),
        ("SOUR:DC 5,1000", -222),
        ("SOUR:DC x,1000", -222),
        ("SOUR:DC 33", -109),
        ("SOUR:DC 33,soon", -104),
        ("SOUR:DC?", -109),
        ("MEAS:VOLT1? 3", -108),
        ("*RST 1", -108),
        ("\xe9\x00\x07", -102),
    ],
)
def test_what_it_does_not_understand_goes_to_the_queue(bench: Bench, line: str, code: int) -> None:
    before = bench.circuit.truth()
    assert bench.error(line) == code
    assert bench.error("") == 0
    assert bench.circuit.truth() == before


def test_headers_behind_a_semicolon(bench: Bench) -> None:
    bench.send("SOUR:VOLT1 225;CURR1 7;:SOUR:VOLT2 226;SOUR:VOLT3 227")
    truth = bench.circuit.truth()
    assert [truth[f"l{k}"]["voltage"] for k in (1, 2, 3)] == pytest.approx([225, 226, 227])
    assert truth["l1"]["current"] == pytest.approx(7)
    assert bench.ask("SOUR:VOLT1?;*OPC?;CURR1?") == "2.250000E+02;1;7.000000E+00"
    assert bench.error("SOUR:VOLT1 220;FOO;:SOUR:VOLT2 221") == -113
    truth = bench.circuit.truth()  # what stands before the error is done, the rest is not
    assert [truth[f"l{k}"]["voltage"] for k in (1, 2)] == pytest.approx([220, 226])


def test_the_queue_is_first_in_first_out_and_ends(bench: Bench) -> None:
    for text in ("FOO", "SOUR:VOLT", "SOUR:VOLT4 1"):
        bench.lines[0].write(text)
    assert [bench.ask("SYSTem:ERRor?").split(",")[0] for _ in range(4)] == ["-113", "-109", "-114", "0"]
    for _ in range(50):
        bench.lines[0].write("FOO")
    codes = []
    while not codes or codes[-1] != "0":
        codes.append(bench.ask("SYST:ERR?").split(",")[0])
    assert codes == ["-113"] * 19 + ["-350", "0"]
    bench.lines[0].write("FOO")
    bench.lines[0].write("*CLS")
    assert bench.ask("SYST:ERR?") == '0,"No error"'


def test_every_connection_has_its_own_errors_and_all_act_on_one_bench(bench: Bench) -> None:
    second = bench.line()
    bench.lines[0].write("FOO")
    assert second.ask("SYST:ERR?") == '0,"No error"'
    assert second.ask("SOUR:CURR1 17;:SOUR:CURR1?") == "1.700000E+01"
    assert bench.ask("SOUR:CURR1?") == "1.700000E+01"


def test_connections_do_not_lose_each_others_settings(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = bench.circuit.supply

    def slowly() -> Supply:
        found = read()
        time.sleep(0.001)  # others may set something meanwhile
        return found

    monkeypatch.setattr(bench.circuit, "supply", slowly)
    lines = [bench.line() for _ in range(3)]

    def work(phase: int) -> None:
        for k in range(40):
            assert lines[phase - 1].ask(f"SOUR:CURR{phase} {k + phase};:SYST:ERR?")[0] == "0"

    threads = [threading.Thread(target=work, args=(phase,)) for phase in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert bench.ask("SOUR:CURR?") == "4.000000E+01,4.100000E+01,4.200000E+01"


def test_garbage_breaks_nothing(bench: Bench) -> None:
    rng = np.random.default_rng(7)
    noisy = bench.line()
    for _ in range(60):
        noisy.socket.sendall(rng.bytes(int(rng.integers(1, 400))))
    noisy.socket.sendall(b"\n" + b"A" * 20_000 + b"\n*CLS\n")
    words = ["SOUR", "MEAS", ":", "VOLT", "?", ";", "1", " ", ",", "\xff", "*", "IDN", "-", "e", "\t"]
    for _ in range(300):
        noisy.write("".join(rng.choice(words, 6)))
    noisy.write("*CLS")
    while "Gridnode" not in noisy.ask("*IDN?"):
        pass  # answers to what happened to be a query
    assert bench.ask("*IDN?").startswith("Gridnode")
    assert bench.circuit.supply().frequency == 50


def test_a_line_that_never_ends_is_dropped(bench: Bench) -> None:
    bench.lines[0].socket.sendall(b"SOUR:VOLT1 1" + b"0" * 50_000)
    time.sleep(0.3)
    bench.lines[0].write("")
    assert bench.ask("SYST:ERR?").startswith("-363")
    assert bench.ask("SYST:ERR?") == '0,"No error"'  # neither twice nor for its end
    assert bench.ask("SOUR:VOLT1?") == "2.300000E+02"


def test_a_client_that_goes_away_in_the_middle_of_a_line(bench: Bench) -> None:
    for _ in range(40):
        line = Line(bench.instruments)
        line.socket.sendall(b"SOUR:VOLT1 11")
        line.file.close()
        line.socket.close()
    time.sleep(0.3)
    assert bench.line().ask("SOUR:VOLT1?") == "2.300000E+02"


def test_closing_ends_every_connection_soon() -> None:
    made = Bench()
    line = made.lines[0]
    assert line.ask("*OPC?") == "1"
    began = time.monotonic()
    made.instruments.close()
    assert time.monotonic() - began < 2
    assert line.file.read() == b""
    with pytest.raises(OSError):
        Line(made.instruments)
    line.socket.close()


# -- Modbus ----------------------------------------------------------------------------------


def client(bench: Bench) -> ModbusTcpClient:
    host, port = bench.instruments.modbus_url.removeprefix("tcp://").split(":")
    made = ModbusTcpClient(host, port=int(port), timeout=5)
    assert made.connect()
    return made


@pytest.mark.parametrize("name", ["home-60a-ct", "home-3ph-ct"])
def test_registers_are_those_of_the_map(name: str) -> None:
    """Every row of the map in boards/maps that can be compared with the truth on the wires."""
    bench = Bench(name)
    phases = bench.circuit.phases
    bench.circuit.set(voltage=229.0, current=[12.5, 6.0, 25.0][:phases], phase_deg=25.0)
    bench.circuit.fault("ct_reversed")
    bench.clock.step(2_000_000)
    chart = json.loads((MAPS / f"{bench.instruments.modbus_map}.json").read_text("utf-8"))
    truth, compared = bench.circuit.truth(), set()
    meter = client(bench)
    for row in chart["rows"]:
        address, phase = int(row["address"], 16), row.get("phase", 0)
        answer = meter.read_input_registers(address, count=2, device_id=1)
        (told,) = struct.unpack(">f", struct.pack(">HH", *answer.registers))
        true = (truth[f"l{phase}"] if phase else truth).get(row["name"])
        if true is not None and row["unit"] in ("V", "A", "W", "var", "VA", "Hz", ""):
            assert told == pytest.approx(true, rel=2.5 * WITHIN), row
            compared.add((row["name"], phase))
    meter.close()
    bench.close()
    names = ("voltage", "current", "power", "reactive_power", "apparent_power", "power_factor")
    wanted = {(name, phase) for name in names for phase in (range(1, 4) if phases > 1 else (0,))}
    assert compared >= {*wanted, ("frequency", 0)}


def test_the_meter_counts_energy_on_the_wires(single: Bench) -> None:
    single.circuit.fault("ct_open")
    single.clock.step(3_600_000_000)
    meter = client(single)
    answer = meter.read_input_registers(0x48, count=2, device_id=1)
    (kwh,) = struct.unpack(">f", struct.pack(">HH", *answer.registers))
    meter.close()
    assert kwh == pytest.approx(2.3, rel=1e-4)


def test_a_block_is_of_one_moment_and_what_is_wrong_is_refused(bench: Bench) -> None:
    meter = client(bench)
    block = meter.read_input_registers(0, count=80, device_id=1)
    assert not block.isError() and len(block.registers) == 80
    for address, count, code in ((1, 2, 2), (0x17E, 2, 2), (0x17C, 4, 2), (0, 3, 3), (0, 82, 3)):
        answer = meter.read_input_registers(address, count=count, device_id=1)
        assert answer.isError() and answer.exception_code == code, (address, count)
    assert meter.read_holding_registers(0, count=2, device_id=1).exception_code == 1
    assert meter.write_register(0, 1, device_id=1).exception_code == 1
    assert meter.read_coils(0, count=1, device_id=1).isError()
    assert meter.read_input_registers(0, count=2, device_id=17).registers[0]  # any address
    meter.close()


def test_modbus_survives_garbage(bench: Bench) -> None:
    host, port = bench.instruments.modbus_url.removeprefix("tcp://").split(":")
    rng = np.random.default_rng(3)
    for _ in range(20):
        with socket.create_connection((host, int(port)), timeout=5) as line:
            line.sendall(rng.bytes(200))
    meter = client(bench)
    answer = meter.read_input_registers(0, count=2, device_id=1)
    assert struct.unpack(">f", struct.pack(">HH", *answer.registers))[0] == pytest.approx(230, rel=WITHIN)
    meter.close()


def test_both_instruments_see_a_setting_at_once(single: Bench) -> None:
    single.clock.step(5_000_000)
    meter = client(single)
    single.send("SOUR:CURR 33")
    answer = meter.read_input_registers(6, count=2, device_id=1)
    assert struct.unpack(">f", struct.pack(">HH", *answer.registers))[0] == pytest.approx(33, rel=WITHIN)
    meter.close()


# -- benches ---------------------------------------------------------------------------------


def test_a_node_has_instruments_at_its_own_mains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridnode_host.bench.vm.follows_clock", lambda micropython: False)
    profile, clock = resources.profile("home-60a-ct"), RigClock()
    circuit = frontend.circuit(profile, clock)
    node = RigNode("node", tmp_path, profile, circuit, clock=clock, image=None, micropython="none")
    try:
        with node.instruments() as instruments:
            line = Line(instruments)
            assert line.ask("SOUR:TEMP 40;:SOUR:DC 34,900;:SYST:ERR?")[0] == "0"
            assert node.environment.temperature() == 40.0
            assert node.wiring.adc[34].level_mv == 900.0  # type: ignore[attr-defined]
            line.socket.close()
    finally:
        node.stop()


def test_a_node_reads_what_its_reference_meter_reads() -> None:
    """A unit far from its design, with its exact calibration, on the load that the source sets."""
    profile = {**resources.profile("feeder-200a"), "row_s": 2, "limits": {}}
    with Solo(profile, interval_s=2, ideal=False, tolerance=Tolerance.WIDE, seed=4) as solo:
        with solo.instruments(seed=1) as instruments:
            line = Line(instruments)
            assert line.ask("SOUR:CURR 80;PHAS 60;TEMP 50;:SYST:ERR?")[0] == "0"
            solo.start()
            until = solo.clock.now() + 12.0
            *_, report = solo.reports(until)
            for phase in (1, 2, 3):
                for name, word in (("voltage", "VOLT"), ("current", "CURR"), ("power", "POW")):
                    told = float(line.ask(f"MEAS:{word}{phase}?"))
                    assert report[f"l{phase}"][name] == pytest.approx(told, rel=2e-3), (phase, name)
            line.socket.close()


def test_a_unit_may_come_without_its_calibration() -> None:
    listing = "import os; print(sorted(os.listdir('/config')))"
    found = []
    for calibrated in (True, False):
        with Solo(resources.profile("plug-bl0942"), interval_s=10, calibrated=calibrated) as solo:
            found.append("calibration.json" in solo.run(listing))
    assert found == [True, False]
