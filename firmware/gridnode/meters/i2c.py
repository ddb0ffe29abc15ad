"""An I2C bus of a profile's `i2c` entry; several meters may share it."""


def bus(machine, entry):
    """The bus. Its transactions are short and bounded by the port: no lock is needed between meters."""
    return machine.I2C(
        entry["id"],
        scl=machine.Pin(entry["scl"]),
        sda=machine.Pin(entry["sda"]),
        freq=entry.get("freq", 100000),
    )
