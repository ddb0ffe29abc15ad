"""Finds the driver of a meter."""


def load_meter(spec, profile, machine, time):
    """The meter of one profile entry; its driver is the module of that name in gridnode.meters.

    Raises ValueError for what cannot be wired.
    """
    name = "gridnode.meters." + spec["driver"]
    try:
        module = __import__(name, None, None, ("Meter",))
    except ImportError:
        raise ValueError("no driver %r" % spec["driver"])
    return module.Meter(spec, profile, machine, time)
