"""Configuration and profile of this node: loaded, judged as a whole, applied atomically or refused with a reason."""

from gridnode import documents, schema

VERSION = 1

_DEFAULTS: dict = {
    "mqtt": {"port": 8883, "keepalive_s": 60},
    "clock": {"server": "pool.ntp.org", "port": 123, "resync_s": 3600},
    "report": {"interval_s": 10},
}


class ConfigError(ValueError):
    """A document is refused; the text is the reason."""


def check_node(document, row_s=None):
    """Raise ConfigError unless this is a valid node.json."""
    _check("config", document)
    network = document["network"]
    if network["kind"] == "wlan" and not network.get("ssid"):
        raise ConfigError("network.kind wlan needs network.ssid")
    problem = row_s and interval_problem(document, row_s)
    if problem:
        raise ConfigError(problem)


def interval_problem(document, row_s):
    """Why the report interval does not go with a profile's row, or None."""
    interval = document.get("report", {}).get("interval_s")
    if interval and interval % row_s:
        return "report.interval_s %d is no multiple of the profile's row of %d s" % (interval, row_s)
    return None


def check_profile(document):
    """Raise ConfigError unless this is a valid profile.json."""
    _check("profile", document)
    if not isinstance(document["board"], dict):
        raise ConfigError("board must be the board's data")
    console = document["board"].get("console", {})
    seen = set()
    for meter in document["meters"]:
        if meter["id"] in seen:
            raise ConfigError("two meters named %r" % meter["id"])
        seen.add(meter["id"])
        uart = meter.get("uart", {})
        pins = [uart[name] for name in ("tx", "rx", "de") if name in uart]
        if uart and (uart["id"] == console.get("uart") or console.get("tx") in pins or console.get("rx") in pins):
            raise ConfigError("meter %r sits on the console UART" % meter["id"])


def _check(name, document):
    if document.get("version") != VERSION:
        raise ConfigError("version %r, this firmware knows %d" % (document.get("version"), VERSION))
    try:
        schema.check(schema.load(name), document)
    except schema.SchemaError as e:
        raise ConfigError(str(e))


def load(path, check):
    """Return (document, problem): a usable document or None, and what is wrong in one sentence or None."""
    document, problem = documents.load(path, check)
    return document, problem if document else problem or "%s is missing" % path


class Config:
    """node.json with defaults; `apply` is the way of desired.config into it.

    An interval that does not go with the profile gives way to the profile's row.
    """

    def __init__(self, document, row_s):
        self._row_s = row_s
        if interval_problem(document, row_s):
            document["report"]["interval_s"] = row_s
        self.document = document

    def get(self, section):
        """One section with its defaults filled in."""
        merged = dict(_DEFAULTS.get(section, {}))
        merged.update(self.document.get(section, {}))
        if section == "report" and merged["interval_s"] % self._row_s:
            merged["interval_s"] = self._row_s  # the default
        return merged

    def remote(self):
        """The part that desired.config may change, as it is in force: what is reported back."""
        return {"report": self.get("report"), "clock": self.get("clock")}

    def apply(self, patch):
        """Merge desired.config; returns None when it is in force and saved, else the reason of the refusal."""
        try:
            if not isinstance(patch, dict):
                raise ConfigError("config must be an object")
            properties = schema.load("config")["properties"]
            for key in patch:
                if not properties.get(key, {}).get("x-remote"):
                    raise ConfigError("%s cannot be changed from the cloud" % key)
            properties = None  # it is large, and comes again
            document = _merge(self.document, patch)
            check_node(document, self._row_s)
            if document != self.document:
                documents.save(documents.NODE, document)
                self.document = document
        except (ConfigError, documents.StorageError, OSError) as e:
            return str(e)
        return None


def _merge(base, patch):
    merged = dict(base)
    for key in patch:
        value = patch[key]
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(base.get(key), dict):
            merged[key] = _merge(base[key], value)
        else:
            merged[key] = value
    return merged
