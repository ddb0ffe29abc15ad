"""Other ways to the broker than Wi-Fi."""

from __future__ import annotations

import pytest
from gridnode_host.bench.rig import Rig


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["lan", "none"])
def test_shadow_arrives_over(kind: str) -> None:
    with Rig.virtual(nodes=1, network=kind) as rig:
        reported = rig.wait_reported("node-1", lambda r: r["voltage"], 20)
        assert reported["voltage"] == pytest.approx(230, rel=0.01)
        assert "rssi" not in reported["node"]
