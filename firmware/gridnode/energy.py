"""Energy totals and the sequence number: integers, in RTC memory once a second and in flash every few minutes.

A total is whole mWh and a rest in uJ (1 mWh = 3.6e6 uJ), import and export apart, per phase and in all. Totals fall
only by `reset`, which is counted. After a power cut the flash checkpoint is the newest: the energy since then, five
minutes at most, is lost; the sequence number goes on behind the block that the checkpoint reserved, so that none is
used twice.
"""

import struct
from micropython import const

from gridnode import reading as r
from gridnode import storage

PATH = "/data/energy.bin"

_UJ = const(3600000)
_RESERVE = const(4096)  # sequence numbers between two checkpoints
_CHECKPOINT_MS = const(300000)
_RETAIN_MS = const(1000)
_GAP_MS = const(10000)  # a longer hole in the measurement is not bridged with the last power


def path(meter, primary):
    """Checkpoint of a meter."""
    return PATH if primary else "/data/energy-%s.bin" % meter


class Ledger:
    """Totals of one meter. channels: entries of `Reading.at`; limit_w: largest plausible power of one entry.

    retained, record: storage.Retained and the number of the record there; path: the checkpoint.
    """

    def __init__(self, channels, limit_w, retained=None, record=1, path=PATH):
        self.seq = 0
        self.rejected = 0  # increments that no load of this rating can explain
        self.recovered = "none"
        self.resets = 0  # times that the totals were set back by command
        self.lost_ms = 0  # time without power values
        self._limit_w = limit_w
        self.total = [[0, 0] for _ in range(2 * channels)]
        self.retained = retained
        self.record = record
        self.path = path
        self._since_retain = self._since_checkpoint = 0

    def load(self):
        """Take the newest valid record of RTC memory and flash; `recovered` says which.

        The sequence numbers that a checkpoint reserved are used up by the start that reads it: a new one is written
        before the first of them is given out.
        """
        from gridnode.setup import energy

        energy.load(self)

    def _pack(self, seq):
        # 7 bytes of mWh hold 72 TWh, 3 bytes the rest below 3.6e6 uJ.
        data = seq.to_bytes(4, "little")
        for mwh, rest in self.total:
            data += mwh.to_bytes(7, "little") + rest.to_bytes(3, "little")
        return data + self.resets.to_bytes(2, "little")

    def account(self, reading):
        """Add a corrected reading: the device's counters where it has them, else power times the measured interval.

        A device that counts in total only has its phases integrated from their power.
        """
        ms = reading.ms
        for k in reading.each():
            if reading.metered == r.PER_PHASE or (reading.metered and not k):
                self._count(k, reading)
                continue
            power = reading.at[k].get("power")
            if power is None or ms > _GAP_MS:
                self.lost_ms += ms
            else:
                self._add(k, power < 0, int(abs(power) * 1000) * ms, ms, not reading.metered)
        if reading.metered == r.IN_TOTAL and reading.phases > 1:
            self._count(0, reading)
        self._since_retain += ms
        self._since_checkpoint += ms
        if self._since_checkpoint >= _CHECKPOINT_MS:
            self.checkpoint()
        elif self._since_retain >= _RETAIN_MS:
            self.retain()

    def _count(self, k, reading):
        ms = max(reading.ms, reading.energy_ms)
        for way in (0, 1):
            self._add(k, way, reading.energy[2 * k + way], ms, True, reading.energy_step)

    def _add(self, k, way, uj, ms, in_total, step=0):
        if not uj:
            return
        # One second of grace, and one count: a counter's pulse may have begun before the interval.
        if uj < 0 or uj > int(self._limit_w) * 1000 * (ms + 1000) + step:
            self.rejected += 1
            return
        self._bump(2 * k + way, uj)
        if k and in_total:
            self._bump(way, uj)

    def _bump(self, index, uj):
        total = self.total[index]
        rest = total[1] + uj
        total[0] += rest // _UJ
        total[1] = rest % _UJ

    def mwh(self, k, way):
        """Total of entry k of `Reading.at` in mWh; way 0 import, 1 export."""
        return self.total[2 * k + way][0]

    def next_seq(self):
        """A sequence number that was never used before."""
        self.seq += 1
        return self.seq

    def preset(self, totals):
        """Set totals by command, for good: {2 * k + way: mWh}, k the entry of `Reading.at`."""
        for index in totals:
            self.total[index][:] = totals[index], 0
        self.resets = (self.resets + 1) & 0xFFFF
        self.checkpoint()

    def retain(self):
        """Write the totals to RTC memory."""
        self._since_retain = 0
        if self.retained:
            self.retained.write(self.record, self._pack(self.seq))

    def checkpoint(self):
        """Write the totals to flash, with a reserve of sequence numbers; raises StorageError when flash is full."""
        self.retain()
        self._since_checkpoint = 0
        data = self._pack(self.seq + _RESERVE)
        storage.write(self.path + ".tmp2", struct.pack("<I", storage.crc(data)) + data)
        storage.promote(self.path + ".tmp2", self.path)
