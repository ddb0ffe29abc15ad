"""Phase angles of chips that delay one of their inputs and tell the time between two zero crossings."""


def lag(degrees, reactive, rest):
    """Degrees by which the current lags, -180..180.

    degrees: once round or half, to either side: the documents of these chips do not say which of the two crossings
    comes first, so the side is that of the reactive power. rest: lead of the sensed current that is left in it.
    """
    degrees = abs(degrees) % 360
    if degrees > 180:
        degrees = 360 - degrees
    if reactive < 0:
        degrees = -degrees
    degrees += rest
    return degrees - 360 if degrees > 180 else degrees + 360 if degrees < -180 else degrees


def left(lead, turned, ratio):
    """Degrees of a sensor's lead that a chip's delay leaves at a frequency of `ratio` times the nominal one.

    lead, turned: degrees at the nominal frequency that the sensed current leads, and that the chip takes off. The lead
    of a transformer falls as its reactance rises; the lag of a filter and a delay in time grow with the frequency.
    """
    return (lead / ratio if lead > 0 else lead * ratio) - turned * ratio
