"""Fixtures that several lanes share."""

from __future__ import annotations

from pathlib import Path

import pytest
from gridnode_host import certs


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> certs.Authority:
    """A development CA in a folder of its own."""
    return certs.ensure_ca(Path(tmp_path_factory.mktemp("certs")) / "ca")
