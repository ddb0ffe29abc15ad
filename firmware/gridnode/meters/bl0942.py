"""BL0942, single phase, over UART. Frames and registers: datasheet V1.1 (Belling), application note V1.04.

The functions above `Meter` are the codec: bytes and numbers in, bytes and numbers out.

The pulse counter is set to algebraic accumulation (MODE b7 = 0): it counts imported pulses up and exported ones down,
modulo 2^24, so import and export stay apart however long nobody listens; in absolute mode, the one after a reset, both
count up. And MODE then differs from its reset value: it tells whether the chip has been reset, and a count that began
anew is never taken for a wrap. What was exported and imported within one interval between two readings is netted.
"""

import asyncio
from micropython import const

from gridnode import reading as r
from gridnode.meters.line import line
from gridnode.meters.polled import BusError, Polled, Unusable

_READ = const(0x58)
_WRITE = const(0xA8)
_PACKET = const(0xAA)
_SIZE = const(23)
_HEAD = const(0x55)

_CF_CNT = const(0x07)
_STATUS = const(0x09)
_MODE = const(0x19)
_WRITE_PROTECT = const(0x1D)
_UNLOCK = const(0x55)

_NEGATIVE = const(0x01)  # STATUS: the last pulse was one of exported energy
_NO_LOAD = const(0x02)  # STATUS: active power below the creep threshold; power and current read 0
_NO_ZERO_CROSSING = const(0x200)  # STATUS: V_RMS below 0x7FFFF, no frequency
_PULSES = const(0x1000000)
_HALF = const(0x800000)

_TRIES = const(3)
_PACKETS = const(5)
_SLACK_MS = const(30)
_QUIET_MS = const(21)  # between frames to different chips; a frame that takes longer than 16 ms is dropped
_SETTLE_MS = const(1000)  # the first whole window of 800 ms


def read_command(address, register):
    """Request for a register; 0xAA asks for the packet of all values."""
    return bytes((_READ | address, register))


def write_command(address, register, value):
    """Frame that writes a register: low byte first, then the inverted sum."""
    frame = bytes((_WRITE | address, register, value & 0xFF, value >> 8 & 0xFF, value >> 16))
    return frame + bytes((~sum(frame) & 0xFF,))


def register_value(command, answer):
    """Value in the four-byte answer to `command`, None if the checksum is wrong."""
    if len(answer) != 4 or (sum(command) + sum(answer)) & 0xFF != 0xFF:
        return None
    return int.from_bytes(answer[:3], "little")


def find_packet(command, data):
    """The 23 bytes of the packet in `data`, whatever stands around them, or None.

    The checksum counts the first byte of the command, which holds the chip's address, and not the second.
    """
    for k in range(len(data) - _SIZE + 1):
        if data[k] == _HEAD and (command[0] + sum(data[k : k + _SIZE])) & 0xFF == 0xFF:
            return data[k : k + _SIZE]
    return None


def decode(packet):
    """(I_RMS, V_RMS, WATT, CF_CNT, FREQ, STATUS) of a packet; WATT is signed."""
    i, v, watt, pulses = [int.from_bytes(packet[k : k + 3], "little") for k in (1, 4, 10, 13)]
    if watt & _HALF:
        watt -= _PULSES
    return i, v, watt, pulses, packet[16] | packet[17] << 8, packet[19] | packet[20] << 8


def counted(last, count, watt):
    """Pulses from one count to the next, negative for export.

    watt: the power at both, 0 if it changed its sign: a count that ran against the power began anew at zero.
    """
    pulses = (count - last + _HALF) % _PULSES - _HALF
    if watt * pulses < 0 and abs(pulses) > 1:
        pulses = (count + _HALF) % _PULSES - _HALF
    return pulses


def agree(a, b):
    """Whether two decoded packets, one right after the other, tell the same.

    I_RMS, V_RMS and WATT stand still for 800 ms; meanwhile a pulse or two may come, and FREQ may move.
    """
    return a[:3] == b[:3] and abs(counted(a[3], b[3], 0)) <= 2 and abs(a[4] - b[4]) <= 20


class Meter(Polled):
    """BL0942 of one profile entry: `address` 0 to 3 where several share the line."""

    names = ("voltage", "current", "power", "frequency")
    period_ms = 800
    stuck_after = 10

    def __init__(self, spec, profile, machine, time):
        super().__init__(spec, time)
        self._spec = spec
        self._profile = profile
        self._machine = machine
        self._address = spec.get("address", 0)
        self._packet = read_command(self._address, _PACKET)
        self._watt = 0  # of the last reading
        self._pulses = None  # the count that the energy is accounted up to

    def start(self, correction):
        """Work out scales and registers. Raises ValueError for a baud rate that the chip's pin cannot choose."""
        from gridnode.setup import bl0942

        uart, profile = self._spec["uart"], self._profile
        if uart["baud"] not in (4800, 9600):
            # 19200 and 38400 would be lost with every reset of the chip, and 23 bytes take 48 ms at 4800.
            raise ValueError("meter %s: a BL0942 starts with 4800 or 9600 baud" % self.id)
        self._line = line(self._machine, self._time, uart)
        self._per_v, self._per_a, self._per_w, self._uj = bl0942.scales(self._spec)
        self._end_v, self._end_a = bl0942.ends(self._spec)
        self._v, self._a = profile["nominal"]["voltage"], profile["rating"]["current"]
        self._registers = bl0942.registers(profile["nominal"]["frequency"])
        self._spec = self._profile = self._machine = None
        return ()

    async def configure(self):
        """Write the registers and read them back, unless the chip still has them and has counted on."""
        async with self._line.turn:
            await asyncio.sleep_ms(_QUIET_MS)
            self._line.send(bytes(5))  # more than 32 zero bits reset the chip's UART
            await asyncio.sleep_ms(_QUIET_MS)
            self.settle_ms = 0
            self._watt = 0
            if await self._read(_MODE) == self._registers[-1][1]:
                return
            if self._pulses is not None:
                # Since its reset the chip has counted up, whatever the direction; from here it goes both ways.
                count, status = await self._read(_CF_CNT), await self._read(_STATUS)
                self._pulses = 2 * count if status & _NEGATIVE else 0
            await self._write(_WRITE_PROTECT, _UNLOCK)
            for register, value in self._registers:  # MODE, which says that all is done, comes last
                await self._write(register, value)
                if await self._read(register) != value:
                    raise BusError("read back %02X" % register)
            await self._write(_WRITE_PROTECT, 0)
            self.settle_ms = _SETTLE_MS

    async def measure(self, reading):
        """Take two packets that agree: a sum of 8 bits lets too many errors pass for one to be believed."""
        async with self._line.turn:
            await asyncio.sleep_ms(_QUIET_MS)
            values = await self._agreed()
            if await self._read(_MODE) != self._registers[-1][1]:
                raise BusError("configuration lost")
        self._fill(reading, values)

    def _fill(self, reading, values):
        i, v, watt, count, period, status = values
        flat = reading.at[0]
        volts, amperes, watts = v / self._per_v, i / self._per_a, watt / self._per_w
        if not period or volts > 2 * self._v or amperes > 3 * self._a or not self._possible(volts, amperes, watts):
            raise Unusable("%.0f V, %.2f A, %.0f W cannot be" % (volts, amperes, watts), r.IMPLAUSIBLE)
        flat["voltage"], flat["current"], flat["power"] = volts, amperes, watts
        crossing = not (status & _NO_ZERO_CROSSING or v < 0x7FFFF)
        flat["frequency"] = 1e6 / period if crossing else None
        for name, full in (("voltage", volts > self._end_v), ("current", amperes > self._end_a)):
            if full:
                reading.spoil(0, name, r.SATURATED)
                reading.spoil(0, "power", r.SATURATED)
        if status & _NO_LOAD:
            reading.flags = ("no_load",)
        self._count(reading, count, watt)
        self.fingerprint = values if crossing else None  # without a voltage nothing need move
        self._watt = watt

    def _count(self, reading, count, watt):
        if self._pulses is None:
            self._pulses = count
        pulses = counted(self._pulses, count, watt if watt * self._watt > 0 else 0)
        self._pulses = count
        reading.metered = r.IN_TOTAL
        reading.energy[pulses < 0] = abs(pulses) * self._uj
        reading.energy_step = self._uj

    def _possible(self, volts, amperes, watts):
        """No more power than V times I, but for the errors of small values."""
        return abs(watts) <= 1.1 * volts * amperes + 0.01 * self._v * self._a

    async def _agreed(self):
        """Values of two packets in a row; the next is asked for where the registers were refreshed in between."""
        values = await self._ask()
        for _ in range(_PACKETS - 1):
            before, values = values, await self._ask()
            if agree(before, values):
                return values
        raise Unusable("no two packets agree", r.IMPLAUSIBLE)

    async def _ask(self):
        """Values of a packet with a right checksum."""
        command = self._packet
        data = b""
        for _ in range(_TRIES):
            data = await self._exchange(command, _SIZE)
            packet = find_packet(command, data)
            if packet is None and data:
                # Something came before it, so its end is still on the way.
                data += await self._line.receive(_SIZE, self._wait_ms(_SIZE))
                packet = find_packet(command, data)
            if packet is not None:
                return decode(packet)
            await self._failed()
        raise BusError("packet" if data else "no answer")

    async def _read(self, register):
        command = read_command(self._address, register)
        for _ in range(_TRIES):
            value = register_value(command, await self._exchange(command, 4))
            if value is not None:
                return value
            await self._failed()
        raise BusError("read %02X" % register)

    async def _write(self, register, value):
        frame = write_command(self._address, register, value)
        self._line.send(frame)
        await asyncio.sleep_ms(self._wait_ms(len(frame)))

    async def _exchange(self, command, size):
        self._line.clear()  # late answers
        self._line.send(command)
        return await self._line.receive(size, self._wait_ms(len(command) + size))

    async def _failed(self):
        self.errors += 1
        await asyncio.sleep_ms(_QUIET_MS)  # the chip drops what it holds of a frame

    def _wait_ms(self, size):
        return size * self._line.byte_us // 1000 + _SLACK_MS
