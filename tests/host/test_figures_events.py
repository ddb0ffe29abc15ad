"""The campaign of supply events: found by name and time, what is missed or made up fails."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

from gridnode_host.bench.figures import (
    events,
    front_ends,
    plots,
)
from gridnode_host.bench.figures.event_matching import KINDS, Injected, Match, Told, match, plan
from gridnode_host.bench.figures.event_runs import Job, Run, run

DIP, SWELL, INTERRUPTION = KINDS


def told(
    name: str, at: float, percent: float = 40.0, ms: float = 40.0, uncertainty: float = 0.0
) -> Told:
    return Told(name, at - 1.0, at + 0.2, percent, ms, uncertainty)


def test_events_are_found_by_name_and_time():
    injected = [
        Injected(DIP, 100.0, None),
        Injected(SWELL, 110.0, 2),
        Injected(INTERRUPTION, 120.0, None),
    ]
    said = [told("dip", 100.1), told("dip", 110.1), told("interruption", 123.0)]
    matches, false = match(injected, said, connecting=[(109.0, 110.05)])
    assert [m.told for m in matches] == [said[0], None, None]
    assert [m.connecting for m in matches] == [False, True, False]
    assert false == said[1:]


def test_depth_and_duration_have_limits():
    def within(**change: Any) -> bool:
        return Match(Injected(DIP, 0.0, None), told("dip", 0.0, **change)).within

    assert within()
    assert within(percent=41.9)
    assert not within(percent=42.1)
    assert within(ms=59)
    assert not within(ms=61)
    assert within(ms=90, uncertainty=50)


def test_planned_events_are_of_all_kinds_and_reach_the_mains():
    planned = plan(200, 3, 1, 50.0, (1.6, 2.6))
    assert {event.kind for event in planned} == set(KINDS)
    assert {event.phase for event in planned if event.kind is DIP} == {None, 1, 2, 3}
    assert all(b.start - a.end > 1.0 for a, b in pairwise(planned))
    work = events.jobs()
    for profile in front_ends.CLAMPS:
        assert sum(job.count for job in work if job.profile == profile) == 1000
        assert sum(job.clean_s for job in work if job.profile == profile) == 1000


def test_what_is_missed_or_made_up_fails():
    injected = [Injected(DIP, 10.0 * k, None) for k in range(10)]
    matches, false = match(injected, [told("dip", 10.0 * k) for k in range(9)])
    done = Run("home-60a-ct", matches, false, [0.9], 100.0)
    job = Job("home-60a-ct", 10, 0)
    dips = events.table([(job, done)]).rows[0]
    assert (dips["case"], dips["found"], dips["share"], dips["ok"]) == ("dip", 9, 0.9, True)
    blind = replace(done, coverage=[0.95])
    assert events.table([(job, blind)]).rows[0]["ok"] is False
    liar = replace(done, false=[told("swell", 33.0)])
    assert events.table([(job, liar)]).rows[-1]["ok"] is False
    wrong = replace(
        done, matches=[*matches[:-1], Match(injected[-1], told("dip", 90.0, percent=60.0))]
    )
    assert events.table([(job, wrong)]).rows[0]["within"] == 0.9
    assert events.table([(job, wrong)]).rows[0]["ok"] is False


def test_a_clamp_on_the_full_bench_tells_events(tmp_path):
    job = Job("home-60a-ct", 6, 3)
    done = run(job)
    found = [m for m in done.matches if m.told]
    assert len(found) >= 3
    assert not done.false
    assert all(
        abs(m.depth_error or 0.0) < 2.0 for m in found if m.told and not m.told.uncertainty_ms
    )
    (path,) = plots.events([(job, done)], tmp_path)
    assert b"</svg>" in path.read_bytes()


def test_a_chip_flags_what_it_sees():
    job = Job("feeder-200a", 3, 0)
    results = events.campaign(lambda done, total: None, [job])  # in a process of its own
    assert sum(row.get("events", 0) for row in events.table(results).rows) == 3
    ((_, done),) = results
    for one in done.matches:
        if one.injected.kind != SWELL:
            assert one.told, one
            assert one.told.name in ("sag", "phase_loss")
    assert not done.false


def test_a_clean_supply_has_no_events():
    job = Job("home-60a-ct", 0, 0, clean_s=60)
    done = run(job)
    assert not done.false
    assert len(done.coverage) >= 60
    assert events.table([(job, done)]).ok
