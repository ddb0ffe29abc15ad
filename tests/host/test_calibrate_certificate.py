"""Certificates: the verdict's arithmetic, what they hold, that they are whole, and their hash."""

from __future__ import annotations

import hashlib
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from gridnode_host.calibrate import certificate, verdict
from gridnode_host.calibrate.references import Instruments, Mean, Means
from gridnode_host.calibrate.session import Identity, Measured, Meter, Result, Session
from gridnode_host.calibrate.verdict import FAIL, INCONCLUSIVE, PASS
from gridnode_host.errors import Exit, GridnodeError

NAMES = ("voltage", "current", "power", "reactive_power")
UNCERTAINTY = {"voltage": 0.02, "current": 0.03, "power": 0.04}


def make_session(phases: int = 1, **changes: Any) -> Session:
    meter = Meter("main", "ct", phases, NAMES, ("gain", "verify"), 60.0, 230.0, 50.0)
    identity = Identity(
        node="a4cf12b3c4d5",
        thing="meter-17",
        sku="home-60a-ct",
        firmware="1.4.0",
        generation=7,
        meters=(meter,),
        limits={"voltage": 0.5, "current": 0.5, "power": 1.0},
        points=(5.0, 100.0),
    )
    session = Session(None, identity, changes.pop("operator", "J. Doe"))  # type: ignore[arg-type]
    session.date, session.generation = 1795600000, 8
    return session


def add(
    session: Session,
    step: str,
    errors: dict[str, float],
    *,
    before: dict[str, float] | None = None,
    current: float = 30.0,
    u: float | None = 0.05,
    as_found: bool = False,
    uncertainty: dict[str, float] | None = None,
    resolution: float = 0.0,
    scatter: float = 0.0,
    phase: int | None = None,
) -> None:
    """Add a result as the node tells it, the same in every phase."""
    meter = session.identity.meters[0]
    given = UNCERTAINTY if uncertainty is None else uncertainty
    each = (phase,) if phase else meter.each
    true = {"voltage": 230.0, "current": current, "power": 230.0 * current}
    means: Means = {
        name: {k: Mean(true[name], resolution, 0.01, scatter, 9) for k in each}
        for name in errors
        if name in true
    }
    records = [
        {
            "step": step,
            "meter": "main",
            "phase": meter.row(k),
            "reference": {name: true[name] for name in means},
            "uncertainty_percent": given,
            "before_percent": before or {},
            "after_percent": errors,
            "spread_percent": {"voltage": 0.01},
            "u_percent": {} if u is None else dict.fromkeys(errors, u),
            "load": {"voltage": 230.0, "current": current, "power_factor": 1.0, "temperature": 24.5},
            "windows": 5,
            "rejected": 1,
            "window_s": 2.0,
        }
        for k in each
    ]
    measured = Measured([{}], [{}], 5, 1, 2.0, 24.5)
    session.results.append(
        Result(step, meter, phase, means, given, "Fluke 6105A s/n 123", as_found, measured, records)
    )


GOOD = {"voltage": 0.02, "current": -0.03, "power": 0.1}


def calibrated(phases: int = 1) -> Session:
    session = make_session(phases)
    for current in (3.0, 60.0):
        add(session, "verify", {"voltage": -3.0, "current": 5.0, "power": 2.0}, as_found=True, current=current)
    add(session, "offset", {"power": 0.01}, current=0.0)
    add(session, "gain", {"voltage": 0.01, "current": 0.02}, before={"voltage": -3.0, "current": 5.0})
    for current in (3.0, 60.0):
        add(session, "verify", {**GOOD, "angle": 0.02}, current=current)
    return session


def build(session: Session) -> dict[str, Any]:
    return certificate.build(session, Instruments())


# -- arithmetic


@pytest.mark.parametrize(
    ("error", "u", "result"),
    [
        (0.0, 0.0, PASS),
        (0.4, 0.1, PASS),  # |error| + U is just the class
        (-0.4, 0.1, PASS),
        (0.41, 0.1, INCONCLUSIVE),
        (0.5, 0.01, INCONCLUSIVE),
        (0.6, 0.1, INCONCLUSIVE),  # |error| - U is just the class
        (0.61, 0.1, FAIL),
        (-0.61, 0.1, FAIL),
        (0.0, 0.6, INCONCLUSIVE),
        (0.1, None, INCONCLUSIVE),
        (0.6, None, FAIL),  # with whatever uncertainty is not known, it is told as it is
    ],
)
def test_the_guard_band(error: float, u: float | None, result: str) -> None:
    assert verdict.judge(error, u, 0.5) == result


def test_the_budget_is_a_root_of_squares_and_counts_the_reference_once() -> None:
    parts = verdict.budget(0.03, math.hypot(0.03, 0.04), 0.01, 0.1, 230.0)
    assert parts.repeatability == pytest.approx(0.04)
    assert parts.resolution == pytest.approx(100 * 0.1 / math.sqrt(3) / 230)
    assert parts.combined == pytest.approx(math.hypot(0.03, 0.04, 0.01, parts.resolution))
    assert verdict.budget(None, 0.05, 0.0, 0.0, 230.0).combined is None
    assert verdict.budget(0.02, None, 0.0, 0.0, 230.0).combined is None
    assert verdict.budget(0.05, 0.04, 0.0, 0.0, 230.0).repeatability == 0.0  # rounding of the node


# -- content


def test_a_good_node_passes_and_the_numbers_are_there() -> None:
    document = build(calibrated())
    assert document["verdict"] == {
        "result": "pass",
        "reason": "6 verified values within their class, uncertainty counted in",
    }
    assert document["node"]["id"] == "a4cf12b3c4d5"
    assert document["node"]["generation"] == 8
    assert document["date"] == "2026-11-25T09:46:40Z"
    assert document["conditions"]["temperature"] == {"least": 24.5, "most": 24.5}
    [instrument] = document["instruments"]
    assert instrument["uncertainty_percent"] == UNCERTAINTY
    kinds = [(row["kind"], row["quantity"], row["load_percent"]) for row in document["points"]]
    assert kinds[:3] == [("as_found", name, 5.0) for name in ("voltage", "current", "power")]
    assert ("step", "current", 50.0) in kinds
    assert not [row for row in document["points"] if row["step"] == 3]  # offset: of no reading
    last = document["points"][-4]
    assert (last["kind"], last["quantity"], last["verdict"]) == ("as_left", "voltage", "pass")
    assert last["u"] == pytest.approx(0.05)
    assert document["points"][-1]["unit"] == "deg"
    assert "verdict" not in document["points"][-1]  # an angle has no class


def test_the_last_digit_of_the_reference_counts() -> None:
    session = make_session()
    add(session, "gain", {"voltage": 0.0})
    add(session, "verify", GOOD, resolution=1.0)
    row = next(row for row in build(session)["points"] if row["kind"] == "as_left")
    assert row["quantity"] == "voltage"
    assert row["budget"]["resolution"] == pytest.approx(100 / math.sqrt(3) / 230, abs=1e-6)
    assert row["u"] == pytest.approx(math.hypot(0.05, 100 / math.sqrt(3) / 230), abs=1e-5)
    current = next(r for r in build(session)["points"] if r["quantity"] == "current" and r["kind"] == "as_left")
    assert current["verdict"] == "inconclusive"  # 1 A of 30 A


def test_one_value_beyond_the_class_fails_and_is_named() -> None:
    session = make_session(phases=3)
    add(session, "gain", {"voltage": 0.0})
    add(session, "verify", GOOD)
    add(session, "verify", {"current": 0.7}, phase=2, current=6.0)
    found = build(session)["verdict"]
    assert found["result"] == "fail"
    assert found["reason"] == (
        "current of L2 at 10 % of the rating: error +0.700 %, U 0.050 %, class 0.5 %"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"uncertainty": {}}, "its uncertainty is not known"),
        ({"u": 0.49}, "U 0.490 %"),
    ],
)
def test_without_enough_certainty_nothing_is_claimed(change: dict[str, Any], reason: str) -> None:
    session = make_session()
    add(session, "gain", {"voltage": 0.0})
    add(session, "verify", GOOD, **change)
    found = build(session)["verdict"]
    assert found["result"] == "inconclusive"
    assert reason in found["reason"]


def test_what_was_not_verified_after_the_last_step_is_not_passed() -> None:
    session = make_session(phases=3)
    add(session, "verify", GOOD)
    add(session, "gain", {"voltage": 0.0})
    add(session, "verify", {"voltage": 0.0, "current": 0.0}, phase=1)
    document = build(session)
    assert document["verdict"]["result"] == "inconclusive"
    for text in ("power of main L1", "voltage of main L2", "current of main L3"):
        assert text in document["verdict"]["reason"]
    assert "voltage of main L1" not in document["verdict"]["reason"]
    assert [row["kind"] for row in document["points"][:3]] == ["check"] * 3
    assert build(make_session())["verdict"]["result"] == "inconclusive"


def test_without_a_change_as_found_is_as_left() -> None:
    session = make_session()
    add(session, "verify", GOOD, as_found=True)
    document = build(session)
    assert {row["kind"] for row in document["points"]} == {"as_left"}
    assert document["verdict"]["result"] == "pass"


# -- the page


class Page(HTMLParser):
    """What is in a page: its tags, their attributes, its text, and whether it is balanced."""

    VOID = frozenset(("meta", "br", "link", "img", "hr", "input"))

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data.strip())


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "node.html"
    beside = certificate.write(build(calibrated(phases=3)), path)
    html = path.read_text("utf-8")
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert "http" not in html
    assert "@import" not in html
    assert "url(" not in re.sub(r"url\(#", "", html)
    for name, value in page.attributes:
        if name in ("href", "xlink:href", "src"):
            assert value.startswith("#"), (name, value)
    assert page.tags.count("svg") == 1
    words = " ".join(page.text)
    for text in (
        "Calibration certificate", "a4cf12b3c4d5", "meter-17", "home-60a-ct", "1.4.0", "J. Doe",
        "Fluke 6105A s/n 123", "As found", "As left", "Uncertainty budget", "−3.000 ± 0.050", "pass",
        "verify, as found", "5 × 2 s, 1 out", "24.5",
    ):  # fmt: skip
        assert text in words, text
    assert json.loads(beside.read_text())["sha256"] in words


def test_the_plot_shows_each_phase_and_quantity() -> None:
    html = certificate.render(build(calibrated(phases=3)))
    svg = html[html.index("<svg") : html.index("</svg>")]
    assert svg.count('id="axes_') == 9
    alone = certificate.render(build(calibrated()))
    assert alone.count('id="axes_') == 3


def test_what_a_person_or_a_node_writes_cannot_become_markup() -> None:
    session = calibrated()
    session.operator = "<script>alert(1)</script>"
    document = build(session)
    document["steps"][0]["label"] = "<b>x</b>"
    html = certificate.render(document)
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "<b>x</b>" not in html


def test_a_certificate_without_verification_or_plot_is_a_page_as_well() -> None:
    session = make_session()
    add(session, "gain", {"voltage": 0.1}, before={"voltage": 3.0})
    assert "No verification with a reference was made." in certificate.render(build(session))
    bare = build(make_session())
    assert bare["verdict"]["result"] == "inconclusive"
    assert "inconclusive" in certificate.render(bare)


def test_records_of_another_firmware_do_not_break_the_page() -> None:
    session = calibrated()
    session.results[0] = Result(
        **{**vars(session.results[0]), "records": [{"step": "verify", "after_percent": {"thd": 1.0}}]}
    )
    assert "thd" in certificate.render(build(session))


# -- the hash


def test_the_hash_is_that_of_the_canonical_json(tmp_path: Path) -> None:
    beside = certificate.write(build(calibrated()), tmp_path / "c.html")
    document = json.loads(beside.read_text("utf-8"))
    stated = document.pop("sha256")
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert hashlib.sha256(text.encode()).hexdigest() == stated
    checked = certificate.verify(beside)
    assert checked.matches
    assert checked.page is True


def test_the_form_of_the_file_does_not_matter_but_every_value_does(tmp_path: Path) -> None:
    beside = certificate.write(build(calibrated()), tmp_path / "c.html")
    document = json.loads(beside.read_text("utf-8"))
    beside.write_text(json.dumps(dict(reversed(document.items())), indent=4))
    assert certificate.verify(beside).matches

    def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        if isinstance(value, dict):
            return [leaf for key in value for leaf in leaves(value[key], (*path, key))]
        if isinstance(value, list):
            return [leaf for k, one in enumerate(value) for leaf in leaves(one, (*path, k))]
        return [path]

    places = leaves(document)
    assert len(places) > 100
    for place in places:
        changed = json.loads(json.dumps(document))
        node = changed
        for key in place[:-1]:
            node = node[key]
        node[place[-1]] = "changed"
        beside.write_text(json.dumps(changed))
        if place == ("sha256",):
            assert not certificate.verify(beside).matches
        else:
            assert certificate.verify(beside).found != document["sha256"], place


def test_a_page_with_another_hash_is_found(tmp_path: Path) -> None:
    path = tmp_path / "c.html"
    beside = certificate.write(build(calibrated()), path)
    path.write_text(path.read_text().replace(json.loads(beside.read_text())["sha256"], "0" * 64))
    assert not certificate.verify(beside).matches
    path.unlink()
    checked = certificate.verify(beside)
    assert checked.matches
    assert checked.page is None


@pytest.mark.parametrize("end", ["html", "htm"])
def test_the_page_leads_to_the_json_and_the_json_to_the_page(end: str, tmp_path: Path) -> None:
    path = tmp_path / f"c.{end}"
    beside = certificate.write(build(calibrated()), path)
    for named in (path, beside):
        checked = certificate.verify(named)
        assert checked.matches
        assert checked.page is True
    path.write_text(path.read_text().replace(checked.stated, "0" * 64))
    for named in (path, beside):
        assert not certificate.verify(named).matches
    beside.unlink()
    with pytest.raises(GridnodeError):
        certificate.verify(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"sha256": 1}', "[" * 100000, '{"sha256": NaN}'])
def test_what_is_no_certificate_is_told(text: str, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(text)
    with pytest.raises(GridnodeError) as failure:
        certificate.verify(path)
    assert failure.value.exit == Exit.USAGE
    with pytest.raises(GridnodeError):
        certificate.verify(tmp_path / "none.json")
    with pytest.raises(GridnodeError):
        certificate.verify(tmp_path)


def test_the_place_is_checked_before(tmp_path: Path) -> None:
    certificate.check_place(tmp_path / "c.html")
    for path in (tmp_path / "c.pdf", tmp_path / "none" / "c.html"):
        with pytest.raises(GridnodeError) as failure:
            certificate.check_place(path)
        assert failure.value.exit == Exit.USAGE
    (tmp_path / "d.html").mkdir()
    with pytest.raises(GridnodeError):
        certificate.check_place(tmp_path / "d.html")


def test_a_certificate_that_cannot_be_written_tells_what_helps(tmp_path: Path) -> None:
    with pytest.raises(GridnodeError) as failure:
        certificate.write(build(calibrated()), tmp_path / "gone" / "c.html")
    assert failure.value.action.startswith("The calibration itself is done. Make the folder first")
