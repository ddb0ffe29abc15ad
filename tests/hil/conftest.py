"""A bench for the stories: nodes with their own mains, a broker with mutual TLS, a shadow service."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gridnode_host.bench.rig import Rig


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """One clamp node and one three-phase chip node, provisioned and calibrated for their parts."""
    with Rig.virtual(nodes=2, profile=["home-60a-ct", "feeder-200a"], ideal=True) as bench:
        yield bench


@pytest.fixture
def bare() -> Iterator[Rig]:
    """One clamp node as it comes from the factory."""
    with Rig.virtual(nodes=1, provision=False) as bench:
        yield bench
