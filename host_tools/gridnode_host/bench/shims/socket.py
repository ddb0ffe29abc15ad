"""`socket` of a chip: without a network there is no name service."""

# ruff: noqa: I001, F403

import _bus
import usocket
from usocket import *


def getaddrinfo(host, port, *args):
    if not _bus.call(73, 2):
        raise OSError(-202)
    return usocket.getaddrinfo(host, port, *args)
