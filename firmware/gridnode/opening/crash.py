"""Keeps the record of the last failure."""

import io
import sys

from gridnode import documents, health, storage

CRASH = "/log/crash.json"


def record(error, timestamp):
    """See health.record_crash."""
    text = io.StringIO()
    sys.print_exception(error, text)
    try:
        trace = text.getvalue()[-800:]
        documents.save(CRASH, {"version": 1, "firmware": health.VERSION, "timestamp": timestamp, "trace": trace})
    except (storage.StorageError, OSError):
        pass
