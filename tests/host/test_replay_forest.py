"""A forest beside the detector: it names what the rules of faults leave unnamed."""

from __future__ import annotations

import pytest
from gridnode_host import resources
from gridnode_host.detection import streams
from gridnode_host.detection.stream_file import Stream
from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.replay.judge import judge

ROWS = 11520
"""All of a stream."""


@pytest.fixture(scope="module")
def stream() -> Stream:
    drawn = streams.make("t_faults", 3)
    return Stream(
        name=drawn.name,
        t=drawn.t[:ROWS],
        values={name: values[:ROWS] for name, values in drawn.values.items()},
        label=drawn.label[:ROWS],
        unscored=drawn.unscored[:ROWS],
        by_signal={},
        fault=drawn.fault[:ROWS],
        train=drawn.train[:ROWS],
        limits=drawn.limits,
    )


def test_a_forest_changes_names_and_nothing_else(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = [rule for rule in resources.faults() if rule["fault"] != "phase_loss"]
    monkeypatch.setattr(resources, "faults", lambda: table)
    forest = resources.forest("feeder-faults")
    alone = judge(stream, train=stream.train)
    named = judge(stream, train=stream.train, forest=forest)
    assert (alone.grades == named.grades).all() and (alone.alarm == named.alarm).all()
    other = alone.diagnosis != named.diagnosis
    assert set(named.diagnosis[other]) == {"phase_loss"}, "what the table does not know"
    assert (alone.diagnosis[other] == alone.kind[other]).all()  # a fault of the table stands
    assert named.model == alone.model


def test_a_forest_of_no_use_is_refused_with_its_reason(stream: Stream) -> None:
    whole = resources.forest("feeder-faults")
    for forest, reason in (
        (b"not a forest, whatever the length of it", "this is no file of a forest"),
        (whole[:100], f"100 bytes instead of {len(whole)}"),
    ):
        with pytest.raises(GridnodeError) as refusal:
            judge(stream, train=stream.train, forest=forest)
        assert (refusal.value.cause, refusal.value.exit) == (reason, Exit.USAGE)
