"""Whether the wiring of a profile can be soldered to its board: pins, buses and addresses.

Pins of the chip: ESP32 datasheet, and the boot strapping of Espressif's hardware guide.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class _Chip:
    """What the pins of a microcontroller can do."""

    pins: frozenset[int]
    adc1: frozenset[int]
    inputs_only: frozenset[int]
    flash: frozenset[int]
    strapping: Mapping[int, str]


_CHIPS = {
    "esp32": _Chip(
        pins=frozenset({*range(24), *range(25, 28), *range(32, 40)}) - {20},
        adc1=frozenset(range(32, 40)),
        inputs_only=frozenset(range(34, 40)),
        flash=frozenset(range(6, 12)),
        strapping={
            0: "starts the boot loader when it is low at reset",
            2: "keeps the chip from being flashed when it is high at reset",
            12: "sets the voltage of the flash at reset",
        },
    ),
}

_BUSES = ("spi", "i2c", "uart", "onewire")
_WIRES: dict[str, tuple[str, ...]] = {
    "spi": ("sck", "mosi", "miso", "cs"),
    "i2c": ("scl", "sda"),
    "uart": ("tx", "rx", "de"),
    "onewire": ("pin",),
}
_CONTACT = "contact.pin"
_INPUTS = ("adc", "miso", "rx")
_OWN = {"spi": ("cs",), "i2c": ("address",), "uart": (), "onewire": ("rom",)}  # of one device
_DEFAULTS: dict[str, dict[str, Any]] = {"spi": {"baud": 500_000}, "i2c": {"freq": 100_000}}
_ADDRESSES = {"sht3x": 0x44, "ads1115": 0x48, "ade7953": 0x38}  # where the profile names none
_ANY = 248  # of a PZEM-004T: whoever hears it answers


@dataclass(frozen=True)
class _Wire:
    meter: str
    role: str  # "uart.tx"
    pin: int
    bus: tuple[str, int] | None  # what may share the pin: the same wire of the same bus

    @property
    def is_input(self) -> bool:
        return self.role.rpartition(".")[2] in _INPUTS


def problems(profile: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for every pin, bus or address that cannot be."""
    wires = [wire for meter in profile["meters"] for wire in _wires(meter)]
    yield from _console(profile)
    yield from _abilities(profile, wires)
    yield from _conflicts(wires)
    for kind in _BUSES:
        users = [meter for meter in profile["meters"] if kind in meter]
        for a, b in itertools.combinations(users, 2):
            if _place(kind, a) == _place(kind, b):
                yield from _shared(kind, a, b)


def _wires(meter: Mapping[str, Any]) -> Iterator[_Wire]:
    for quantity in ("voltage", "current"):
        for k, entry in enumerate(meter.get(quantity, ())):
            if "adc" in entry:
                yield _Wire(meter["id"], f"{quantity} {k + 1} adc", entry["adc"], None)
    for kind in _BUSES:
        for name in _WIRES[kind]:
            if name in meter.get(kind, {}):
                bus = None if name == "cs" else (f"{kind}.{name}", _place(kind, meter))
                yield _Wire(meter["id"], f"{kind}.{name}", meter[kind][name], bus)
    if "contact" in meter:
        yield _Wire(meter["id"], _CONTACT, meter["contact"]["pin"], None)


def _place(kind: str, meter: Mapping[str, Any]) -> int:
    """Number of the bus; a 1-Wire bus is its pin."""
    return int(meter[kind]["pin" if kind == "onewire" else "id"])


def _console(profile: Mapping[str, Any]) -> Iterator[str]:
    console = profile["board"].get("console", {})
    pins = {console.get("tx"), console.get("rx")}
    for meter in profile["meters"]:
        number = meter.get("uart", {}).get("id")
        if number is not None and number == console.get("uart"):
            yield (
                f"meter {meter['id']}: it sits on UART {number}, the console of the board: take "
                "another uart.id"
            )
        for wire in _wires(meter):
            if wire.pin in pins:
                yield (
                    f"meter {wire.meter}: {wire.role} is pin {wire.pin} of the board's console: "
                    "take another pin"
                )


def _abilities(profile: Mapping[str, Any], wires: list[_Wire]) -> Iterator[str]:
    chip = _CHIPS.get(profile["board"].get("mcu", ""))
    if chip is None:
        return  # pins of this chip are not known here
    for wire in wires:
        where = f"meter {wire.meter}: {wire.role} is pin {wire.pin}"
        if wire.role.endswith("adc"):
            if wire.pin not in chip.adc1:
                yield f"{where}, which is not on ADC1: take one of {_list(chip.adc1)}"
        elif wire.pin in chip.flash:
            yield f"{where}, which belongs to the flash: take another pin"
        elif wire.pin not in chip.pins:
            yield f"{where}, which the chip does not have: take another pin"
        elif wire.pin in chip.inputs_only and wire.role == _CONTACT:
            yield f"{where}, an input only: pins {_list(chip.inputs_only)} have no pull-up"
        elif wire.pin in chip.inputs_only and not wire.is_input:
            yield f"{where}, an input only: pins {_list(chip.inputs_only)} cannot send"
        elif wire.pin in chip.strapping:
            yield f"{where}, which {chip.strapping[wire.pin]}: take another pin"


def _list(pins: frozenset[int]) -> str:
    return ", ".join(map(str, sorted(pins)))


def _conflicts(wires: list[_Wire]) -> Iterator[str]:
    for a, b in itertools.combinations(wires, 2):
        if a.pin == b.pin and (a.bus is None or a.bus != b.bus):
            who = f"meter {a.meter}" if a.meter == b.meter else f"meters {a.meter} and {b.meter}"
            yield f"{who}: pin {a.pin} is both {a.role} and {b.role}: take another pin for one"


def _shared(kind: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[str]:
    """Two devices on one bus: the same settings, and each can be told from the other."""
    who = f"meters {a['id']} and {b['id']}"
    bus = f"the 1-Wire pin {_place(kind, a)}" if kind == "onewire" else f"{kind} {_place(kind, a)}"
    one, other = ({**_DEFAULTS.get(kind, {}), **meter[kind]} for meter in (a, b))
    for key in sorted({*one, *other} - set(_OWN[kind])):
        x, y = one.get(key, "not given"), other.get(key, "not given")
        if x != y:
            yield f"{who} share {bus}, but {key} is {x} and {y}: use the same, or another bus"
    if kind == "i2c":
        first, second = (m[kind].get("address", _ADDRESSES.get(m["driver"])) for m in (a, b))
        if first == second:
            yield f"{who} share {bus} and the address 0x{first:02X}: give one another address"
    elif kind == "onewire":
        roms = one.get("rom"), other.get("rom")
        if None in roms or roms[0] == roms[1]:
            yield f"{who} share {bus}: give both a rom of its own"
    elif kind == "uart":
        yield from _addressed(who, bus, a, b)


def _addressed(who: str, bus: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[str]:
    if "modbus" in a and "modbus" in b:
        first, second = a["modbus"]["address"], b["modbus"]["address"]
        if _ANY in (first, second):
            yield f"{who} share {bus}, where both answer to address {_ANY}: give each its own"
    elif a["driver"] == b["driver"] == "bl0942":
        first, second = a.get("address", 0), b.get("address", 0)
    else:
        yield f"{who} share {bus}, and {a['driver']} cannot share it with {b['driver']}"
        return
    if first == second:
        yield f"{who} share {bus} and the address {first}: give one another address"
