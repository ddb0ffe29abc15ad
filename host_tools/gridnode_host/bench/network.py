"""The radio and the cable of a node: what its network interfaces report, and when."""

from __future__ import annotations

import errno

from gridnode_host.bench.bus import Answer, Handler, Op
from gridnode_host.bench.clock import RigClock
from gridnode_host.bench.wiring import Wiring


class Network:
    """The WLAN station and the LAN port: what they report, and when."""

    SCAN_S = 1.2
    """Rig seconds from connecting to the association or its failure."""
    DHCP_S = 0.6
    LOST_S = 2.0
    """Rig seconds that the station needs to notice that its access point is gone."""

    def __init__(self, wiring: Wiring, clock: RigClock) -> None:
        self._wiring = wiring
        self._clock = clock
        self._active = [False, False]
        self._wanted: tuple[str, str] | None = None
        self._status = 1000
        self._since = 0.0
        self._lan_since = 0.0

    def handlers(self) -> dict[int, Handler]:
        """Return the operations served here."""
        return {
            Op.NET_ACTIVE: self._activate,
            Op.NET_CONNECT: self._connect,
            Op.NET_DISCONNECT: self._disconnect,
            Op.NET_STATUS: self._report,
            # a negative value would be an errno
            Op.NET_RSSI: lambda *_: -self._wiring.wlan_rssi,
        }

    def _activate(self, interface: int, on: int, _c: int, _data: bytes) -> Answer:
        if on >= 0 and bool(on) != self._active[interface]:
            self._active[interface] = bool(on)
            self._lan_since = self._clock.now()
            if interface == 0:
                self._wanted, self._status = None, 1000
        return int(self._active[interface])

    def _connect(self, _a: int, _b: int, _c: int, data: bytes) -> Answer:
        if not self._active[0]:
            raise OSError(errno.EPERM, "the station is not active")
        ssid, _, key = data.decode().partition("\0")
        self._wanted = (ssid, key)
        self._status, self._since = 1001, self._clock.now()
        return 0

    def _disconnect(self, _a: int, _b: int, _c: int, _data: bytes) -> Answer:
        self._wanted, self._status = None, 1000
        return 0

    def _report(self, what: int, _b: int, _c: int, _data: bytes) -> Answer:
        if what == 0:
            return self._wlan()
        if what == 1:
            return self._lan()
        return int(self._wlan() == 1010 or self._lan() == 5 or self._wiring.modem_up)

    def _lan(self) -> int:
        if not self._active[1]:
            return 0
        if not self._wiring.lan_up:
            self._lan_since = self._clock.now()
            return 4
        return 5 if self._clock.now() - self._lan_since >= self.DHCP_S else 3

    def _wlan(self) -> int:
        """Advance the station: it tries again by itself until it is told to stop."""
        if self._wanted is None:
            return self._status
        ssid, key = self._wanted
        wiring, now = self._wiring, self._clock.now()
        reachable = wiring.wlan_up and ssid in wiring.wlan
        if self._status == 1010:
            if reachable:
                self._since = now
            elif now - self._since >= self.LOST_S:
                self._status, self._since = 200, now
        elif now - self._since >= self.SCAN_S:
            if not reachable:
                self._status, self._since = 201, now
            elif wiring.wlan[ssid] != key:
                self._status, self._since = 202, now
            elif now - self._since >= self.SCAN_S + self.DHCP_S:
                self._status, self._since = 1010, now
            else:
                self._status = 1001
        return self._status
