"""Whether a calibration may be used on this node."""

from gridnode import schema

VERSION = 2


def check(document, node=None, sku=None):
    """Raise ValueError unless this is a valid calibration of this node; None: not compared."""
    if document.get("version") != VERSION:
        raise ValueError("calibration version %r, this firmware knows %d" % (document.get("version"), VERSION))
    schema.check(schema.load("calibration"), document)
    for name, own in (("node", node), ("sku", sku)):
        other = document.get(name)
        if own and other and other != own:
            raise ValueError("it is the calibration of another %s, %s; this is %s" % (name, other, own))
    for entry in document["meters"].values():
        table = entry.get("adc_table")
        if table and (table[128] < 1000000 or any(b < a for a, b in zip(table, table[1:]))):
            raise ValueError("adc_table must be rising values in uV")
        order = entry.get("order")
        if order and sorted(order) != list(range(1, len(order) + 1)):
            raise ValueError("order must name each input once")
        for channel in entry.get("current", ()):
            curve = channel.get("curve", ())
            if any(b[0] <= a[0] for a, b in zip(curve, curve[1:])):
                raise ValueError("the points of a curve must rise")
            if any(a < 0 or not 0.5 <= gain <= 2 or abs(lead) > 15 for a, gain, lead in curve):
                raise ValueError("a curve has points that cannot be")
        for phase in entry.get("power", ()):
            if "at_v" not in phase and ("offset_w" in phase or "offset_var" in phase):
                raise ValueError("an offset needs its voltage, at_v")
