"""Calibration: the rules on many simulated units, whole nodes, bad inputs, a technician's time."""

from __future__ import annotations

from gridnode_host.bench.figures import (
    calibration_faults,
    calibration_guided,
    calibration_nodes,
    calibration_plots,
    calibration_units,
)
from gridnode_host.bench.figures.tables import Table, folder
from gridnode_host.output import Output


def tables(out: Output) -> list[Table]:
    """Measure everything, and draw it into the folder of the subject; some ten minutes."""
    with out.step("calibration: the rules alone") as progress:
        units = calibration_units.campaign(progress)
    with out.step("calibration: whole nodes") as progress:
        nodes = calibration_nodes.campaign(progress)
    with out.step("calibration: bad inputs"):
        attempts = calibration_faults.measure()
    with out.step("calibration: a guided session"):
        sessions = calibration_guided.measure()
    place = folder("calibration")
    calibration_plots.units(units, place)
    calibration_plots.nodes(nodes, place)
    return [
        calibration_units.table(units),
        calibration_units.bad_inputs(units),
        calibration_nodes.table(nodes),
        calibration_faults.table(attempts),
        calibration_guided.table(sessions),
    ]
