"""`network`: a WLAN station and a LAN port; the bench plays the air and the cable."""

# ruff: noqa: I001

import _bus
from micropython import const

_UP = const((1010, 5))  # status of either interface: STAT_GOT_IP, ETH_GOT_IP

# One text: the chip has their names in its ROM, here each would lie on the heap.
_CONSTANTS = const(
    "STA_IF 0 AP_IF 1 STAT_IDLE 1000 STAT_CONNECTING 1001 STAT_GOT_IP 1010 STAT_NO_AP_FOUND 201 "
    "STAT_WRONG_PASSWORD 202 STAT_BEACON_TIMEOUT 200 STAT_ASSOC_FAIL 203 STAT_HANDSHAKE_TIMEOUT 204 "
    "PHY_LAN8710 0 PHY_LAN8720 1 PHY_IP101 2 PHY_RTL8201 3 PHY_DP83848 4 PHY_KSZ8041 5 "
    "ETH_INITIALIZED 0 ETH_CONNECTED 3 ETH_DISCONNECTED 4 ETH_GOT_IP 5"
)

_config = {"hostname": "mpy-esp32", "country": "XX"}


def __getattr__(name):
    words = _CONSTANTS.split()
    if name not in words:
        raise AttributeError(name)
    return int(words[words.index(name) + 1])


def _setting(key, value):
    if value is not None:
        _config[key] = value
    return _config[key]


def hostname(name=None):
    return _setting("hostname", name)


def country(code=None):
    return _setting("country", code)


class _Interface:
    def active(self, on=None):
        return bool(_bus.call(70, self._id, -1 if on is None else 1 if on else 0))

    def isconnected(self):
        return self._status() == _UP[self._id]

    def _status(self):
        return _bus.call(73, self._id)

    def ifconfig(self, config=None):
        if config is None:
            if self.isconnected():
                return ("127.0.0.1", "255.0.0.0", "127.0.0.1", "127.0.0.1")
            return ("0.0.0.0",) * 4
        return None

    def ipconfig(self, *names, **settings):
        if settings:
            return None
        address = self.ifconfig()
        return address[:2] if names[0] == "addr4" else address[2]

    def config(self, *names, **settings):
        if not names:
            _config.update(settings)
            return None
        name = names[0]
        if name == "mac":
            import machine

            return machine.unique_id()
        return _config.get({"ssid": "essid", "dhcp_hostname": "hostname"}.get(name, name), 0)


class WLAN(_Interface):
    IF_STA = 0
    IF_AP = 1
    PM_NONE = 0
    PM_PERFORMANCE = 1
    PM_POWERSAVE = 2
    SEC_OPEN = 0
    SEC_WPA2 = 3

    def __init__(self, interface=0):
        if interface:
            raise OSError("access point not fitted")
        self._id = interface

    def connect(self, ssid=None, key=None, *, bssid=None):
        if ssid is not None:
            _config["essid"] = ssid
        _bus.call(71, out="{}\0{}".format(_config.get("essid", ""), key or "").encode())

    def disconnect(self):
        _bus.call(72)

    def status(self, what=None):
        return -_bus.call(74) if what == "rssi" else self._status()


class LAN(_Interface):
    _id = 1

    def __init__(self, id=None, **wiring):
        pass

    def status(self):
        return self._status()
