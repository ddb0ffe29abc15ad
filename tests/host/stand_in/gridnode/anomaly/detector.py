"""A detector with the interface of the firmware's, for tests of what runs it: ranges that it has learnt, no more.

Signals of some names do what a defect would: see `row`.
"""
# mypy: ignore-errors

import array
import binascii
import json
import struct

VERSION = 2


class Detector:
    def __init__(self, names, limits):
        n = len(names)
        self._names, self._limits = names, limits
        self._low, self._high = array.array("f", [1e30] * n), array.array("f", [-1e30] * n)
        self._accept = limits.get("train_rows", 0)
        self.state, self.reason, self.rows = "learning", "", 0
        self.grade, self.alarm, self.kind, self.priority = 0, False, "", 0
        self.diagnosis, self.faults, self.text = "", [], ""
        self.grades, self.alarms = array.array("h", [0] * n), bytearray(n)
        self.size = 8 * n
        self.seen = []

    def row(self, values, t, learn=None):
        name = self._names[0]
        if name == "crash" and values[0] == 13:
            raise RuntimeError(f"thirteen at {t}")
        if name in ("hang", "deaf") and values[0] == 13:
            self._hang(name == "deaf")
        if name == "babble":
            print("what a debugger left behind")
        learning = self.state == "learning" and (learn is None or learn == 1)
        self.kind = self.text = self.diagnosis = ""
        self.grade = self.priority = 0
        for k, value in enumerate(values):
            self.grades[k] = self.alarms[k] = 0
            if value != value:
                continue
            if learning:
                self._low[k], self._high[k] = min(self._low[k], value), max(self._high[k], value)
            elif value > self._high[k] or value < self._low[k]:
                self.grades[k], self.alarms[k] = 500 + min(500, int(abs(value)) % 500), 1
                self.kind = "range_high" if value > self._high[k] else "range_low"
                self.diagnosis = self._names[k] + "_fault"
                self.priority = min(4, k + 1)
                self.text = f"{self._names[k]} is {value:.6g} at {t}"
            else:
                self.grades[k] = 100
            self.grade = max(self.grade, self.grades[k])
        self.alarm = self.grade >= 500
        if name == "bits":  # what has arrived, bit by bit
            bits = struct.unpack("<I", struct.pack("<f", values[0]))[0]
            self.kind, self.text, self.alarm = f"{bits:08x} {t} {learn}", "", False
        if learning:
            self.rows += 1
            if learn is None and self.rows >= self._accept:
                self.state = "frozen"

    def _hang(self, deaf):
        try:
            while True:  # without the heap: a VM interrupted while it collects may stay stuck
                pass
        except KeyboardInterrupt:
            while deaf:
                pass
            raise

    def command(self, action):
        if action == "freeze" and self.rows < 3:
            self.reason = f"only {self.rows} rows learnt"
            return self.reason
        self.state = {"freeze": "frozen"}.get(action, action)
        return ""

    def save(self):
        low, high = list(self._low), list(self._high)
        body = json.dumps([VERSION, self._names, self.state, self.rows, low, high]).encode()
        return struct.pack("<I", binascii.crc32(body)) + body

    def load(self, data):
        if len(data) < 5 or struct.unpack("<I", data[:4])[0] != binascii.crc32(data[4:]):
            return "it is damaged"
        version, names, state, rows, low, high = json.loads(data[4:])
        if version > VERSION:
            return f"it is of version {version}, this is {VERSION}"
        if names != self._names:
            return "it is of other signals"
        self.state, self.rows = state, rows
        self._low, self._high = array.array("f", low), array.array("f", high)
        return ""
