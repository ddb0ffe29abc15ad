"""Brings a network interface up, and says why it does not come."""

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
_NO_AP = const((201, 210, 211, 212))
_KEY = const((15, 202, 204, 205))


def _network(code, message):
    return Fault("network", code, message)


async def associate(interface):
    """Start a Wi-Fi association afresh and wait until it stands. Raises Fault."""
    wlan, ssid = interface.wlan, interface.ssid
    wlan.active(False)  # ends a stuck association
    wlan.active(True)
    try:
        wlan.config(reconnects=3)  # else the driver tries for ever and hides the reason
        wlan.config(pm=0)  # modem sleep delays every answer by up to a beacon interval
    except (OSError, ValueError):
        pass  # a port without these settings
    wlan.connect(ssid, interface.key)

    def judge(elapsed):
        if elapsed < _VERDICT_MS:
            return
        status = wlan.status()
        if status in _NO_AP:
            raise _network("wlan_no_ap", "no usable access point for %s" % ssid)
        if status in _KEY:
            raise _network("wlan_key", "%s refuses the key" % ssid)
        if elapsed >= _DEADLINE_MS:
            raise _network("wlan_timeout", "no address from %s (%s)" % (ssid, status))

    await _settle(interface, judge)


async def plug(interface):
    """Switch Ethernet on and wait for its address. Raises Fault."""
    if not interface.lan.active():
        interface.lan.active(True)

    def judge(elapsed):
        if elapsed >= _DEADLINE_MS:
            raise _network("lan_timeout", "no address on Ethernet: check cable, switch, DHCP")

    await _settle(interface, judge)


async def _settle(interface, judge):
    """Until the interface has been up for a while; `judge(elapsed_ms)` raises a fault."""
    start = time.ticks_ms()
    since = None
    while True:
        now = time.ticks_ms()
        if not interface.is_up():
            since = None
            judge(time.ticks_diff(now, start))
        elif since is None:
            since = now
        elif time.ticks_diff(now, since) >= _STABLE_MS:
            return
        await sleep_ms(_STEP_MS)
