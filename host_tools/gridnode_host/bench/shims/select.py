"""`select` in node time: the VM's own poll object waits in real time."""

# ruff: noqa: I001, F401

import uselect
from uselect import POLLERR, POLLHUP, POLLIN, POLLOUT

import _clock


class poll:
    def __init__(self):
        native = uselect.poll()
        self._poll = native.poll
        self.register = native.register
        self.unregister = native.unregister
        self.modify = native.modify

    def poll(self, timeout=-1):
        _clock.leave()
        left = None if timeout is None or timeout < 0 else timeout * 1000
        while left is None or left > 0:
            left = _clock.nap(left, self._poll)
            if isinstance(left, list):
                return left
        _clock.sync()
        _clock.look()
        return self._poll(0)

    ipoll = poll  # the list serves as the iterator
