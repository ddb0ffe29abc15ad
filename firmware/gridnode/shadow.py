"""AWS IoT device shadow: what the node reports and what it is asked to become. Pure: topics and
bytes in and out.

Reported: a shadow merges, so a key that no longer holds is sent as null until an `accepted` answer
says that it has arrived; the same goes for what the shadow still held from before a restart. NaN
and infinity never leave the node. Answers are scanned as they come, never parsed whole: the
`accepted` for a report of 1.5 kB has 4.4 kB, a document more.

Desired: only what is named in `handlers` is looked at. A delta comes back with every accepted
report, under a new version, for as long as desired differs from reported; so what was handled last
(applied or refused) is recognised by its content and not handled again, and a delta older than
what was seen is ignored by its version.
"""

import json
import os
from binascii import crc32, hexlify
from micropython import const

from gridnode import rooms

_DEPTH = const(12)  # AWS allows 8 levels
_KEY = const(64)  # longest name that matters
_PATCH = const(1024)  # bytes of one desired object
_PIECE = const(64)  # bytes that are scanned at once: a copy finds a place in any heap


_SELF = const("")
_HEAD = b'{"state":{"reported":{'
_ANSWERS = const((
    b"update/accepted",
    b"update/rejected",
    b"update/delta",
    b"get/accepted",
    b"get/rejected",
))


class Scan:
    """Finds values in a JSON text that comes in pieces.

    `wants` are paths ("version", "state/config") of at most `levels` names; `found` maps them to
    their raw text, b"" if longer than 1 kB.
    """

    def __init__(self, wants, levels):
        self.wants = wants
        self.found = {}
        self.bad = False
        self._levels = levels
        self._stack = []  # name of each object's place, None inside an array
        self._name = ""
        self._text = None  # name being read
        self._key = False  # the next string is a name
        self._string = self._escape = False
        self._value = None  # value being taken
        self._path = None
        self._end = 0

    def feed(self, data):
        """Scan the next piece (bytes)."""
        i = 0
        n = len(data)
        while i < n and not self.bad:
            if not self._string:
                self._mark(data[i])
            else:
                if self._text is None and self._value is None and not self._escape:
                    end = data.find(b'"', i)  # the fast way over text that nobody wants
                    if end < 0:
                        end = n
                    escape = data.find(b"\\", i, end)
                    i = end if escape < 0 else escape
                    if i == n:
                        return
                self._inside(data[i])
            i += 1

    def _inside(self, c):
        """One character of a string."""
        self._take(c)
        text = self._text
        if self._escape:
            self._escape = False
        elif c == 92:
            self._escape = True
        elif c == 34:
            self._string = False
            self._text = None
            if text is not None:
                self._name = str(text, "utf-8")
            return
        if text is not None and len(text) < _KEY:
            text.append(c)

    def _mark(self, c):
        """One character outside of strings."""
        stack = self._stack
        value = self._value
        if value is not None and c in b",]}" and len(stack) == self._end:
            self.found[self._path] = b"" if len(value) > _PATCH else bytes(value).strip()
            self._value = None
        self._take(c)
        if c == 34:
            self._string = True
            if self._key and len(stack) <= self._levels:
                self._text = bytearray()
        elif c in b"{[":
            if len(stack) >= _DEPTH:
                self.bad = True
                return
            stack.append(None if c == 91 else self._name)
            self._key = c == 123
        elif c in b"]}":
            if stack:
                stack.pop()
            self._key = False
        elif c == 44:
            self._key = bool(stack) and stack[-1] is not None
        elif c == 58 and self._key:
            self._key = False
            if len(stack) <= self._levels and None not in stack:
                self.named(stack[1:] + [self._name])

    def named(self, path):
        """A name has been read and its value follows; `path` are the names down to it."""
        path = "/".join(path)
        if self._value is None and path in self.wants:
            self._value = bytearray()
            self._path = path
            self._end = len(self._stack)

    def _take(self, c):
        value = self._value
        if value is not None and len(value) <= _PATCH:
            value.append(c)

    def number(self, path):
        """A found integer, 0 if there is none."""
        try:
            return int(self.found.get(path, 0))
        except ValueError:
            return 0

    def text(self, path):
        """A found string without its quotes, escapes left as they are; "" if there is none."""
        return str(self.found.get(path, b""), "utf-8").strip('"')


class Shadow:
    """One shadow. `handlers` maps a desired key to a function of the patch that answers (True,
    what to report) or (False, reason); a refusal is reported as `<key>_error`, and taken back with
    the next success. `place` is the bytearray that reports are written to.
    """

    def __init__(self, thing, handlers=None, place=None):
        base = b"$aws/things/%s/shadow/" % thing.encode()
        self.update_topic = base + b"update"
        self.get_topic = base + b"get"
        self._base = len(base)
        self.filters = tuple(base + kind for kind in _ANSWERS)
        self.handlers = handlers or {}
        self.error = None  # (code, message) of the last rejection
        self._salt = hexlify(os.urandom(3)).decode()
        self._number = 0  # of the last update
        self._accepted = 0  # newest own update that was accepted
        # In the shadow: name -> number of the update that carried it last (0: of an earlier life), negative the one
        # that deletes it; a dict for an object, its own number under _SELF.
        self.held = {}
        self.sets = {}  # name -> [value, number of the first update with it]
        self._dropped = {}  # desired key -> number of the first update that takes it away
        self.seen = 0  # version of the newest delta or document
        self._handled = {}  # desired key -> checksum of the patch that was handled last
        self._scan = None
        self._text = memoryview(place or bytearray(2048))  # of the last update
        self.size = len(self._text)
        self._end = 0
        self._open = []  # of `held`, the objects that are being written
        self.reported = None

    def grow(self, size):
        """Have so many bytes more for an update; before the first one."""
        self.size += size
        self._text = memoryview(bytearray(self.size))

    # -- reported

    def set(self, name, value):
        """Report a key of its own (config, an error; None deletes it) with every update until
        accepted.
        """
        self.sets[name] = [value, 0]

    def drop(self, name):
        """Take a key out of desired with every update until accepted: a command, which has been heard."""
        self._dropped[name] = 0

    @property
    def dirty(self):
        """True if `set` or `drop` left something that no update has carried yet."""
        for name in self.sets:
            if not self.sets[name][1]:
                return True
        return 0 in self._dropped.values()

    def begin(self):
        """Begin an update. It is written straight into the buffer: `put`, `open` and `close`, then `finish`."""
        self._number += 1
        self._end = 0
        self._open = [self.held]
        self._write(_HEAD)

    def put(self, name, value):
        """Report a value: bool, int, float, str, dict, list; None, NaN and an object without values are left out.

        Raises ValueError if the update gets longer than `size`.
        """
        if _absent(value):
            return
        if isinstance(value, dict):
            self.open(name)
            for key in value:
                self.put(key, value[key])
            self.close()
        else:
            self._open[-1][name] = self._number
            self._name(name)
            self._dump(value)

    def fixed(self, name, thousandths):
        """Report an integer of thousandths with all its digits (float32 has seven)."""
        self._open[-1][name] = self._number
        self._name(name)
        self._write(b"%d.%03d" % (thousandths // 1000, thousandths % 1000))

    def open(self, name):
        """Begin an object; what follows up to `close` belongs to it."""
        held = self._open[-1]
        below = held.get(name)
        if not isinstance(below, dict):
            below = held[name] = {}
        below[_SELF] = self._number
        self._open.append(below)
        self._name(name)
        self._write(b"{")

    def close(self):
        """End an object; what it held and this update has not repeated becomes null."""
        held = self._open.pop()
        for name in list(held):
            state = held[name]
            number = state.get(_SELF, 0) if isinstance(state, dict) else state
            if number == self._number or name == _SELF:
                continue
            if number >= 0:
                held[name] = -self._number
            elif -number <= self._accepted:
                del held[name]
                continue
            self._name(name)
            self._write(b"null")
        self._write(b"}")

    def finish(self):
        """Payload of the update, what `set` left included: a memoryview, valid until the next `begin`.

        `reported` is the object in it.
        """
        for name in list(self.sets):
            entry = self.sets[name]
            if entry[1] and entry[1] <= self._accepted:
                del self.sets[name]
                continue
            entry[1] = entry[1] or self._number
            self._name(name)
            self._dump(entry[0])
        self.close()
        self.reported = self._text[len(_HEAD) - 1 : self._end]
        for name in list(self._dropped):
            number = self._dropped[name] = self._dropped[name] or self._number
            if number <= self._accepted:
                del self._dropped[name]
            else:
                self._write(b',"desired":{"%s":null}' % name.encode())
        self._write(('},"clientToken":"%s-%d"}' % (self._salt, self._number)).encode())
        return self._text[: self._end]

    def get_request(self):
        """Payload that asks for the document."""
        return b'{"clientToken":"%s"}' % self._salt.encode()

    def _dump(self, value):
        """Write a value; what is no number becomes null."""
        if isinstance(value, dict):
            self._write(b"{")
            for name in value:
                self._name(name)
                self._dump(value[name])
            self._write(b"}")
        elif isinstance(value, (list, tuple)):
            self._write(b"[")
            for item in value:
                self._comma()
                self._dump(item)
            self._write(b"]")
        elif isinstance(value, float) and not _absent(value):
            self._write(b"%.7g" % value)  # without the digits that rounding left behind
        else:
            self._write(json.dumps(None if _absent(value) else value).encode())

    def _name(self, name):
        self._comma()
        self._write((json.dumps(name) + ":").encode())

    def _comma(self):
        if self._text[self._end - 1] not in b"{[":
            self._write(b",")

    def _write(self, data):
        end = self._end + len(data)
        if end > self.size:
            raise ValueError("report longer than %d bytes" % self.size)
        self._text[self._end : end] = data
        self._end = end

    # -- answers and desired

    def message(self, topic, data, offset, total):
        """Take a message or a piece of one. After its last piece: "accepted", "rejected" (see
        `error`), "delta", "synced" (the answer to `get`); else None.
        """
        kind = bytes(topic[self._base :])
        if topic not in self.filters:
            return None
        if offset == 0:
            self._scan = self._listen(kind)
        if self._scan is None:
            return None
        for k in range(0, len(data), _PIECE):
            self._scan.feed(bytes(data[k : k + _PIECE]))
        if offset + len(data) < total:
            return None
        scan = self._scan
        self._scan = None
        return self._answer(kind, scan)

    def _listen(self, kind):
        if kind == b"update/accepted":
            return Scan(("clientToken",), 1)
        if kind == b"update/delta":
            return Scan(["version"] + ["state/" + name for name in self.handlers], 2)
        from gridnode.opening import shadow

        return shadow.scan(self, kind)

    def _answer(self, kind, scan):
        if kind == b"update/accepted":
            if not self.own(scan):
                return None
            self._accepted = max(self._accepted, int(scan.text("clientToken").split("-")[1]))
            return "accepted"
        if kind == b"update/delta":
            version = scan.number("version")
            if version <= self.seen:
                return None
            self.seen = version
            return "delta" if self.desire(scan, "state/") else None
        from gridnode.opening import shadow

        answer = shadow.answer(self, kind, scan)
        shadow = None
        rooms.forget()
        return answer

    def own(self, scan):
        """True for the answer to an update of this node."""
        return scan.text("clientToken").startswith(self._salt + "-")

    def desire(self, scan, prefix):
        """Give each patch to its handler; True if one was handled."""
        handled = False
        for key in self.handlers:
            text = scan.found.get(prefix + key)
            if text is None:
                continue
            mark = crc32(text)
            former = self._handled.get(key)
            if former == mark:
                continue
            self._handled[key] = mark
            ok = False
            value = "longer than %d bytes" % _PATCH
            if text:
                try:
                    ok, value = self.handlers[key](json.loads(text))
                except MemoryError:
                    value = "no room for it in memory"
                    rooms.forget()
                    self._handled[key] = ~mark  # it comes again with the next delta, and is told once
                    if former == ~mark:
                        continue
            handled = True
            if ok:
                self.set(key, value)
            self.set(key + "_error", None if ok else value)
        return handled


def _absent(value):
    """No value, no number, or an object of such, which a shadow does not keep."""
    if isinstance(value, dict):
        for name in value:
            if not _absent(value[name]):
                return False
        return True
    return value is None or (isinstance(value, float) and not -3.0e38 < value < 3.0e38)
