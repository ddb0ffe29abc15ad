"""Ethernet. Faults of the room "network": lan_timeout."""

from micropython import const

from gridnode.fault import Fault
from gridnode.wifi import Interface

_DEADLINE_MS = const(20000)


class Lan(Interface):
    """Ethernet on a network.LAN."""

    def __init__(self, lan):
        self._lan = lan

    async def connect(self):
        if not self._lan.active():
            self._lan.active(True)
        await self._wait(self._judge)

    def _judge(self, elapsed):
        if elapsed >= _DEADLINE_MS:
            raise Fault("network", "lan_timeout", "no address on Ethernet: check cable, switch, DHCP")

    def is_up(self):
        return self._lan.isconnected()
