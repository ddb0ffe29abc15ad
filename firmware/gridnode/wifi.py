"""The network interface below the link: Wi-Fi, or one that is simply there.

All have `await connect()`, `is_up()` and `rssi()`. The driver heals short drop-outs by itself;
`connect` starts afresh.

Faults of the room "network": network_config, wlan_no_ap, wlan_key, wlan_timeout, lan_timeout.
"""

import time
from asyncio import sleep_ms
from micropython import const

from gridnode.fault import Fault

_DEADLINE_MS = const(20000)
_VERDICT_MS = const(4000)  # an error this late is no longer that of the attempt before
_STABLE_MS = const(1000)  # an association that lasts this long is believed
_STEP_MS = const(100)

# Reasons that WLAN.status() passes on (ESP-IDF, wifi_err_reason_t). A wrong WPA2 key shows as a
# 4-way handshake that fails or is not finished.
_NO_AP = (201, 210, 211, 212)
_KEY = (15, 202, 204, 205)


def _network(code, message):
    return Fault("network", code, message)


class Interface:
    """A network that is simply there."""

    async def connect(self):
        """Wait for the network. Raises Fault."""

    def is_up(self):
        return True

    def rssi(self):
        """dBm, None where there is no radio."""

    async def _wait(self, judge):
        """Until the interface has been up for a while; `judge(elapsed_ms)` raises a fault."""
        start = time.ticks_ms()
        since = None
        while True:
            now = time.ticks_ms()
            if not self.is_up():
                since = None
                judge(time.ticks_diff(now, start))
            elif since is None:
                since = now
            elif time.ticks_diff(now, since) >= _STABLE_MS:
                return
            await sleep_ms(_STEP_MS)


class Wlan(Interface):
    """Wi-Fi station."""

    def __init__(self, wlan, ssid, key):
        self.ssid = ssid
        self._key = key
        self._wlan = wlan

    async def connect(self):
        wlan = self._wlan
        if wlan.isconnected():
            return
        wlan.active(False)  # ends a stuck association
        wlan.active(True)
        try:
            wlan.config(reconnects=3)  # else the driver tries for ever and hides the reason
            wlan.config(pm=0)  # modem sleep delays every answer by up to a beacon interval
        except (OSError, ValueError):
            pass  # a port without these settings
        wlan.connect(self.ssid, self._key)
        await self._wait(self._judge)

    def _judge(self, elapsed):
        if elapsed < _VERDICT_MS:
            return
        status = self._wlan.status()
        if status in _NO_AP:
            raise _network("wlan_no_ap", "no usable access point for %s" % self.ssid)
        if status in _KEY:
            raise _network("wlan_key", "%s refuses the key" % self.ssid)
        if elapsed >= _DEADLINE_MS:
            raise _network("wlan_timeout", "no address from %s (%s)" % (self.ssid, status))

    def is_up(self):
        return self._wlan.isconnected()

    def rssi(self):
        try:
            return self._wlan.status("rssi")
        except (OSError, ValueError):
            return None
