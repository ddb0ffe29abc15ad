"""Network interfaces against a driver made of settings: verdicts, deadlines, lost association."""

import asyncio
import sys

from gridnode.fault import Fault
from gridnode.opening import network as opening
from gridnode.setup import network as setup


class Time:
    """Ticks that only go on while somebody sleeps."""

    def __init__(self):
        self.now = (1 << 30) - 3000

    def ticks_ms(self):
        return self.now & 0x3FFFFFFF

    def ticks_diff(self, a, b):
        return ((a - b + (1 << 29)) & 0x3FFFFFFF) - (1 << 29)

    async def sleep_ms(self, ms):
        self.now += ms


class Nic:
    """What WLAN and LAN have in common; `story(elapsed_ms)` gives the status."""

    def __init__(self, story):
        self.story = story
        self.calls = []
        self.start = None

    def active(self, on=None):
        if on is not None:
            self.calls.append(("active", on))
            if on:
                self.start = clock.now
        return self.start is not None

    def config(self, **settings):
        self.calls.append(("config", settings))
        if "pm" in settings:
            raise ValueError("unknown config param")

    def connect(self, ssid, key):
        self.calls.append(("connect", ssid, key))
        self.start = clock.now

    def status(self, what=None):
        if what == "rssi":
            if self.isconnected():
                return -61
            raise OSError("not associated")
        return 1000 if self.start is None else self.story(clock.now - self.start)

    def isconnected(self):
        return self.status() == 1010


class Network:
    STA_IF = 0
    PHY_LAN8720 = 5

    def __init__(self, story):
        self.story = story
        self.named = None
        self.nic = None

    def hostname(self, name):
        self.named = name

    def WLAN(self, which):
        self.nic = Nic(self.story)
        return self.nic

    def LAN(self, mdc, mdio, phy_type, phy_addr):
        self.options = (mdc, mdio, phy_type, phy_addr)
        self.nic = Nic(self.story)
        return self.nic


class Machine:
    @staticmethod
    def Pin(number):
        return "pin%d" % number


WLAN = {"kind": "wlan", "ssid": "site", "key": "secret", "hostname": "n1"}


def make(config, story):
    global clock
    clock = Time()
    opening.time = clock
    opening.sleep_ms = clock.sleep_ms
    network = Network(story)
    sys.modules["network"] = network
    sys.modules["machine"] = Machine
    return setup.interface(config), network


def always(status):
    return lambda ms: status


def connect(interface):
    asyncio.run(interface.connect())


def elapsed(interface):
    start = clock.now
    connect(interface)
    return clock.now - start


def fault(code, call, *args):
    try:
        call(*args)
    except Fault as e:
        assert e.room == "network" and e.code == code, (e.code, e.message)
        assert "secret" not in e.message
        return e
    raise AssertionError("no fault " + code)


def test_association():
    interface, network = make(WLAN, lambda ms: 1010 if ms >= 1500 else 1001)
    assert network.named == "n1"
    assert not interface.is_up() and interface.rssi() is None
    took = elapsed(interface)
    assert 2500 <= took <= 3000, took
    assert interface.is_up() and interface.rssi() == -61
    assert ("connect", "site", "secret") in network.nic.calls
    calls = len(network.nic.calls)
    assert elapsed(interface) == 0 and len(network.nic.calls) == calls


def test_association_that_flaps_is_not_believed():
    interface, network = make(WLAN, lambda ms: 1010 if ms // 500 % 2 or ms > 4000 else 1001)
    assert elapsed(interface) > 4500


def test_verdicts_of_the_driver():
    for status, code in ((201, "wlan_no_ap"), (202, "wlan_key"), (15, "wlan_key")):
        interface, network = make(WLAN, always(status))
        fault(code, connect, interface)
        assert 4000 <= clock.now - network.nic.start < 5000


def test_stale_verdict_of_the_attempt_before_is_not_believed():
    interface, network = make(WLAN, lambda ms: 201 if ms < 3000 else 1010)
    elapsed(interface)
    assert interface.is_up()


def test_no_address():
    interface, network = make(WLAN, lambda ms: 1001)
    fault("wlan_timeout", connect, interface)
    assert clock.now - network.nic.start < 21000


def test_lost_association_is_noticed_and_renewed():
    interface, network = make(WLAN, lambda ms: 1010 if ms < 60000 else 200)
    elapsed(interface)
    clock.now += 60000
    assert not interface.is_up() and interface.rssi() is None
    elapsed(interface)
    assert interface.is_up()


def test_ethernet():
    config = {
        "kind": "lan",
        "lan": {"mdc": 23, "mdio": 18, "phy_type": "PHY_LAN8720", "phy_addr": 1},
    }
    interface, network = make(config, lambda ms: 1010 if ms > 900 else 1)
    assert network.options == ("pin23", "pin18", 5, 1)
    elapsed(interface)
    assert interface.is_up() and interface.rssi() is None
    interface, network = make(config, lambda ms: 1)
    fault("lan_timeout", connect, interface)


def test_none():
    interface, _ = make({"kind": "none"}, None)
    asyncio.run(interface.connect())
    assert interface.is_up() and interface.rssi() is None


def test_settings_that_cannot_work():
    for config in (
        {},
        {"kind": "wlan"},
        {"kind": "5g"},
        {"kind": "lan"},
        {"kind": "lan", "lan": {"mdc": 1, "mdio": 2, "phy_addr": 1, "phy_type": "PHY_X"}},
    ):
        fault("network_config", make, config, None)


def test_chip_without_the_interface():
    make({"kind": "none"}, None)
    del sys.modules["network"]
    sys.modules["network"] = Machine
    fault("network_config", lambda: setup.interface(WLAN))
