"""What a shadow is told seldom: its whole document, once after connecting, and errors."""

from micropython import const

from gridnode.shadow import Scan

_LEVELS = const(12)


class Document(Scan):
    """Collects the names of state/reported in `names` too: nested dicts, 0 for a leaf; not what `held` has already."""

    def __init__(self, wants, held):
        super().__init__(wants, _LEVELS)
        self.names = {}
        self._held = held

    def named(self, path):
        super().named(path)
        if path[:2] == ["state", "reported"] and len(path) > 2 and path[2] not in self._held:
            held = self.names
            for name in path[2:-1]:
                if not isinstance(held.get(name), dict):
                    held[name] = {}
                held = held[name]
            held.setdefault(path[-1], 0)


def scan(shadow, kind):
    """Scan for a message of that kind."""
    if kind == b"get/accepted":
        return Document(["version"] + ["state/delta/" + name for name in shadow.handlers], shadow.held)
    return Scan(("code", "message", "clientToken"), 1)


def answer(shadow, kind, scan):
    """See Shadow.message."""
    if kind == b"get/accepted":
        shadow.seen = scan.number("version")
        _adopt(shadow, scan.names)
        shadow.desire(scan, "state/delta/")
        return "synced"
    shadow.error = (scan.number("code"), scan.text("message"))
    if kind == b"get/rejected":
        shadow.seen = 0
        return "synced"
    return "rejected" if shadow.own(scan) else None


def _adopt(shadow, names):
    """The shadow holds these from before: what the next report lacks, it deletes."""
    for key in shadow.handlers:
        names.pop(key, None)
        names.pop(key + "_error", None)
    for name in names:
        if name not in shadow.held and name not in shadow.sets:
            shadow.held[name] = names[name]
