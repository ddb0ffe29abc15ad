"""Surroundings of a node: air, places, volts."""

from __future__ import annotations

import pytest
from gridnode_host.bench.environment import Environment


def test_places_have_the_air_until_they_get_values_of_their_own() -> None:
    surroundings = Environment()
    assert (surroundings.temperature("terminal"), surroundings.humidity("air")) == (25.0, 50.0)
    surroundings.set(temperature=31.0, humidity=20.0)
    surroundings.set(temperature=90.0, at="terminal")
    assert (surroundings.temperature(), surroundings.temperature("terminal")) == (31.0, 90.0)
    assert (surroundings.humidity(), surroundings.humidity("terminal")) == (20.0, 20.0)


def test_volts() -> None:
    surroundings = Environment()
    surroundings.set(volts={0: 1.5, 2: 0.5})
    surroundings.set(volts={0: 3.0}, at="board")
    assert [surroundings.volts(k) for k in range(4)] == [1.5, 0.0, 0.5, 0.0]
    assert [surroundings.volts(k, "board") for k in range(4)] == [3.0, 0.0, 0.5, 0.0]


def test_covers() -> None:
    surroundings = Environment()
    assert not surroundings.cover_open("cabinet")
    surroundings.set(cover_open=True, at="cabinet")
    assert surroundings.cover_open("cabinet") and not surroundings.cover_open("door")
    surroundings.set(cover_open=True)
    surroundings.set(cover_open=False, at="cabinet")
    assert surroundings.cover_open("door") and not surroundings.cover_open("cabinet")


@pytest.mark.parametrize("wrong", [{"temperature": -300.0}, {"temperature": float("nan")}, {"humidity": 101.0}])
def test_what_no_place_can_have_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        Environment().set(**wrong)  # type: ignore[arg-type]
