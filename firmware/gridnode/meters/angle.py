"""Phase angle of a chip that tells the delay between two zero crossings."""


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
