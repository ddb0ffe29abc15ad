"""Opens the buses of profile entries. Meters may share one: opening it again with the same settings changes nothing."""


def spi(machine, spec):
    """(SPI, chip select pin, high) of `spec["spi"]`, in mode 3: the clock idles high, data is taken as it rises.

    All chip selects of a bus must be high before the first transfer: meters call this in `start`.
    """
    pin = machine.Pin
    wires = spec["spi"]
    bus = machine.SPI(
        wires["id"],
        baudrate=wires.get("baud", 500000),
        polarity=1,
        phase=1,
        sck=pin(wires["sck"]),
        mosi=pin(wires["mosi"]),
        miso=pin(wires["miso"]),
    )
    return bus, pin(wires["cs"], pin.OUT, value=1)


def i2c(machine, spec):
    """I2C of `spec["i2c"]`."""
    wires = spec["i2c"]
    return machine.I2C(
        wires["id"],
        scl=machine.Pin(wires["scl"]),
        sda=machine.Pin(wires["sda"]),
        freq=wires.get("freq", 100000),
        timeout=50000,
    )
