"""Judges a document by a JSON Schema, in the subset that boards/schema uses.

Keywords: type, const, enum, required, properties, additionalProperties, items, minItems, maxItems, minLength,
maxLength, minimum, maximum. Annotations are ignored; unknown keys of a document are allowed.
"""

import json
import sys

_TYPES = {"object": dict, "array": list, "string": str, "boolean": bool}


class SchemaError(ValueError):
    """A document breaks its schema; the text names the place and the rule."""


def load(name):
    """Schema `name` ("config", "profile", "calibration") of this image; it is parsed on demand and not kept."""
    path = "gridnode._schemas." + name
    text = __import__(path, None, None, ("TEXT",)).TEXT
    del sys.modules[path]
    delattr(sys.modules["gridnode._schemas"], name)  # it would hold the text until the room goes
    return json.loads(text)


def check(schema, value, path=""):
    """Raise SchemaError unless `value` keeps to `schema`."""
    here = path or "document"
    if "const" in schema and not _same(value, schema["const"]):
        raise SchemaError("%s must be %r" % (here, schema["const"]))
    if "enum" in schema and not any(_same(value, choice) for choice in schema["enum"]):
        raise SchemaError("%s must be one of %s" % (here, ", ".join([str(c) for c in schema["enum"]])))
    kind = schema.get("type")
    if kind and not _is(value, kind):
        raise SchemaError("%s must be of type %s" % (here, kind))
    if isinstance(value, bool):
        return
    if isinstance(value, (int, float)):
        _between(value, schema, "minimum", "maximum", here, "")
    elif isinstance(value, str):
        _between(len(value), schema, "minLength", "maxLength", here, " characters")
    elif isinstance(value, list):
        _between(len(value), schema, "minItems", "maxItems", here, " items")
        if "items" in schema:
            for k, item in enumerate(value):
                check(schema["items"], item, "%s[%d]" % (path, k))
    elif isinstance(value, dict):
        for key in schema.get("required", ()):
            if key not in value:
                raise SchemaError("%s lacks %r" % (here, key))
        known = schema.get("properties", {})
        rest = schema.get("additionalProperties", {})
        for key in value:
            check(known.get(key, rest), value[key], path + "." + key if path else key)


def _same(a, b):
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def _is(value, kind):
    if kind in _TYPES:
        return isinstance(value, _TYPES[kind])
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and (kind == "number" or value == int(value))


def _between(value, schema, low, high, here, unit):
    if low in schema and value < schema[low]:
        raise SchemaError("%s is below %s%s" % (here, schema[low], unit))
    if high in schema and value > schema[high]:
        raise SchemaError("%s is above %s%s" % (here, schema[high], unit))
