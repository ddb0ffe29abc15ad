"""Energy totals and the sequence number: integers, in RTC memory once a second and in flash every few minutes.

A total is whole mWh and a rest in uJ (1 mWh = 3.6e6 uJ), import and export apart, per phase and in all. Totals never
fall. After a power cut the flash checkpoint is the newest: the energy since then, five minutes at most, is lost; the
sequence number goes on behind the block that the checkpoint reserved, so that none is used twice.
"""

import struct
from micropython import const

from gridnode import storage

PATH = "/data/energy.bin"

_UJ = const(3600000)
_RESERVE = const(4096)  # sequence numbers between two checkpoints
_CHECKPOINT_MS = const(300000)
_RETAIN_MS = const(1000)
_GAP_MS = const(10000)  # a longer hole in the measurement is not bridged with the last power


class Ledger:
    """Totals of one meter. channels: entries of `Reading.at`; limit_w: largest plausible power of one entry.

    retained, record: storage.Retained and the number of the record there; path: the checkpoint.
    """

    def __init__(self, channels, limit_w, retained=None, record=1, path=PATH):
        self.seq = 0
        self.rejected = 0  # increments that no load of this rating can explain
        self.recovered = "none"
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
        return data

    def account(self, reading):
        """Add a corrected reading: the chip's counters where it has them, else power times the measured interval."""
        ms = reading.ms
        for k in reading.each():
            if reading.metered:
                self._add(k, 0, reading.energy[2 * k], ms)
                self._add(k, 1, reading.energy[2 * k + 1], ms)
                continue
            power = reading.at[k].get("power")
            if power is None or ms > _GAP_MS:
                self.lost_ms += ms
            elif power >= 0:
                self._add(k, 0, int(power * 1000) * ms, ms)
            else:
                self._add(k, 1, int(-power * 1000) * ms, ms)
        self._since_retain += ms
        self._since_checkpoint += ms
        if self._since_checkpoint >= _CHECKPOINT_MS:
            self.checkpoint()
        elif self._since_retain >= _RETAIN_MS:
            self.retain()

    def _add(self, k, way, uj, ms):
        if not uj:
            return
        # One second of grace: a counter's pulse may have begun before the interval.
        if uj < 0 or uj > int(self._limit_w) * 1000 * (ms + 1000):
            self.rejected += 1
            return
        self._bump(2 * k + way, uj)
        if k:
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
