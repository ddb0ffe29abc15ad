"""Tells the beginning and the end of what the detector finds, as events."""


def begun(app, detector, names, kinds, fault):
    """names: signals whose alarm is new or of another kind, none where a fault is new; kinds: of all signals."""
    first = detector.first()
    first = None if first is None else detector.names[first]
    names = names or [first or "device"]
    name = first if first in names else names[0]
    known = name in detector.names and kinds[detector.names.index(name)]
    fields = {"signal": name, "kind": known or detector.kind, "raised": True, "priority": detector.priority}
    if len(names) > 1:
        fields["signals"] = names
    fields["fault"] = fault or None
    fields["text"] = detector.text
    app.raised(fields)


def over(app, names, fault):
    """names: signals whose alarm is over; fault: what no longer holds, or None."""
    fields = {"signal": names[0] if names else "device", "kind": None, "raised": False, "priority": None}
    if len(names) > 1:
        fields["signals"] = names
    fields["fault"] = fault
    text = fault and fault.replace("_", " ") + " is over"
    if names:
        text = "%s%s %s ordinary again" % (
            text + "; " if text else "",
            ", ".join(names),
            "are" if len(names) > 1 else "is",
        )
    fields["text"] = text
    app.raised(fields)
