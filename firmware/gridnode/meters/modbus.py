"""A Modbus RTU meter that is known by its map, e.g. Rish Master 3430, Eastron SDM120, SDM630 (boards/maps).

The functions above `Meter` are the codec of the registers; the frames are those of `rtu`.
"""

import struct
from micropython import const

from gridnode import reading as r
from gridnode.meters import angle, rtu
from gridnode.meters.counter import Counter
from gridnode.meters.polled import BusError, Unusable

KINDS = "fIiHh"  # letters of struct: float32, u32, s32, u16, s16
_FORMATS = const((">f", ">I", ">i", ">H", ">h"))
_UNSIGNED = const((1, 3))
BY_SETTING = const(0x80)  # of a kind: the unit is what the meter's setting says
ENERGY = const(0xFE)  # of a name: imported energy; the next one is exported
_NO_NUMBER = const(255)  # exponent of a float32 that is infinite or none
_MWH_UJ = const(3600000)
_WH_UJ = const(3600000000)
_STUCK = const(600)  # equal readings; without a load a very steady supply may repeat itself for a while
_STUCK_UNDER_LOAD = const(3)  # while no energy is counted
_OVERDUE = const(10)  # counts
_MOST_GROUPS = const(12)
_ILLEGAL_ADDRESS = const(2)
_ILLEGAL_VALUE = const(3)

_word = bytearray(4)


def words(kind):
    """Registers of a value."""
    return 2 if kind & ~BY_SETTING < 3 else 1


def _fetch(data, at, kind, order):
    """Bring the value at data[at] into `_word`, highest byte first; returns how many bytes it has."""
    size = 2 * words(kind)
    for k in range(size):
        _word[k] = data[at + (order[k] if size == 4 else order[k] & 1)]
    return size


def number(data, at, kind, order):
    """The value at data[at], or None for what is none: NaN, infinity, an unsigned value of all ones.

    order: place of each byte, highest first, as it comes: bytes((0, 1, 2, 3)) for ABCD, (2, 3, 0, 1) for CDAB.
    """
    size = _fetch(data, at, kind, order)
    kind &= ~BY_SETTING
    value = struct.unpack_from(_FORMATS[kind], _word)[0]
    if kind in _UNSIGNED:
        return None if value == (1 << 8 * size) - 1 else value
    return None if not kind and _exponent() == _NO_NUMBER else value


def _exponent():
    """Exponent of the float32 in `_word`, plus 127."""
    return (_word[0] & 0x7F) << 1 | _word[1] >> 7


def total(data, at, kind, order, unit):
    """The count at data[at] times the integer `unit`, exact; None for what is no count.

    A float32 is taken apart into its integers, mantissa * 2^exponent: arithmetic in floats of 24 bits would lose the
    small steps of a large total.
    """
    value = number(data, at, kind, order)
    if value is None or value < 0:
        return None
    if kind & ~BY_SETTING:
        return value * unit
    mantissa = (_word[1] & 0x7F) << 16 | _word[2] << 8 | _word[3]
    exponent = _exponent()
    if exponent:
        mantissa |= 0x800000
    shift = max(1, exponent) - 150
    return mantissa * unit << shift if shift > 0 else mantissa * unit >> -shift


class Meter(rtu.RtuMeter):
    """The mapped meter of one profile entry; what setup.modbus.plan says of it is explained there."""

    settle_ms = 1000  # one refresh: a meter that was just switched on answers zeros before
    stuck_after = _STUCK

    def __init__(self, spec, profile, machine, time):
        from gridnode.setup import modbus

        (
            self.names,
            phases,
            totals,
            self.latency_ms,
            self._function,
            self._order,
            self._rows,
            self._limits,
            self._telling,
            self._groups,
            self._metered,
            self._step_uj,
            self._settings,
        ) = modbus.plan(spec, profile)
        super().__init__(spec, time, machine, modbus.unit(spec, profile), phases)
        self.reading.own_totals = totals
        self._missing = []  # rows that the meter does not have
        self._factor = 1  # of the energy unit, from Wh; None while it is unknown
        self._counters = {}  # row -> Counter of uJ
        self._totals = {}  # row -> uJ at the last reading
        self._doubts = 0  # voltages and frequencies of this reading that are none
        self._lack = ""  # what the meter does not tell, while it tells the rest

    async def block(self):
        """One reading; what it lacks is the problem while there is no worse one."""
        reading = await super().block()
        if reading.quality and not self.problem:
            self.problem = self._lack
        return reading

    async def configure(self):
        """Read what the meter is set to: a map holds for one wiring, and energy needs its unit."""
        function, start, count, energy, checks = self._settings
        factor = None
        if not self._missing:
            self._lack = ""
        try:
            data = await self.ask(rtu.read(self.unit, function, start, count))
        except rtu.Refused as e:
            self._lack = "unit %d does not tell its settings: %s" % (self.unit, e)
        else:
            for at, kind, value, text in checks:
                found = number(data, at, kind, self._order)
                if found != value:
                    raise BusError("%s, it reads %s" % (text, found))
            if energy:
                at, kind, factors = energy
                value = number(data, at, kind, self._order)
                for known, f in factors:
                    if value == known:
                        factor = f
                if factor is None:
                    self._lack = "energy unit %s is not known" % value
        if energy and factor != self._factor:
            self._factor = factor
            self._counters.clear()

    async def measure(self, reading):
        """Ask for all groups of rows, and again for the unit of the energy where that has grown or has none."""
        reading.metered = self._metered
        reading.energy_step = 0
        self._doubts = 0
        totals = {}
        seen = 0
        refused = []
        for group in self._groups:
            start, count = self._span(group)
            try:
                data = await self.ask(rtu.read(self.unit, self._function, start, count))
            except rtu.Refused as e:
                if e.code not in (_ILLEGAL_ADDRESS, _ILLEGAL_VALUE):
                    raise
                refused.append(group)
                self._lack = "unit %d: registers %X to %X: %s" % (self.unit, start, start + count - 1, e)
                continue
            seen = seen * 31 & 0xFFFFFF ^ hash(data)
            self._take(group, start, data, totals)
        if len(refused) == len(self._groups):
            raise BusError(self._lack)
        self.fingerprint = seen
        for group in refused:
            self._split(group)
        for row in self._missing:
            self._spoil(row, r.BUS_FAULT)
        if 3 * self._doubts > self._telling:
            raise Unusable("voltages and frequency are none: is the word order right?", r.IMPLAUSIBLE)
        for values in reading.at:
            _tidy(values)
        if self._settings[3] and (totals != self._totals or self._factor is None):
            factor = self._factor
            await self.configure()
            if factor != self._factor:
                raise BusError("the energy unit was changed")
        self._totals = totals
        for row, uj in totals.items():
            self._count(row, uj)
        count_ws = reading.energy_step // 1000000
        overdue = self.overdue(any(reading.energy), reading.at[0].get("power") or 0, _OVERDUE * count_ws)
        self.stuck_after = _STUCK_UNDER_LOAD if overdue and reading.metered else _STUCK

    def _span(self, group):
        address, kind = self._rows[0], self._rows[3]
        first, last = group[0], group[1] - 1
        return address[first], address[last] + words(kind[last]) - address[first]

    def _split(self, group):
        """Halve a refused group until the row is found that the meter does not have; the others go on."""
        first, end = group
        k = self._groups.index(group)
        if end - first > 1 and len(self._groups) < _MOST_GROUPS:
            middle = (first + end) // 2
            self._groups[k] = (first, middle)
            self._groups.insert(k + 1, (middle, end))
            for row in range(first, end):
                self._spoil(row, r.BUS_FAULT)
        else:
            del self._groups[k]
            self._missing += range(first, end)

    def _spoil(self, row, reason):
        name, phase = self._rows[1][row], self._rows[2][row]
        if name < ENERGY:
            self.reading.spoil(phase, self.names[name], reason)
        else:
            self.reading.metered = 0  # without its counter energy comes from power and time

    def _take(self, group, start, data, totals):
        """Bring the values of a group into the reading, its energies into `totals`."""
        address, names, phases, kinds, factors = self._rows
        for row in range(group[0], group[1]):
            name, kind, factor = names[row], kinds[row], factors[row]
            if kind & BY_SETTING:
                if self._factor is None:
                    self._spoil(row, r.BUS_FAULT)
                    continue
                factor *= self._factor
            at = 2 * (address[row] - start)
            if name >= ENERGY:
                value = total(data, at, kind, self._order, round(1000 * factor) * _MWH_UJ)
                if value is not None:
                    totals[row] = value
                    continue
            else:
                value = number(data, at, kind, self._order)
                if value is not None:
                    if factor != 1:
                        value *= factor
                    size = value if value >= 0 else -value
                    if size == 0 or self._limits[2 * name] < size < self._limits[2 * name + 1]:
                        self.reading.at[phases[row]][self.names[name]] = value
                        continue
                if self._limits[2 * name]:
                    self._doubts += 1
            self._spoil(row, r.IMPLAUSIBLE)

    def _count(self, row, uj):
        """Bring an energy into the reading."""
        reading, kind = self.reading, self._rows[3][row]
        if not kind & ~BY_SETTING:
            uj = (uj + _WH_UJ // 2) // _WH_UJ * _WH_UJ  # no meter counts finer: the rest is the float's rounding
        if row not in self._counters:
            unit = round(1000 * self._rows[4][row]) * _MWH_UJ
            self._counters[row] = Counter(unit << 16 * words(kind) if kind & ~BY_SETTING else None)
        place = 2 * self._rows[2][row] + self._rows[1][row] - ENERGY
        reading.energy[place] = self._counters[row].step(uj)
        # The meter's own step, or that of a float of this size.
        reading.energy_step = max(reading.energy_step, self._step_uj * self._factor, uj >> 23)


def _tidy(values):
    """What meters disagree on: the side of an angle is that of the reactive power; no voltage, no frequency."""
    lagging = values.get("phase_angle")
    if lagging is not None:
        values["phase_angle"] = angle.lag(lagging, values.get("reactive_power") or 0, 0)
    if not values.get("frequency", 1):
        values["frequency"] = None
