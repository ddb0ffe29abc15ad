"""BL0942 single-phase metering chip on its UART, at register level.

Facts: data sheet V1.1 (RobTillaart/BL0942_SPI `documents/BL0942_V1.1_en.pdf`), with byte 20 of
the packet as real frames have it. A frame is heard and answered byte by byte at the chip's baud
rate; registers hold means over the refresh period; pulses are counted exactly from the
circuit's power.

Decided here, where the data sheet is silent: FREQ keeps its value while the voltage is below
the zero-crossing threshold; a register that does not exist reads 0; I_WAVE and V_WAVE are 20
bits at the end of the converter's range; the offset I_RMSOS acts on the square, in units of 256.
Not modelled: SPI, pins (CF, over-current, ZX), reset by 32 zero bits (a UART cannot be seen to
send them), the chip's bandwidth of 3.5 kHz.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gridnode_host.bench.chips.chip import UartChip
from gridnode_host.bench.chips.metering import Inputs, Means
from gridnode_host.bench.mains import Circuit
from gridnode_host.bench.sensors import Input
from gridnode_host.bench.site import Site, Spec

VREF = 1.218
I_RMS_PER_MV = 305978.0 / VREF  # at gain 16
V_RMS_PER_MV = 73989.0 / VREF
WATT_PER_MV2 = 3537.0 / VREF**2
WATT_SECONDS_PER_PULSE = 1638.4 * 256
FAST_RMS_RATIO = 0.363  # I_FAST_RMS of I_RMS
CREEP_STEP = 3125 / 256  # WATT per unit of WA_CREEP
I_PEAK_MV, V_PEAK_MV = 42.0, 100.0  # end of the inputs' range
FRAME_S = 0.016  # from the end of the first byte to that of the last
READ, WRITE, PACKET = 0x58, 0xA8, 0xAA

I_WAVE, V_WAVE = 0x01, 0x02
I_RMS, V_RMS, I_FAST_RMS, WATT, CF_CNT, FREQ, STATUS = range(0x03, 0x0A)
I_RMSOS, WA_CREEP, FREQ_CYC, MODE, GAIN_CR = 0x12, 0x14, 0x17, 0x19, 0x1A
I_FAST_RMS_CYC = 0x16
SOFT_RESET, USR_WRPROT = 0x1C, 0x1D
_RESET_VALUES = {
    I_RMSOS: 0,
    WA_CREEP: 0x0B,
    0x15: 0xFFFF,
    I_FAST_RMS_CYC: 1,
    FREQ_CYC: 3,
    0x18: 0x24,
    MODE: 0x87,
    GAIN_CR: 2,
    USR_WRPROT: 0,
}
_WIDTH = {0x15: 16, I_FAST_RMS_CYC: 3, FREQ_CYC: 2, 0x18: 6, MODE: 10, GAIN_CR: 2}  # else 8 bits
_GAIN = (1 / 16, 4 / 16, 1.0, 24 / 16)
_ZX_V, _ZX_I = 0x7FFFF, 0x3FFFF

_NOISE_MV = 0.01  # rms at both inputs, on the square
_JITTER = 3e-5  # of a reading, from one refresh to the next
_WATT_JITTER = 1.0  # counts


class Bl0942(UartChip):
    """One chip; `baudrate` is what its pin SCLK_BPS says, 4800 or 9600; `address` 0 to 3."""

    def __init__(
        self,
        circuit: Circuit,
        voltage: Input | None,
        current: Input | None,
        *,
        address: int = 0,
        baudrate: int = 4800,
        seed: int = 0,
    ) -> None:
        super().__init__(circuit.now, seed, 0xB10942, baudrate=baudrate)
        self.address = address
        self.registers: dict[int, int] = {}
        self.dropped = 0  # frames with a wrong checksum, or too slow
        self._circuit = circuit
        self._pin_baudrate = baudrate
        self._inputs = Inputs(circuit, voltage, current)
        self._frame = bytearray()
        self._frame_began = 0.0
        self._reset()

    # -- UART ------------------------------------------------------------------------------

    def _hear(self, byte: int, at: float) -> None:
        if self._frame and at - self._frame_began > FRAME_S:
            self._frame.clear()
            self.dropped += 1
        if not self._frame:
            if byte in (READ | self.address, WRITE | self.address):
                self._frame.append(byte)
                self._frame_began = at
            return
        self._frame.append(byte)
        reading = self._frame[0] == READ | self.address
        if len(self._frame) < (2 if reading else 6):
            return
        frame = bytes(self._frame)
        self._frame.clear()
        if not reading:
            if _checksum(frame[:-1]) != frame[-1]:
                self.dropped += 1
            else:
                self._write(frame[1], int.from_bytes(frame[2:5], "little"), at)
            return
        answer = self._packet(at) if frame[1] == PACKET else self._register(frame[1], at)
        head = frame[:1] if frame[1] == PACKET else frame
        answer += bytes([_checksum(head + answer)])
        self._send(answer, at + 0.5 / self.baudrate)

    def _register(self, address: int, at: float) -> bytes:
        return (self._read(address, at) & 0xFFFFFF).to_bytes(3, "little")

    def _packet(self, at: float) -> bytes:
        body = b"\x55"
        for address in (I_RMS, V_RMS, I_FAST_RMS, WATT, CF_CNT):
            body += self._register(address, at)
        body += self._read(FREQ, at).to_bytes(2, "little") + b"\0"
        return body + self._read(STATUS, at).to_bytes(2, "little") + b"\0"

    # -- registers -------------------------------------------------------------------------

    def _reset(self) -> None:
        now = self._clock()
        self._quiet()
        self.baudrate = self._pin_baudrate
        self.registers = dict(_RESET_VALUES)
        self._frame.clear()
        self._pulses = 0
        self._fraction = 0.0  # of the next pulse
        self._negative = False  # the last pulse was one of exported energy
        self._counted = now
        self._refreshed = now
        self._values = {I_RMS: 0, V_RMS: 0, WATT: 0, FREQ: 0x4E20}
        self._creeping = False

    def _write(self, address: int, value: int, at: float) -> None:
        if address == USR_WRPROT:
            self.registers[address] = value & 0xFF
        elif self.registers[USR_WRPROT] != 0x55:
            return
        elif address == SOFT_RESET:
            if value == 0x5A5A5A:
                self._reset()
        elif address in self.registers:
            self._measure(self._now(at))  # what was before counts with the old settings
            self._count(self._now(at))
            self.registers[address] = value & ((1 << _WIDTH.get(address, 8)) - 1)
            self.baudrate = {2: 19200, 3: 38400}.get(
                self.registers[MODE] >> 8, self._pin_baudrate
            )

    def _read(self, address: int, at: float) -> int:
        now = self._now(at)
        if address in (I_RMS, V_RMS, WATT, STATUS, FREQ):
            self._measure(now)
        if address in self._values:
            return self._values[address]
        if address == STATUS:
            self._count(now)
            weak_v, weak_i = self._values[V_RMS] < _ZX_V, self._values[I_RMS] < _ZX_I
            return weak_v << 9 | weak_i << 8 | self._creeping << 1 | self._negative
        if address == CF_CNT:
            self._count(now)
            pulses = self._pulses
            if self.registers[MODE] & 0x40 and not self._has("frozen"):
                self._pulses = 0
            return pulses
        if address == I_FAST_RMS:
            setting = self.registers[I_FAST_RMS_CYC]
            cycles = 0.5 * 2**setting if setting < 4 else 8.0
            nominal = 60 if self.registers[MODE] & 0x20 else 50
            means = self._inputs.over(now - cycles / nominal, now, self._limits())
            return min(round(math.sqrt(means.i2) * self._i_scale() * FAST_RMS_RATIO), 0xFFFFFF)
        if address in (I_WAVE, V_WAVE):
            samples = self._inputs.samples(np.array([now]), self._limits())
            channel = 0 if address == V_WAVE else 1
            return round(float(samples[channel][0]) / self._limits()[channel] * 0x7FFFF) & 0xFFFFF
        return self.registers.get(address, 0)

    # -- measuring -------------------------------------------------------------------------

    def _i_scale(self) -> float:
        return I_RMS_PER_MV * _GAIN[self.registers[GAIN_CR]]

    def _limits(self) -> tuple[float, float]:
        return V_PEAK_MV, I_PEAK_MV / _GAIN[self.registers[GAIN_CR]]

    def _creep(self) -> float:
        return self.registers[WA_CREEP] * CREEP_STEP

    def _watt(self, means: Means) -> float:
        return WATT_PER_MV2 * _GAIN[self.registers[GAIN_CR]] * means.p

    def _measure(self, now: float) -> None:
        """Refresh the registers where one more refresh period has passed."""
        period = 0.8 if self.registers[MODE] & 0x08 else 0.4
        passed = int((now - self._refreshed) / period)
        if passed <= 0:
            return
        self._refreshed += passed * period
        means = self._inputs.over(self._refreshed - period, self._refreshed, self._limits())
        random = self._rng.standard_normal(4).tolist()
        jitter = [1.0 + _JITTER * x for x in random[:3]]
        v_rms = V_RMS_PER_MV * math.sqrt(means.u2 + _NOISE_MV**2)
        i_rms = self._i_scale() * math.sqrt(means.i2 + _NOISE_MV**2)
        i_rms = math.sqrt(i_rms**2 + 256 * self.registers[I_RMSOS])
        watt = self._watt(means) * jitter[2] + _WATT_JITTER * random[3]
        self._creeping = abs(watt) < self._creep()
        self._values[V_RMS] = min(round(v_rms * jitter[0]), 0xFFFFFF)
        self._values[I_RMS] = 0 if self._creeping else min(round(i_rms * jitter[1]), 0xFFFFFF)
        self._values[WATT] = 0 if self._creeping else round(watt) & 0xFFFFFF
        if self._values[V_RMS] >= _ZX_V:
            self._values[FREQ] = self._period(self._refreshed)

    def _period(self, now: float) -> int:
        """FREQ: microseconds of a cycle in steps of 2, over FREQ_CYC cycles."""
        nominal = self._circuit.segments(now, now)[0][0].frequency
        seconds = (2 << self.registers[FREQ_CYC]) / nominal
        parts = self._circuit.segments(now - seconds, now)
        cycles = sum(segment.frequency * (end - start) for segment, start, end in parts)
        return 2 * round(5e5 * seconds / cycles) if cycles else 0x4E20

    def _count(self, now: float) -> None:
        """Count pulses up to `now`."""
        if now <= self._counted:
            return
        mode = self.registers[MODE]
        for segment, start, end in self._circuit.segments(self._counted, now):
            means = self._inputs.of(segment, start, end, self._limits())
            watt = self._watt(means)
            if abs(watt) < self._creep() or not mode & 0x04:
                continue
            absolute = bool(mode & 0x80)
            self._fraction += (abs(watt) if absolute else watt) * (
                (end - start) / WATT_SECONDS_PER_PULSE
            )
            pulses = int(self._fraction)
            self._fraction -= pulses
            self._pulses = (self._pulses + pulses) & 0xFFFFFF
            if pulses:
                self._negative = watt < 0
        self._counted = now


def _checksum(data: bytes) -> int:
    return ~sum(data) & 0xFF


def wire(spec: Spec, site: Site) -> tuple[Bl0942, dict[str, Any]]:
    """Solder the chip of a profile's entry to the node; return it and its exact calibration."""
    (voltage,), (current,), entry = site.parts.inputs(spec, _NOISE_MV)
    uart = spec["uart"]
    chip = Bl0942(
        site.circuit,
        voltage,
        current,
        address=spec.get("address", 0),
        baudrate=9600 if uart.get("baud") == 9600 else 4800,
        seed=site.seed,
    )
    site.wiring.attach_uart(uart["id"], chip, tx=uart["tx"], rx=uart["rx"])
    return chip, entry
