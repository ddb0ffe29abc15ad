"""The demo: its verdict, its view on a small terminal, and a truth that belongs to each report."""

import io
import json
from collections.abc import Callable
from types import SimpleNamespace, TracebackType
from typing import Any

import pytest
from gridnode_host import cli
from gridnode_host.bench import demo
from gridnode_host.bench.mains import Circuit
from rich.console import Console
from typer.testing import CliRunner

LIMITS = (207.0, 253.0)


class FakeNode:
    """A perfect meter that reports as a node does: at first, on alarms, at the end of rows."""

    def __init__(self, rig: "FakeRig", number: int, profile: str) -> None:
        self.thing = f"node-{number}"
        self.profile_name = profile
        self.rating = 60.0
        self.link = "online"
        self.circuit = Circuit(1, rig.clock)
        self.born = rig.clock.now()
        self.alarm = False
        self.gain = 1.0  # of its power
        self.document: dict[str, Any] = {}

    def tick(self, now: float) -> bool:
        """Report if it is time to; ``now`` goes on in steps."""
        row = now // demo.ROW_S * demo.ROW_S
        high = self.circuit.truth()["voltage"] > LIMITS[1]
        old = self.document.get("timestamp", 0)
        if self.document and row > old:
            at, over = row, min(demo.ROW_S, row - self.born)
        elif not self.document or high != self.alarm:
            at, over = now, min(now - row, now - self.born)
        else:
            return False
        self.alarm = high
        values = self.circuit.truth(at=at, over=max(over, 0.1))
        kinds = {"voltage": "range_high"} if high else {}
        self.document = {
            **values,
            "power": values["power"] * self.gain,
            "timestamp": int(at),
            "seq": self.document.get("seq", 0) + 1,
            "anomaly": {
                "alarm": high,
                "kinds": kinds,
                "model": "frozen",
                "faults": {"voltage_swell": 0.9} if high else {},
            },
            "node": {"uptime": int(now - self.born)},
        }
        return True


class FakeRig:
    """Nodes without a VM on a clock that stands still until somebody sleeps."""

    def __init__(self, nodes: int, profile: list[str], start: float) -> None:
        self.time = start
        self.hidden: set[str] = set()
        self.interrupt_at: float | None = None
        self.rates: list[int] = []
        self.clock = SimpleNamespace(now=lambda: self.time, warp=self.rates.append)
        self.broker = SimpleNamespace(subscribe=self._subscribe)
        self.nodes = [FakeNode(self, k + 1, profile[k]) for k in range(nodes)]
        self.closed = False

    def _subscribe(self, _: str, call: Callable[[Any], None]) -> None:
        self._note = call

    def reported(self, thing: str) -> dict[str, Any]:
        return next(
            node.document if thing not in self.hidden else {}
            for node in self.nodes
            if node.thing == thing
        )

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        if self.interrupt_at is not None and self.time >= self.interrupt_at:
            raise KeyboardInterrupt
        for node in self.nodes:
            if node.tick(self.time):
                self._note(SimpleNamespace(topic=f"$aws/things/{node.thing}/shadow/update"))

    def __enter__(self) -> "FakeRig":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closed = True


START = 1_800_000_000.0
Play = Callable[..., tuple[int, list[dict[str, Any]], str]]


@pytest.fixture
def rigs() -> list[FakeRig]:
    """The rigs that the demo has made."""
    return []


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, rigs: list[FakeRig]) -> Play:
    def run(
        *arguments: str,
        offset: float = 3.3,
        prepare: Callable[[FakeRig], None] = lambda rig: None,
    ) -> tuple[int, list[dict[str, Any]], str]:
        def virtual(nodes: int, profile: list[dict[str, Any]], heap_kb: int) -> FakeRig:
            rig = FakeRig(nodes, [one["sku"] for one in profile], START + offset)
            rigs.append(rig)
            prepare(rig)
            return rig

        def now() -> float:
            return rigs[-1].time if rigs else START

        monkeypatch.setattr(demo.Rig, "virtual", virtual)
        fake = SimpleNamespace(monotonic=now, sleep=lambda s: rigs[-1].sleep(s))
        monkeypatch.setattr(demo, "time", fake)
        env = {"COLUMNS": "80", "NO_COLOR": "1"}
        result = CliRunner().invoke(cli.app, ["demo", *arguments], env=env)
        lines = result.stdout.splitlines() if "--json" in arguments else []
        return result.exit_code, [json.loads(line) for line in lines], result.output

    return run


def of(events: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [event for event in events if event["event"] == name]


@pytest.mark.parametrize("offset", [0.8, 3.3, 8.9, 9.5])
def test_half_a_minute_shows_an_alarm_and_tells_it(
    play: Play, rigs: list[FakeRig], offset: float
) -> None:
    code, events, _ = play("--duration", "30", "--json", offset=offset)
    assert code == 0
    assert events[-1]["event"] == "done"
    assert rigs[0].closed
    one, two, three = of(events, "summary")
    assert one["alarms"] == ["voltage range_high"]
    assert two["alarms"] == three["alarms"] == []
    assert one["faults"] == ["voltage swell"] and one["detector"] == "frozen"
    assert rigs[0].rates == [demo.LEARN_RATE, 1]
    ringing = [e for e in of(events, "report") if e["anomaly"]["alarm"]]
    assert any(e["regular"] and e["steady"] and e["measured"]["voltage"] > 263.9 for e in ringing)


@pytest.mark.parametrize("offset", [0.0, 4.6, 9.8])
def test_the_truth_is_of_what_a_report_covers(play: Play, offset: float) -> None:
    code, events, _ = play("--duration", "65", "--json", offset=offset)
    assert code == 0
    regular = [event for event in of(events, "report") if event["regular"]]
    assert {event["steady"] for event in regular} == {True, False}
    for event in regular:
        for name, value in event["truth"].items():
            assert event["measured"][name] == pytest.approx(value, rel=1e-6), (name, event)
    loads = {round(event["measured"]["current"], 1) for event in regular if event["steady"]}
    assert len(loads) > 3  # something happens
    for row in of(events, "summary"):
        assert set(row["worst_percent"]) == set(demo.JUDGED)
        assert all(abs(off) < 0.001 for off in row["worst_percent"].values())
        assert row["energy_kwh"]["measured"] == pytest.approx(row["energy_kwh"]["truth"])
        assert row["energy_kwh"]["truth"] > 0


def test_a_wrong_meter_is_seen_in_the_summary(play: Play) -> None:
    def prepare(rig: FakeRig) -> None:
        rig.nodes[0].gain = 1.03

    _, events, _ = play("--duration", "30", "--json", prepare=prepare)
    one, two, _ = of(events, "summary")
    assert one["worst_percent"]["power"] == pytest.approx(3, abs=0.01)
    assert one["worst_percent"]["voltage"] == 0
    assert two["worst_percent"]["power"] == 0


def test_a_shadow_that_does_not_arrive_is_the_last_word(play: Play) -> None:
    code, events, _ = play(
        "--duration", "12", "--json", prepare=lambda rig: rig.hidden.add("node-2")
    )
    assert code == 8
    last = events[-1]
    assert (last["event"], last["exit"]) == ("error", 8)
    assert "node-2" in last["cause"]
    assert "node-1" not in last["cause"]
    assert not of(events, "done")
    assert [row["first_shadow_s"] is None for row in of(events, "summary")] == [False, True, False]


def test_ctrl_c_ends_it_as_its_duration_does(play: Play, rigs: list[FakeRig]) -> None:
    def prepare(rig: FakeRig) -> None:
        rig.interrupt_at = rig.time + 13

    code, events, _ = play("--json", prepare=prepare)
    assert code == 0
    assert events[-1]["event"] == "done"
    assert len(of(events, "summary")) == 3
    assert rigs[0].closed


@pytest.mark.parametrize("as_json", [True, False])
def test_ctrl_c_during_the_start_claims_nothing_about_shadows(play: Play, as_json: bool) -> None:
    def prepare(_: FakeRig) -> None:
        raise KeyboardInterrupt

    code, events, text = play(*["--json"] * as_json, prepare=prepare)
    assert code == 0
    assert "arrive" not in text
    if as_json:
        assert events[-1]["event"] == "done"
    else:
        assert "Ended before the nodes had started." in text


def test_the_summary_fits_a_small_terminal(play: Play) -> None:
    code, _, text = play("--duration", "30")
    assert code == 0
    for word in ("home-60a-ct", "feeder-200a", "+0.00 %", "Alarm of node-1: voltage range_high"):
        assert word in text
    assert "…" not in text


def test_the_view_fits_a_small_terminal() -> None:
    rig = FakeRig(3, ["home-60a-ct", "home-60a-ct", "feeder-200a"], START)
    rig.time += 8
    seen = [demo.Seen(node, rig.time) for node in rig.nodes]  # type: ignore[arg-type]
    seen[1].reported = {"timestamp": START, "anomaly": {"alarm": False, "model": "learning"}}
    seen[2].reported = {"timestamp": START, "anomaly": {"alarm": False, "model": "learning"}}
    seen[0].reported = {
        "timestamp": START,
        "voltage": 264.02,
        "current": 123.456,
        "power": -98765.4,
        "power_factor": -0.123,
        "frequency": 49.987,
        "anomaly": {
            "kinds": {"voltage": "range_high", "power_factor": "range_low"},
            "model": "frozen",
            "alarm": True,
            "faults": {"overheating_joint": 0.7},
        },
    }
    seen[0].truth = dict(seen[0].reported)
    seen[0].energy = (12.3456, 12.3457)
    rig.nodes[1].link = "network"
    text = io.StringIO()
    console = Console(file=text, width=80)
    console.print(demo._view(rig, seen, 1234.0))  # type: ignore[arg-type]
    shown = text.getvalue()
    for word in (
        "ALARM node-1: voltage range_high",
        "ALARM node-1: power_factor range_low",
        "FAULT node-1: overheating joint",
        "learns",
        "home-60a-ct",
        "feeder-200a",
        "264.0",
        "123.46",
        "-98765",
        "~-98765",
        "-0.123",
        "49.99",
        "12.3456",
        "12.3457",
        "8 s",
        "network",
        "Ctrl-C",
    ):
        assert word in shown, shown
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.timeout(60)
def test_real_nodes_show_their_first_shadow() -> None:
    result = CliRunner().invoke(cli.app, ["demo", "--nodes", "1", "--duration", "3", "--learn", "0", "--json"])
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 0, result.output
    assert events[-1]["event"] == "done"
    first = of(events, "report")[0]
    for name in demo.JUDGED:
        assert first["measured"][name] == pytest.approx(first["truth"][name], rel=0.01)
    (row,) = of(events, "summary")
    assert row["reports"] >= 1
    assert row["alarms"] == []
