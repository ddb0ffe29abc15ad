"""Runs inside the MicroPython VM: imports one test module and runs its tests on request.

The host writes lines on stdin: first a JSON object with the module's name and the values of the
host fixtures, then the name of one test per line. Each is answered with one line that starts
with `MARK`. A test may use ``from harness import fixtures, Skip``.
"""

import gc
import io
import json
import sys

MARK = "\x1e"
fixtures = {}


class Skip(Exception):
    """Raised by a test that this VM cannot run; the text says why."""


def _traceback(err):
    text = io.StringIO()
    sys.print_exception(err, text)
    return text.getvalue()


def _answer(**fields):
    print(MARK + json.dumps(fields))


def serve():
    order = json.loads(sys.stdin.readline())
    fixtures.update(order["fixtures"])
    try:
        module = __import__(order["module"])
    except BaseException as err:
        _answer(error=_traceback(err))
        return
    _answer(error=None)
    while True:
        name = sys.stdin.readline().strip()
        if not name:
            return
        gc.collect()
        try:
            getattr(module, name)()
        except Skip as err:
            _answer(error=None, skip=str(err))
        except BaseException as err:
            _answer(error=_traceback(err))
        else:
            _answer(error=None)
        if "asyncio" in sys.modules:  # tasks that a failed test left must not run in the next
            sys.modules["asyncio"].new_event_loop()
