"""CSE7766 single-phase metering chip: frames that it sends by itself on a UART.

Facts: metering.md B.4, published frames of Tasmota, ESPurna and ESPHome users, and for the ends
of the inputs' range the data sheet of the HLW8032, its twin. The chip counts cycles in
microseconds and sends, with each, the coefficient of this very chip: V = Ucoef/Ucycle and so on.
The coefficients are for 1 mV per V and 1 mV per A. A CF pulse is Pcoef microjoules.

Frames follow each other without a pause: 24 bytes of 11 bits take 55 ms at 4800 baud.

The power cycle is the time between two CF pulses. Its register holds the last whole one for up
to a second; if no pulse comes for longer it tells the time since the last one, with bit 4 of Adj
clear. At 0xFEFF01 us the counter begins anew and the state is 0xF2 (power out of range) until
the next pulse. The first cycle after a start ends early, since it began before it was counted.

Decided here, where no source says: voltage and current are means over 0.2 s; a voltage below
0.2 mV counts as out of range. Not modelled: the CF pin, the chip's bandwidth.
"""

from __future__ import annotations

import math
from typing import Any

from gridnode_host.bench.chips.chip import UartChip
from gridnode_host.bench.chips.metering import Inputs
from gridnode_host.bench.mains import Circuit
from gridnode_host.bench.sensors import Input
from gridnode_host.bench.site import Site, Spec

U_COEF, I_COEF, P_COEF = 191_200, 16_140, 5_364_000  # typical
V_PEAK_MV, I_PEAK_MV = 700.0, 43.75  # end of the inputs' range
LONGEST_US = 0xFEFF01
START_S = 0.1  # from switch-on to the first frame

_COEF_SPREAD = 0.01
_WINDOW_S = 0.2  # of voltage and current
_HOLD_S = 1.0
_I_NOISE_MV = 0.046  # rms: the current that an idle chip shows
_U_NOISE_MV = 0.02
_U_LOWEST_MV = 0.2
_JITTER_US = 0.3  # rms, of each cycle, from one frame to the next
_BACKLOG_S = 30.0  # nobody has listened for longer: older frames are not made


class Cse7766(UartChip):
    """One chip; `coefficients` are those of voltage, current and power, seeded if not given.

    Faults of its own: `uncalibrated` (state 0xAA), `damaged` (state bit 0, coefficient memory)
    and `wild`: a share `rate` of the frames holds a wild cycle and a valid checksum.
    """

    faults = (*UartChip.faults, "uncalibrated", "damaged", "wild")

    def __init__(
        self,
        circuit: Circuit,
        voltage: Input | None,
        current: Input | None,
        *,
        coefficients: tuple[int, int, int] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(circuit.now, seed, 0xC5E7766, baudrate=4800, parity="even")
        if coefficients is None:
            part = 1.0 + _COEF_SPREAD * self._rng.uniform(-1.0, 1.0, 3)
            coefficients = (
                round(U_COEF * part[0]),
                round(I_COEF * part[1]),
                round(P_COEF * part[2]),
            )
        self.coefficients = coefficients
        self._circuit = circuit
        self._inputs = Inputs(circuit, voltage, current)
        self._told = b""  # the last frame
        self._reset()

    # -- UART ------------------------------------------------------------------------------

    def _hear(self, byte: int, at: float) -> None:
        """It has no receiver."""

    def _tick(self, now: float) -> None:
        length = 24 * self._byte_s()
        if now - self._next_frame > _BACKLOG_S:
            self._next_frame += int((now - self._next_frame) / length) * length
        while self._next_frame <= now:
            if not (self._has("frozen") and self._told):
                self._told = self._frame(self._next_frame)
            self._send(self._told, self._next_frame)
            self._next_frame += length

    def _frame(self, at: float) -> bytes:
        now = self._now(at)
        self._count(now)
        state, cycles, valid = self._cycles(now)
        if "wild" in self._rates and self._rng.random() < self._rates["wild"]:
            which = int(self._rng.integers(3))
            cycles[which] = int(self._rng.integers(1, 0x80000))
        fields = [n for pair in zip(self.coefficients, cycles, strict=True) for n in pair]
        body = b"".join(n.to_bytes(3, "big") for n in fields)
        body += bytes([valid | (self._wrapped << 7)]) + self._pulses.to_bytes(2, "big")
        if self._has("uncalibrated"):
            state = 0xAA
        return bytes([state, 0x5A]) + body + bytes([sum(body) & 0xFF])

    # -- measuring -------------------------------------------------------------------------

    def _reset(self) -> None:
        now = self._clock()
        self._quiet()
        self._next_frame = now + START_S
        self._told = b""
        self._started = now
        self._counted = now
        self._fraction = float(self._rng.random())  # of the pulse that is under way
        self._pulses = 0
        self._wrapped = False
        self._pulse_at = now  # the last pulse, or the start
        self._interval: float | None = None  # between the last two

    def _cycles(self, now: float) -> tuple[int, list[int], int]:
        """State, the three cycles in microseconds, and the bits of Adj that tell them valid."""
        u_coef, i_coef, _ = self.coefficients
        since = max(self._started, now - _WINDOW_S)
        means = self._inputs.over(since, now, (V_PEAK_MV, I_PEAK_MV))
        jitter = [_JITTER_US * x for x in self._rng.standard_normal(3).tolist()]
        u_mv = math.hypot(math.sqrt(means.u2), _U_NOISE_MV)
        i_mv = math.hypot(math.sqrt(means.i2), _I_NOISE_MV)
        cycles = [round(u_coef / u_mv + jitter[0]), round(i_coef / i_mv + jitter[1])]
        valid = 0x20
        faults = 0x01 if self._has("damaged") else 0
        if u_mv >= _U_LOWEST_MV:
            valid |= 0x40
        else:
            faults |= 0x08
        waited = now - self._pulse_at
        if self._interval is not None and waited <= _HOLD_S:
            valid |= 0x10
            cycles.append(min(max(round(self._interval * 1e6 + jitter[2]), 1), LONGEST_US))
        else:
            microseconds = round(waited * 1e6)
            cycles.append(microseconds % LONGEST_US)
            if microseconds >= LONGEST_US:
                faults |= 0x02
        return (0xF0 | faults if faults else 0x55), cycles, valid

    def _count(self, now: float) -> None:
        """Count pulses up to `now`, to the moment of each."""
        if now <= self._counted:
            return
        joule_per_pulse = self.coefficients[2] * 1e-6
        for segment, start, end in self._circuit.segments(self._counted, now):
            means = self._inputs.of(segment, start, end, (V_PEAK_MV, I_PEAK_MV))
            rate = abs(means.p) / joule_per_pulse
            self._fraction += rate * (end - start)
            pulses = int(self._fraction)
            if not pulses:
                continue
            self._fraction -= pulses
            last = end - self._fraction / rate
            self._interval = 1.0 / rate if pulses > 1 else last - self._pulse_at
            self._pulse_at = last
            self._wrapped ^= bool((self._pulses + pulses) // 0x10000 & 1)
            self._pulses = (self._pulses + pulses) & 0xFFFF
        self._counted = now


def wire(spec: Spec, site: Site) -> tuple[Cse7766, dict[str, Any]]:
    """Solder the chip of a profile's entry to the node; return it and its exact calibration."""
    (voltage,), (current,), entry = site.parts.inputs(spec, _I_NOISE_MV)
    chip = Cse7766(
        site.circuit,
        voltage,
        current,
        coefficients=(U_COEF, I_COEF, P_COEF) if site.ideal else None,
        seed=site.seed,
    )
    uart = spec["uart"]
    site.wiring.attach_uart(uart["id"], chip, tx=uart["tx"], rx=uart["rx"])
    return chip, entry
