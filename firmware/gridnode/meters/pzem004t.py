"""PZEM-004T v3, one phase over Modbus RTU at 9600 8N1. Registers and formats: the maker's V3.0 manual.

The meter knows no direction, no reactive power and no sag: it is for consumers only. Its side of the line is fed by
the mains, so it does not answer without them.
"""

from micropython import const

from gridnode import reading as r
from gridnode.meters import rtu
from gridnode.meters.counter import Counter
from gridnode.meters.polled import BusError, Unusable

_REGISTERS = const(10)
_ALARM_POWER = const(1)  # holding register, W
_ADDRESS = const(2)  # holding register
_LAST_ADDRESS = const(0xF7)
_FRESH_MS = const(200)  # the meter measures no faster
_STEP_UJ = const(3600000000)  # 1 Wh
_OVERDUE_WS = const(10800)  # three counts
_MOST_V = const(300)  # measures 80 to 260 V
_SHUNT_A = const(10)
_CLAMP_A = const(100)
_MOST_A = const(120)


def values(data):
    """(V, A, W, Wh, Hz, PF, alarm) of the ten input registers; those of 32 bits come low word first."""
    word = [data[k] << 8 | data[k + 1] for k in range(0, 2 * _REGISTERS, 2)]
    return (
        word[0] / 10,
        (word[2] << 16 | word[1]) / 1000,
        (word[4] << 16 | word[3]) / 10,
        word[6] << 16 | word[5],
        word[7] / 10,
        word[8] / 100,
        word[9] != 0,
    )


def plausible(v, i, p, f, pf):
    """Whether these can be values of one load, with room for errors: P <= V I (it starts at 0.02 A), 45 to 65 Hz."""
    return v <= _MOST_V and i <= _MOST_A and p <= v * i * 1.02 + v * 0.03 + 2 and 40 <= f <= 70 and pf <= 1


def _whole(value, most, what):
    if not 0 < value <= most or value != int(value):
        raise ValueError("%s is a whole number from 1 to %d" % (what, most))
    return int(value)


class Meter(rtu.RtuMeter):
    """PZEM-004T of one profile entry."""

    names = ("voltage", "current", "power", "power_factor", "frequency")
    settle_ms = 500
    stuck_after = 3
    commands = {
        "reset_energy": "set the energy of the meter to zero",
        "set_address": "give the meter a new address, 1 to 247; the profile needs it too",
        "set_alarm": "set the power in W above which the meter raises its alarm",
    }

    def __init__(self, spec, profile, machine, time):
        from gridnode.setup import modbus

        super().__init__(spec, time, machine, modbus.unit(spec, profile))
        self.period_ms = max(_FRESH_MS, self.period_ms)
        self.reading.energy_step = _STEP_UJ
        # Two types: with its own shunt, and with a clamp.
        self._most_a = _SHUNT_A if profile["rating"]["current"] <= _SHUNT_A else _CLAMP_A
        self._counter = Counter(1 << 32)

    async def configure(self):
        """Nothing is set up: a meter that tells its alarm power is there."""
        await self.ask(rtu.read(self.unit, rtu.READ_HOLDING, _ALARM_POWER, 1))

    async def measure(self, reading):
        """One request has it all."""
        data = await self.ask(rtu.read(self.unit, rtu.READ_INPUT, 0, _REGISTERS))
        if not any(data):
            raise BusError("all zeros")
        v, i, p, wh, f, pf, alarm = values(data)
        if not plausible(v, i, p, f, pf):
            self.errors += 1
            raise Unusable("no load takes %s V, %s A, %s W, PF %s at %s Hz" % (v, i, p, pf, f), r.IMPLAUSIBLE)
        flat = reading.at[0]
        flat["voltage"], flat["current"], flat["power"] = v, i, p
        flat["frequency"], flat["power_factor"] = f, pf
        steps = self._counter.step(wh)
        reading.metered = r.PER_PHASE
        reading.energy[0] = steps * _STEP_UJ
        if i >= self._most_a:
            for name in ("current", "power", "power_factor"):
                reading.spoil(0, name, r.SATURATED)
        if alarm:
            reading.flags = ("power_alarm",)
        # Its values are coarse enough to repeat; a counter that stands still under load is stuck.
        self.fingerprint = wh if self.overdue(steps, p, _OVERDUE_WS) else None

    async def reset_energy(self):
        """Set the meter's energy to zero; the node's own totals go on."""
        await self.ask(rtu.reset_energy(self.unit))

    async def set_address(self, address):
        """Move the meter to another address, and follow it. Raises ValueError, BusError."""
        address = _whole(address, _LAST_ADDRESS, "an address")
        await self.ask(rtu.write(self.unit, _ADDRESS, address))
        self.unit = address
        await self._confirm(_ADDRESS, address)

    async def set_alarm(self, watts):
        """Set the power above which the meter raises its alarm. Raises ValueError, BusError."""
        watts = _whole(watts, 0xFFFF, "an alarm power in W")
        await self.ask(rtu.write(self.unit, _ALARM_POWER, watts))
        await self._confirm(_ALARM_POWER, watts)

    async def _confirm(self, register, value):
        data = await self.ask(rtu.read(self.unit, rtu.READ_HOLDING, register, 1))
        if data[0] << 8 | data[1] != value:
            raise BusError("register %d was not written" % register)
