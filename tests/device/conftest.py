"""The tests of this folder run inside the MicroPython VM; see ``tests/device_vm.py``."""

from __future__ import annotations

from pathlib import Path

import pytest
from device_vm import collect, device_vm

__all__ = ["device_vm"]


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    """Collect a device test by parsing it: it is MicroPython and cannot be imported here."""
    return collect(module_path, parent)
