"""The program that counts the operations of the firmware's detector; see `operations.most`.

stdin: a line of JSON {"names", "limits", "rows", "counted", "firmware": folder}, then the time of
each row as an int64 and each row's values as float32. stdout: the operations of the last rows.
"""
# mypy: ignore-errors

import array
import dis
import json
import sys
import types

_COUNTED = ("BINARY_OP", "COMPARE_OP", "UNARY_")


def _shims():
    """What the sources need of MicroPython."""
    micropython = types.ModuleType("micropython")
    micropython.const = lambda value: value
    uctypes = types.ModuleType("uctypes")
    uctypes.addressof = lambda buffer: buffer
    uctypes.bytearray_at = lambda buffer, _size: memoryview(buffer).cast("B")
    sys.modules.update(micropython=micropython, uctypes=uctypes)


class Counter:
    """Counts the operations between `start` and `stop`."""

    def __init__(self):
        self.count = 0
        self._places = {}

    def start(self):
        self.count = 0
        sys.settrace(self._call)

    def stop(self):
        sys.settrace(None)
        return self.count

    def _call(self, frame, _event, _arg):
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        code = frame.f_code
        places = self._places.get(code)
        if places is None:
            places = self._places[code] = {
                one.offset
                for one in dis.get_instructions(code)
                if one.opname.startswith(_COUNTED) and one.argrepr != "[]"
            }

        def trace(frame, event, _arg):
            if event == "opcode" and frame.f_lasti in places:
                self.count += 1
            return trace

        return trace


def main():
    order = json.loads(sys.stdin.buffer.readline())
    rows, names = order["rows"], order["names"]
    times, values = array.array("q"), array.array("f")
    times.frombytes(sys.stdin.buffer.read(8 * rows))
    values.frombytes(sys.stdin.buffer.read(4 * rows * len(names)))
    _shims()
    sys.path.insert(0, order["firmware"])
    from gridnode.anomaly.detector import Detector

    detector, counter, counts = Detector(names, order["limits"]), Counter(), []
    for k in range(rows):
        row = values[k * len(names) : (k + 1) * len(names)]
        if k < rows - order["counted"]:
            detector.row(row, times[k])
            continue
        counter.start()
        detector.row(row, times[k])
        counts.append(counter.stop())
        if detector.state != "frozen":
            raise RuntimeError(f"the detector is {detector.state}: {detector.reason}")
    print(json.dumps(counts))


main()
