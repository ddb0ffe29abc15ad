"""The program that runs the node's detector inside the VM, between two pipes.

stdin: a line of JSON {"names", "limits", "mode", "model" and "forest": base64 or null, "rows", "trained"}, then each
row as `<qB` (time in s; learn: 0 no, 1 yes, 2 the detector decides) and a float32 per signal, NaN missing. `trained` is
the row before which learning has ended, null where the detector decides.

stdout: frames, each with a byte before it that begins no text. 1: `<hBBHH` (grade, alarm, priority, number of the
kind, of the diagnosis), an int16 of a grade and a byte of an alarm per signal. 2: `<I` and a text, which gets the next
number (0 is the empty one). 3: `<I` and the sentence of the row that follows, in which an alarm begins or becomes more
urgent than it has been. 4: `<I` and the JSON of the end. 5: the traceback of a failure, up to the end of the stream.
6: `<I` and why the forest is refused.

Every format has its size and order written out, so that VMs of 32 and of 64 bits speak alike.
"""
# mypy: ignore-errors

import array
import binascii
import json
import struct
import sys

_ROW, _TEXT, _SENTENCE, _END, _FAILURE, _REFUSAL = b"\1", b"\2", b"\3", b"\4", b"\5", b"\6"
_ROW_IN = "<qB"
_DECIDES = 2
_NO_PRIORITY, _NO_ALARM = 255, 256  # behind every priority


class Teller:
    """Writes frames."""

    def __init__(self, stream):
        self._write = stream.write
        self._numbers = {"": 0}
        self._head = bytearray(9)
        self._urgency = _NO_ALARM  # the most of the alarm that there is

    def row(self, detector):
        kind = self._number(detector.kind)
        diagnosis = self._number(detector.diagnosis)
        urgency = detector.priority or _NO_PRIORITY
        if not detector.alarm:
            self._urgency = _NO_ALARM
        elif urgency < self._urgency:  # not in every row: the sentence may hold a value
            self._urgency = urgency
            self.text(_SENTENCE, detector.text)
        head = self._head
        struct.pack_into(
            "<BhBBHH",
            head,
            0,
            _ROW[0],
            detector.grade,
            detector.alarm,
            detector.priority,
            kind,
            diagnosis,
        )
        self._write(head)
        self._write(detector.grades)
        self._write(detector.alarms)

    def _number(self, text):
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = len(self._numbers)
            self.text(_TEXT, text)
        return number

    def failure(self, err):
        """Tell of it without the heap, which Ctrl-C in the middle of a collection leaves locked."""
        self._write(_FAILURE)
        sys.print_exception(err, sys.stdout)

    def text(self, tag, text):
        data = text.encode()
        self._write(tag + struct.pack("<I", len(data)) + data)


class RefusedError(Exception):
    """The detector does not take the forest."""


class Run:
    """A detector and what is asked of it."""

    def __init__(self, order):
        from gridnode.anomaly.detector import Detector

        self.detector = Detector(order["names"], order["limits"])
        if order["forest"] is not None:
            reason = self.detector.attach(binascii.a2b_base64(order["forest"]))
            if reason:
                raise RefusedError(reason)
        self.load = ""
        if order["model"] is not None:
            self.load = self.detector.load(binascii.a2b_base64(order["model"]))
        self.refused = []
        self._mode = order["mode"]
        self._trained = order["trained"]
        self._known = self.detector.state != "learning"  # from the model
        self._denied = False

    def learn(self, row, told):
        """What `Detector.row` is given; before it the mode is asked for, as soon as it can be had."""
        self.settle(row)
        state = self.detector.state
        if state == "guarded":
            return None
        if self._known:
            return 1 if state == "learning" else 0
        return None if told == _DECIDES else told

    def settle(self, row):
        """End learning where it ends, and go on as it is asked for."""
        if row == self._trained and self.detector.state == "learning":
            self._command("freeze")
        wanted, state = self._mode, self.detector.state
        if state in ("frozen", "guarded"):
            self._known = True
            if wanted != state and not self._denied:
                self._denied = not self._command("freeze" if wanted == "frozen" else wanted)

    def _command(self, action):
        reason = self.detector.command(action)
        if reason:
            self.refused.append(f"{action}: {reason}")
        return not reason


def replay(stdin, teller):
    order = json.loads(stdin.readline())
    run = Run(order)
    detector = run.detector
    head = bytearray(struct.calcsize(_ROW_IN))
    values = array.array("f", [0.0] * len(order["names"]))
    for row in range(order["rows"]):
        if stdin.readinto(head) != len(head) or stdin.readinto(values) != 4 * len(values):
            raise EOFError(f"row {row} has not come")
        t, told = struct.unpack(_ROW_IN, head)
        detector.row(values, t, run.learn(row, told))
        teller.row(detector)
    run.settle(order["rows"])
    end = {
        "state": detector.state,
        "reason": detector.reason,
        "rows": detector.rows,
        "size": detector.size,
        "load": run.load,
        "refused": run.refused,
        "model": binascii.b2a_base64(detector.save()).decode().strip(),
    }
    teller.text(_END, json.dumps(end))


def main():
    teller = Teller(sys.stdout.buffer)
    try:
        replay(sys.stdin.buffer, teller)
    except RefusedError as err:
        teller.text(_REFUSAL, str(err))
    except BaseException as err:  # noqa: BLE001 - Ctrl-C tells where the detector hangs
        teller.failure(err)


main()
