"""Makes the network interface that node.json asks for."""

from micropython import const

from gridnode import wifi
from gridnode.fault import Fault

_PINS = const(("mdc", "mdio", "power", "reset", "ref_clk", "cs", "int"))


def interface(config):
    """The interface for the `network` object of node.json. Raises Fault network_config."""
    kind = config.get("kind")
    try:
        if kind == "none":
            return wifi.Interface()
        import network

        if config.get("hostname"):
            network.hostname(config["hostname"])
        if kind == "wlan":
            return wifi.Wlan(network.WLAN(network.STA_IF), config["ssid"], config.get("key"))
        if kind == "lan":
            from gridnode.lan import Lan

            return Lan(network.LAN(**_lan_arguments(network, config.get("lan", {}))))
    except (ImportError, AttributeError, KeyError, TypeError, ValueError, OSError) as e:
        raise Fault("network", "network_config", "network.kind %s: %r" % (kind, e))
    raise Fault("network", "network_config", "unknown network.kind %s" % kind)


def _lan_arguments(network, options):
    """Arguments of network.LAN from `network.lan` of node.json, see the config schema."""
    from machine import Pin

    arguments = {}
    for name in options:
        value = options[name]
        if name in _PINS:
            value = Pin(value)
        elif isinstance(value, str):
            value = getattr(network, value)
        arguments[name] = value
    return arguments
