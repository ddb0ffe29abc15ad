"""The network interface below the link: Wi-Fi, or one that is simply there.

All have `await connect()`, `is_up()` and `rssi()`. The driver heals short drop-outs by itself;
`connect` starts afresh.

Faults of the room "network": network_config, wlan_no_ap, wlan_key, wlan_timeout, lan_timeout.
"""


class Interface:
    """A network that is simply there."""

    async def connect(self):
        """Wait for the network. Raises Fault."""

    def is_up(self):
        return True

    def rssi(self):
        """dBm, None where there is no radio."""


class Wlan(Interface):
    """Wi-Fi station; `wlan` is a network.WLAN."""

    def __init__(self, wlan, ssid, key):
        self.wlan = wlan
        self.ssid = ssid
        self.key = key

    async def connect(self):
        if not self.is_up():
            from gridnode.opening import network

            await network.associate(self)

    def is_up(self):
        return self.wlan.isconnected()

    def rssi(self):
        try:
            return self.wlan.status("rssi")
        except (OSError, ValueError):
            return None
