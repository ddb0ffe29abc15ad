"""Builds the pipelines of a profile's meters."""

from gridnode import anomaly, energy, reading
from gridnode.pipeline import Pipeline
from gridnode.setup import rules


def flat_names(profile, meters):
    """Which names of each meter stand flat in the report: [names, or None for a meter under its own name].

    Those of the first meter; a further one that the profile calls flat adds its own and takes over what both have.
    """
    owner = {}
    for k, spec in enumerate(profile["meters"]):
        if meters[k] and (not k or spec.get("flat")):
            for name in meters[k].names:
                owner[name] = k
    return [
        tuple([name for name in owner if owner[name] == k]) if not k or spec.get("flat") else None
        for k, spec in enumerate(profile["meters"])
    ]


def build(meter, correction, spec, profile, retained, record, flat):
    """The pipeline of a meter, its profile entry `spec`; flat: see `flat_names`.

    The meter has been started with `correction`. record: number of the meter's record in `retained`. Limits and
    extremes of the profile hold for what stands flat.
    """
    phases = meter.phases
    ledger = None
    if meter.counts_energy or record == 1:  # the first one numbers the reports
        # What the wires can carry, with room for a swell: more is no energy but a fault.
        limit_w = profile["nominal"]["voltage"] * profile["rating"]["current"] * 1.5 * phases
        path = energy.path(spec["id"], record == 1)
        ledger = energy.Ledger(len(meter.reading.at), limit_w, retained, record, path)
        ledger.load()
    judge = anomaly.Judge(rules.of(profile.get("limits", {}), flat or (), phases))
    extremes = [name for name in profile.get("report", {}).get("extremes", ()) if name in (flat or ())]
    row = reading.Window(spec["id"], phases, meter.names, extremes)
    report = reading.Window(spec["id"], phases, meter.names, extremes)
    report.reading = row.reading
    return Pipeline(meter, correction, ledger, judge, row, report, flat)
