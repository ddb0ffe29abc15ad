"""What the host calls over the serial port; each function prints one line of JSON and nothing else.

A call answers {"ok": true, ...} or {"ok": false, "code": ..., "message": ...}.
"""

import binascii
import gc
import hashlib
import json
import machine
import os
import sys
from micropython import const

from gridnode import config, documents, health, rooms, storage

_JUDGED = (documents.NODE, documents.PROFILE, documents.CALIBRATION)
_KEPT = const(("service", "config", "documents", "storage", "health", "rooms"))  # of the rooms, while the host works
_WDT_MS = const(600000)
_vacated = False


class Refusal(Exception):
    """A call is refused: code, message, and what else belongs to it."""


def _alone():
    """With the first call: the application has ended, a reset starts it again, and its rooms may go."""
    global _vacated
    if _vacated:
        return
    _vacated = True
    loop = sys.modules.get("asyncio.core")
    if loop:  # its tasks, and the one that ran last, hold the application
        sys.modules["asyncio"].new_event_loop()
        setattr(loop, "cur_task", None)  # noqa: B010 - the stubs do not know it
    rooms.drop(lambda path: path[0] not in _KEPT)


def _service(function):
    def call(*args, **kwargs):
        feed()
        _alone()
        try:
            answer = function(*args, **kwargs) or {}
            answer["ok"] = True
        except Refusal as e:
            answer = {"ok": False, "code": e.args[0], "message": e.args[1]}
            if len(e.args) > 2:
                answer.update(e.args[2])
        except Exception as e:  # noqa: BLE001 - the host must get an answer, whatever it is
            answer = {"ok": False, "code": "internal", "message": "%s: %s" % (type(e).__name__, e)}
        print(json.dumps(answer))

    return call


def feed():
    """Give the host ten minutes to the next call; the application's watchdog runs on after Ctrl-C."""
    try:
        machine.WDT(timeout=_WDT_MS).feed()
    except (AttributeError, OSError, ValueError):
        pass


def _hash(path):
    try:
        with open(path, "rb") as f:
            h = hashlib.sha256()
            buf = bytearray(512)
            view = memoryview(buf)
            while True:
                n = f.readinto(buf)
                if not n:
                    return binascii.hexlify(h.digest()).decode()
                h.update(view[:n])
    except OSError:
        return None


@_service
def info():
    """Who this is: firmware, platform, identity, and what lies on it."""
    document, problem = documents.load(documents.NODE)
    profile, profile_problem = documents.load(documents.PROFILE)
    fs = os.statvfs("/")
    return {
        "firmware": health.VERSION,
        "micropython": list(sys.implementation.version[:3]),
        "mpy": getattr(sys.implementation, "_mpy", 0),
        "unique_id": binascii.hexlify(machine.unique_id()).decode(),
        "thing": (document or {}).get("thing"),
        "sku": (profile or {}).get("sku"),
        "problem": problem or profile_problem,
        "free_memory": gc.mem_free(),
        "free_flash": fs[0] * fs[3],
    }


@_service
def hashes(paths):
    """SHA-256 of files, None for a missing one."""
    return {"hashes": {path: _hash(path) for path in paths}}


@_service
def install(files):
    """Put staged files (`<path>.new`) into place: {path: SHA-256 as hex}. All of them or none.

    Hashes are compared and documents judged before the first one is moved.
    """
    profile = {}
    for path in sorted(files, reverse=True):  # the profile before node.json, which is judged by it
        if _hash(path + ".new") != files[path]:
            raise Refusal("hash", "%s.new is not what was sent" % path)
        if path in _JUDGED:
            with open(path + ".new", "rb") as f:
                text = f.read()
            try:
                document = documents.decode(text)
                if path == documents.PROFILE:
                    config.check_profile(document)
                    profile = document
                    continue
                profile = profile or documents.load(documents.PROFILE)[0] or {}
                if path == documents.NODE:
                    config.check_node(document, profile.get("row_s", 10))
                else:
                    _judge_calibration(document, profile)
            except (ValueError, storage.StorageError) as e:
                raise Refusal("invalid", "%s: %s" % (path, e))
    documents.install(list(files))
    return {"hashes": {path: _hash(path) for path in files}}


def _judge_calibration(document, profile):
    from gridnode.setup import judge

    judge.check(document, binascii.hexlify(machine.unique_id()).decode(), profile.get("sku"))


@_service
def discard(paths):
    """Remove staged files after a failed installation."""
    for path in paths:
        storage.remove(path + ".new")


def _refusing(work, *args):
    """Call a function of the rooms for the technician; their refusals become ours."""
    from gridnode.calibrating import Refused

    try:
        return work(*args)
    except Refused as e:
        raise Refusal(e.code, e.message, e.details)


def _attend(work, *args):
    return _refusing(_attended, work, *args)


def _attended(work, *args):
    from gridnode.calibrating import load

    load()
    from gridnode.setup import attend

    return getattr(attend, work)(*args)


@_service
def meters():
    """Ids of the profile's meters."""
    return {"meters": _attend("names")}


@_service
def meter(name):
    """One reading of a meter, and the commands that it knows: see setup.attend."""
    return _attend("read", name)


@_service
def command(meter, order, value=None):
    """Carry out a command of a meter, or reset_totals."""
    return _attend("command", meter, order, value)


@_service
def calibration(order, request=None):
    """An order of a calibration session, see calibrating.steps; `calibrating` and what it needs stay loaded."""
    return _refusing(_order, order, request or {})


def _order(order, request):
    from gridnode.calibrating import load

    load()
    from gridnode.calibrating import steps

    return steps.handle(order, request)


@_service
def detector(action="status", signal=None):
    """State of the detector's model, after freeze, guarded, learning, reset or accept of a signal."""
    return _refusing(_detector, action, signal)


def _detector(action, signal):
    from gridnode.setup import attend_detector

    return attend_detector.handle(action, signal)


@_service
def restart(hold=False):
    """Reset the node, hold: and leave it at its prompt; the answer is the last thing it says."""
    print('{"ok": true}')
    from gridnode.setup import boot

    boot.reset(boot.HOLD if hold else "service")


documents.make_dirs()  # the host stages files before the application has ever run
