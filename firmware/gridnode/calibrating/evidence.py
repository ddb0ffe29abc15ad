"""What the self-checks judge: collected while the meter measures, before their rules are loaded."""

from micropython import const

_READINGS = const(20)


class Evidence:
    """Means of readings of one meter; `full` when there are enough.

    spec, profile: as installed, or what `setup.papers` keeps of them. trim: of the meter's Correction.
    """

    def __init__(self, meter, spec, profile, trim=None):
        self.meter = meter
        self.full = False
        self._spec = spec
        self._profile = profile
        self._count = 0
        self._wrong_way = 0
        self._sums = [{} for _ in meter.reading.at]
        self._turned = [bool(one and one.reversed) for one in trim.phases] if trim else ()

    def add(self, reading):
        """Take one corrected reading; one that has no value does not count."""
        if self.full or reading.quality:
            return
        self._count += 1
        self._wrong_way += "sequence" in reading.flags
        for k, values in enumerate(reading.at):
            sums = self._sums[k]
            for name in ("voltage", "current", "power", "reactive_power"):
                if values.get(name) is not None:
                    sums[name] = sums.get(name, 0.0) + values[name]
        self.full = self._count >= _READINGS

    def suggestions(self):
        """What is most likely wrong: [{check, meter, phase, evidence, command or None}]."""
        from gridnode.calibrating import checks

        means = []
        for k in self.meter.reading.each():
            means.append({name: x / max(1, self._count) for name, x in self._sums[k].items()})
        found = checks.examine(means, self._spec, self._profile, self._wrong_way > self._count // 2, self._turned)
        if getattr(self.meter, "orders", 0):
            found += checks.bias(self.meter, self._spec)
        for one in found:
            one["meter"] = self.meter.id
        return found
