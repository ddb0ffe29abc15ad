"""The tests of this folder run inside the MicroPython VM; see ``tests/device_vm.py``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from device_vm import collect, device_vm
from gridnode_host import resources
from link_peers import peers

__all__ = ["device_vm"]


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    """Collect a device test by parsing it: it is MicroPython and cannot be imported here."""
    return collect(module_path, parent)


@pytest.fixture(scope="session")
def modbus_maps() -> dict[str, str]:
    """The product's maps of Modbus meters as JSON text, as a node gets them."""
    return {name: json.dumps(resources.modbus_map(name)) for name in resources.map_names()}


@pytest.fixture(scope="session")
def faults() -> str:
    """The product's rules of faults as JSON text, as a node gets them."""
    return json.dumps(resources.faults())


@pytest.fixture(scope="session")
def fuzz_frames() -> int:
    """How many frames each codec of a serial line must survive: $FUZZ_FRAMES or 100,000."""
    return int(os.environ.get("FUZZ_FRAMES") or 100_000)


@pytest.fixture(scope="module")
def link_peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Ports of the peers of ``tests/link_peers.py`` and the credentials to meet them with."""
    with peers(tmp_path_factory.mktemp("peers")) as values:
        yield values
