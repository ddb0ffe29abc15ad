"""DS18B20 thermometer on a 1-Wire bus, from Maxim's data sheet; powered by its own pin.

Slots come as bits; nothing depends on their length. Not modelled: parasite power.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gridnode_host.bench.chips.chip import Chip
from gridnode_host.bench.site import Site, Spec, Wired

FAMILY = 0x28

READ_ROM, MATCH_ROM, SKIP_ROM, SEARCH_ROM, ALARM_SEARCH = 0x33, 0x55, 0xCC, 0xF0, 0xEC
CONVERT, READ_SCRATCHPAD, WRITE_SCRATCHPAD = 0x44, 0xBE, 0x4E
COPY_SCRATCHPAD, RECALL, READ_POWER_SUPPLY = 0x48, 0xB8, 0xB4

_CONVERSION_S = (0.09375, 0.1875, 0.375, 0.75)  # of 9 to 12 bits
_COPY_S = 0.01
_POWER_ON = 85 * 16  # what the temperature register holds before the first conversion
_FACTORY = (0x4B, 0x46, 0x7F)  # TH, TL, configuration: 12 bits
_CONFIG_FIXED = 0x1F  # bits that always read 1
_RANGE = (-55.0, 125.0)

Slots = Iterator[None]


def crc8(data: bytes) -> int:
    """Maxim's: reflected polynomial 0x8C, init 0."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x8C if crc & 1 else 0)
    return crc


def rom_of(serial: int) -> bytes:
    """The 64-bit ROM code: family, serial number (48 bits, lowest byte first), CRC."""
    body = bytes((FAMILY,)) + serial.to_bytes(6, "little")
    return body + bytes((crc8(body),))


class Ds18b20(Chip):
    """One thermometer; `temperature` tells degC around it."""

    faults = (*Chip.faults, "crc", "wrong_id")

    def __init__(
        self, clock: Callable[[], float], rom: bytes, temperature: Callable[[], float], seed: int = 0
    ) -> None:
        super().__init__(clock, seed, 0xD518)
        self.rom = rom
        self._temperature = temperature
        self._eeprom = _FACTORY
        self._converted: int | None = None
        self._reset()

    # -- wiring.OneWireDevice --------------------------------------------------------------

    def reset(self) -> bool:
        """A reset pulse: whatever was under way but a conversion is over."""
        with self._lock:
            self._state = "rom"
            self._in = self._count = 0
            self._out = 0, 0
            return self._present()

    def write_bit(self, bit: int) -> None:
        """A write slot."""
        with self._lock:
            if not self._present() or self._state == "idle":
                return
            if self._state == "search":
                self._choose(bit)
                return
            self._in |= bit << self._count
            self._count += 1
            need = {"rom": 8, "match": 64, "function": 8, "write": 24}.get(self._state, 0)
            if self._count == need:
                value, self._in, self._count = self._in, 0, 0
                self._take(value)

    def read_bit(self) -> int:
        """A read slot."""
        with self._lock:
            if self._has("stuck_low") and self._powered:
                return 0
            if not self._present():
                return 1
            if self._state == "search":
                return self._tell()
            if self._state == "busy":
                return int(self._clock() >= self._busy_until)
            value, count = self._out
            if not count:
                return 1
            self._out = value >> 1, count - 1
            return value & 1

    # -- commands --------------------------------------------------------------------------

    def _present(self) -> bool:
        return self._answers() and not self._has("stuck_high")

    def _code(self) -> bytes:
        return rom_of(int.from_bytes(self.rom[1:7], "little") ^ 1) if self._has("wrong_id") else self.rom

    def _take(self, value: int) -> None:
        """All bits of a command, or of what belongs to one, have come."""
        state, self._state = self._state, "idle"
        if state == "rom":
            self._rom_command(value)
        elif state == "match":
            if value.to_bytes(8, "little") == self._code():
                self._state = "function"
        elif state == "function":
            self._function(value)
        else:
            high, low, config = value.to_bytes(3, "little")
            self._marks = high, low, config & 0x60 | _CONFIG_FIXED

    def _rom_command(self, command: int) -> None:
        if command == SKIP_ROM:
            self._state = "function"
        elif command == MATCH_ROM:
            self._state = "match"
        elif command == READ_ROM:
            self._state = "function"
            self._send(self._code())
        elif command == SEARCH_ROM or (command == ALARM_SEARCH and self._alarm()):
            self._state = "search"
            self._step = 0

    def _function(self, command: int) -> None:
        self._settle()
        if command == CONVERT:
            self._converted = self._measure()
            self._busy(_CONVERSION_S[self._marks[2] >> 5 & 3])
        elif command == READ_SCRATCHPAD:
            self._send(self._on_the_wire(self._scratchpad()))
        elif command == WRITE_SCRATCHPAD:
            self._state = "write"
        elif command == COPY_SCRATCHPAD:
            self._eeprom = self._marks
            self._busy(_COPY_S)
        elif command == RECALL:
            self._marks = self._eeprom
        elif command == READ_POWER_SUPPLY:
            pass  # read slots give 1: not parasite

    def _send(self, data: bytes) -> None:
        self._out = int.from_bytes(data, "little"), 8 * len(data)

    def _busy(self, seconds: float) -> None:
        self._state = "busy"
        self._busy_until = self._clock() + seconds

    # -- search ----------------------------------------------------------------------------

    def _tell(self) -> int:
        """The bit of the ROM at which the search is, then its complement."""
        position, turn = divmod(self._step, 3)
        self._step += 1
        bit = int.from_bytes(self._code(), "little") >> position & 1
        return bit ^ turn

    def _choose(self, bit: int) -> None:
        """The master goes on with those that have this bit."""
        position = self._step // 3
        self._step += 1
        if bit != int.from_bytes(self._code(), "little") >> position & 1:
            self._state = "idle"
        elif position == 63:
            self._state = "function"

    def _alarm(self) -> bool:
        self._settle()
        whole = self._register >> 4
        high, low = (mark - (mark >> 7 << 8) for mark in self._marks[:2])
        return whole >= high or whole <= low

    # -- measuring -------------------------------------------------------------------------

    def _reset(self) -> None:
        self._register = _POWER_ON
        self._marks = self._eeprom
        self._converted = None
        self._busy_until = 0.0
        self._state = "idle"
        self._in = self._count = self._step = 0
        self._out = 0, 0

    def _measure(self) -> int:
        if self._has("frozen"):
            return self._register
        degrees = min(max(self._temperature(), _RANGE[0]), _RANGE[1])
        missing = 3 - (self._marks[2] >> 5 & 3)  # bits that the resolution leaves out read 0
        return round(degrees * 16.0) >> missing << missing

    def _settle(self) -> None:
        """Take over a conversion that has come to its end."""
        if self._converted is not None and self._clock() >= self._busy_until:
            self._register, self._converted = self._converted, None

    def _scratchpad(self) -> bytes:
        body = (self._register & 0xFFFF).to_bytes(2, "little") + bytes((*self._marks, 0xFF, 0x0C, 0x10))
        crc = crc8(body)
        if self._rng.random() < self._rates.get("crc", 0.0):
            crc ^= 0x01
        return body + bytes((crc,))


def wire(spec: Spec, site: Site) -> Wired:
    """Put a thermometer on the 1-Wire bus of the profile's entry, at its place."""
    place, onewire = spec["id"], spec["onewire"]
    pin = onewire["pin"]
    number = len(site.wiring.onewire.get(pin, ()))
    rom = bytes.fromhex(onewire["rom"]) if "rom" in onewire else rom_of(0x0300_0000_0000 + 256 * site.seed + number)
    sensor = Ds18b20(site.circuit.now, rom, lambda: site.environment.temperature(place), site.seed)
    site.wiring.attach_onewire(pin, sensor)
    return sensor, None
