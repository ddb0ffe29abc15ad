"""A NOR flash chip in a file: erase sets bits, program clears them, power can fail in between."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable
from pathlib import Path

SECTOR = 4096


class PowerLost(Exception):
    """The supply failed during a flash operation."""


class NorFlash:
    """Flash memory with NOR rules, kept in an image file.

    ``programs``, ``erases`` and ``bytes_programmed`` count operations; ``wear`` counts the erases
    of each sector; ``violations`` counts the bytes whose programming would have had to set a
    cleared bit (the chip leaves the AND of old and new, so the data is wrong).
    """

    def __init__(self, path: Path, size: int = 2 << 20) -> None:
        if size <= 0 or size % SECTOR:
            raise ValueError(f"the size must be a multiple of {SECTOR}")
        self.path = path
        self.size = size
        self.programs = 0
        self.erases = 0
        self.bytes_programmed = 0
        self.violations = 0
        self.wear = [0] * (size // SECTOR)
        self.on_cut: Callable[[], None] = lambda: None
        """Called when an armed cut strikes; the node cuts its power here."""
        self._bytes_left: int | None = None
        self._ops_left: int | None = None
        self._lock = threading.Lock()
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"\xff" * size)
        if path.stat().st_size != size:
            raise ValueError(f"{path} has {path.stat().st_size} bytes instead of {size}")
        self._file = path.open("r+b")
        self._memory = mmap.mmap(self._file.fileno(), size)

    def close(self) -> None:
        """Write the image back and release the file."""
        with self._lock:
            if not self._memory.closed:
                self._memory.flush()
                self._memory.close()
                self._file.close()

    def cut(self, *, after_bytes: int | None = None, after_ops: int | None = None) -> None:
        """Arm a power cut.

        With ``after_bytes`` the program or erase that passes this many bytes from now on is torn
        there (an erase counts its sector); with ``after_ops`` the supply fails before the
        operation that follows this many programs and erases. Without arguments: disarm.
        """
        with self._lock:
            self._bytes_left = after_bytes
            self._ops_left = after_ops

    def read(self, address: int, length: int) -> bytes:
        """Read bytes. Raises `ValueError` outside the chip."""
        self._check(address, length)
        return self._memory[address : address + length]

    def program(self, address: int, data: bytes) -> None:
        """Program bytes: clears bits only. Raises `PowerLost` when the armed cut strikes."""
        self._check(address, len(data))
        with self._lock:
            done = self._before(len(data))
            old = self._memory[address : address + done]
            new = bytes(map(int.__and__, old, data)) if old.strip(b"\xff") else data[:done]
            self.violations += sum(map(int.__ne__, new, data)) if new != data[:done] else 0
            self._memory[address : address + done] = new
            self.programs += 1
            self.bytes_programmed += done
            self._after(done < len(data))

    def erase(self, sector: int) -> None:
        """Erase a sector to 0xFF. Raises `PowerLost` when the armed cut strikes."""
        address = sector * SECTOR
        self._check(address, SECTOR)
        with self._lock:
            done = self._before(SECTOR)
            self._memory[address : address + done] = b"\xff" * done
            self.erases += 1
            self.wear[sector] += 1
            self._after(done < SECTOR)

    def _check(self, address: int, length: int) -> None:
        if address < 0 or address + length > self.size:
            raise ValueError(f"{length} bytes at {address} lie outside the flash")

    def _before(self, length: int) -> int:
        """Return how many bytes of the operation that begins get through."""
        if self._ops_left is not None:
            if self._ops_left <= 0:
                self._fail()
            self._ops_left -= 1
        if self._bytes_left is None:
            return length
        done = min(length, self._bytes_left)
        self._bytes_left -= done
        return done

    def _after(self, torn: bool) -> None:
        if torn:
            self._fail()

    def _fail(self) -> None:
        self._bytes_left = self._ops_left = None
        self.on_cut()
        raise PowerLost
