"""Finds the newest energy totals at start."""

import struct

from gridnode import storage


def load(book):
    """See Ledger.load."""
    best = None
    if book.retained:
        best = _parse(book, book.retained.read(book.record))
        book.recovered = "rtc"
    if best is None:
        book.recovered = "flash"
        for name in (book.path, book.path + ".prev"):
            try:
                with open(name, "rb") as f:
                    record = f.read()
            except OSError:
                continue
            if len(record) > 4 and storage.crc(record[4:]) == struct.unpack("<I", record)[0]:
                best = _parse(book, record[4:])
                if best:
                    break
    if best is None:
        book.recovered = "none"
    else:
        book.seq, book.total, book.resets = best
    if book.recovered != "rtc":
        try:
            book.checkpoint()
        except (storage.StorageError, OSError):
            pass  # a node with a broken flash still measures


def _parse(book, data):
    """(sequence number, totals, resets) of a record, None if it is none of this ledger."""
    if not data or len(data) != 6 + 10 * len(book.total):
        return None
    total = []
    for k in range(4, len(data) - 2, 10):
        total.append([int.from_bytes(data[k : k + 7], "little"), int.from_bytes(data[k + 7 : k + 10], "little")])
    return int.from_bytes(data[:4], "little"), total, int.from_bytes(data[-2:], "little")
