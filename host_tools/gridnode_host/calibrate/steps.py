"""The steps of a calibration, as data: what each needs and what a person connects for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StepKind:
    """A step.

    The reference is asked for ``quantities``, of which one at least is needed, and for ``extra``
    where it has them; a person is asked for ``asked``. ``connect`` says in plain words what to
    connect, with the numbers of the meter in braces: ``volts``, ``low``, ``high`` (A), ``point``
    (% of the rating), ``amps`` (A). ``steady`` are the quantities whose steadiness is shown.
    """

    title: str
    connect: str
    quantities: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()
    steady: tuple[str, ...] = ("voltage", "current", "power")
    optional: bool = False  # only where it is asked for


STEPS: dict[str, StepKind] = {
    "linearity": StepKind(
        "Linearity of the converter",
        "Leave the supply of about {volts:g} V connected and load the clamps with a steady "
        "current of {high:g} A or more: the node takes its own table from these sine waves.",
        optional=True,
    ),
    "offset": StepKind(
        "Zero without a load",
        "Leave the supply of about {volts:g} V connected. Switch every load off, or open the "
        "clamps and hold them away from all conductors: no current may flow through them.",
        steady=("voltage",),
    ),
    "gain": StepKind(
        "Gain of voltage and current",
        "Connect the reference to the same conductors as the node. Load with a steady current "
        "between {low:g} A and {high:g} A; a heater or a lamp is best, no dimmer.",
        ("voltage", "current"),
        asked=("voltage", "current"),
    ),
    "phase": StepKind(
        "Phase between voltage and current",
        "Load with a heater or lamps (power factor 1), {low:g} A or more. With another load you "
        "need its true angle from the reference.",
        ("phase_deg",),
        asked=("phase_deg",),
    ),
    "power": StepKind(
        "Gain of the active power",
        "Keep a steady load near power factor 1 of {low:g} A or more, and the reference on the "
        "same conductors.",
        ("power",),
        asked=("power",),
    ),
    "multipoint": StepKind(
        "Point at {point:g} % of the rating",
        "Load with about {amps:g} A at power factor 1 and keep it steady.",
        ("current",),
        ("phase_deg",),
        asked=("current", "phase_deg"),
    ),
    "temperature": StepKind(
        "Temperature coefficient",
        "Bring the node to the next temperature and wait until it has settled. The load is the "
        "same as for the gain.",
        ("voltage", "current"),
        asked=("voltage", "current"),
        optional=True,
    ),
    "verify": StepKind(
        "Verification",
        "Connect the reference to the same conductors as the node and load with a steady current "
        "as in use. Nothing is changed by this step.",
        ("voltage", "current", "power"),
        ("phase_deg",),
        asked=("voltage", "current", "power"),
    ),
}

SWEPT = (
    "Part the converter's pin of the first voltage from its front end and connect the source to "
    "it: the program goes through the levels and the node takes its own table from them."
)
"""What is connected for the linearity where a source can put levels on the pin."""

BY_HAND = (
    "Part the converter's pin of the first voltage from its front end and connect a DC source to "
    "it, with a voltmeter beside it. You are asked for one level after the other, from about 200 "
    "to 2400 mV and evenly apart; nine at least, some twenty are good."
)
"""What is connected for the linearity where a person sets the levels."""

ORDER = ("linearity", "offset", "gain", "phase", "power", "multipoint", "temperature")
"""Between the verification as found and that as left."""
