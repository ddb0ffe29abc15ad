"""Ethernet."""

from gridnode.wifi import Interface


class Lan(Interface):
    """Ethernet on a network.LAN."""

    def __init__(self, lan):
        self.lan = lan

    async def connect(self):
        from gridnode.opening import network

        await network.plug(self)

    def is_up(self):
        return self.lan.isconnected()
