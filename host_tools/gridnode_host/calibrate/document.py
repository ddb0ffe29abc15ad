"""The content of a certificate: what a session has found, as JSON."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from gridnode_host import __version__
from gridnode_host.calibrate import verdict
from gridnode_host.calibrate.references import Instruments, Mean
from gridnode_host.calibrate.session import Meter, Result, Session
from gridnode_host.calibrate.tell import errors, unit

VERSION = 1
_CONDITIONS = ("temperature", "frequency")
_OF_READING = frozenset(("gain", "phase", "power", "multipoint", "temperature", "verify"))
"""Steps whose errors are in % of the value; those of the other steps are of something else."""

Document = dict[str, Any]


def build(session: Session, instruments: Instruments) -> Document:
    """Return the certificate of a session, with its hash."""
    identity = session.identity
    rows = _rows(session)
    when = datetime.fromtimestamp(session.date, UTC)
    document: Document = {
        "version": VERSION,
        "number": f"{when:%Y%m%d}-{identity.node[-6:]}-g{session.generation}",
        "date": f"{when:%Y-%m-%dT%H:%M:%SZ}",
        "operator": session.operator or None,
        "node": {
            "id": identity.node,
            "thing": identity.thing,
            "sku": identity.sku,
            "firmware": identity.firmware,
            "generation": session.generation,
            "former_generation": identity.generation,
        },
        "software": f"gridnode {__version__}",
        "meters": [_meter(meter) for meter in _used(session)],
        "class_percent": dict(identity.limits),
        "instruments": _instruments(session, instruments),
        "conditions": _conditions(session.results),
        "steps": [_step(number, result) for number, result in enumerate(session.results, 1)],
        "points": rows,
        "verdict": _verdict(session, rows),
        "effort": {
            "prompts": session.effort.prompts,
            "measuring_s": round(session.effort.measuring_s, 1),
            "elapsed_s": round(session.effort.elapsed_s, 1),
        },
    }
    return {**document, "sha256": digest(document)}


def digest(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the canonical JSON: sorted keys, no white space, without the hash."""
    content = {key: value for key, value in document.items() if key != "sha256"}
    text = json.dumps(
        content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _used(session: Session) -> list[Meter]:
    """Return the meters that the session was about."""
    names = {result.meter.id for result in session.results}
    return [meter for meter in session.identity.meters if meter.id in names]


def _meter(meter: Meter) -> Document:
    return {
        "id": meter.id,
        "driver": meter.driver,
        "phases": meter.phases,
        "rating_a": meter.rating_a,
        "nominal_v": meter.nominal_v,
        "nominal_hz": meter.nominal_hz,
    }


def _instruments(session: Session, opened: Instruments) -> list[Document]:
    found: dict[str, Document] = {}
    for result in session.results:
        if not result.means:
            continue
        entry = found.setdefault(
            result.instrument, {"name": result.instrument, "use": "reference"}
        )
        entry.setdefault("uncertainty_percent", {}).update(result.uncertainty_percent)
    reference = opened.reference
    if reference and reference.name in found and reference.identity != reference.name:
        found[reference.name]["identity"] = reference.identity
    out = list(found.values())
    if opened.source:
        out.append({"name": opened.source.name, "use": "source"})
    return out


def _conditions(results: Iterable[Result]) -> Document:
    found: dict[str, list[float]] = {}
    for result in results:
        for record in result.records:
            for name in _CONDITIONS:
                value = record.get("load", {}).get(name)
                if isinstance(value, int | float):
                    found.setdefault(name, []).append(float(value))
    return {name: {"least": min(values), "most": max(values)} for name, values in found.items()}


def _step(number: int, result: Result) -> Document:
    return {
        "number": number,
        "step": result.step,
        "label": result.label,
        "meter": result.meter.id,
        "phase": result.phase,
        "as_found": result.as_found,
        "instrument": result.instrument if result.means else None,
        "max_spread_percent": result.limit_percent,
        "reference": {
            name: {str(phase): asdict(mean) for phase, mean in found.items()}
            for name, found in result.means.items()
        },
        "measured": {
            "values": [dict(values) for values in result.measured.values],
            "spread_percent": [dict(values) for values in result.measured.spread_percent],
            "windows": result.measured.windows,
            "rejected": result.measured.rejected,
            "window_s": result.measured.window_s,
            "temperature": result.measured.temperature,
        },
        "records": [dict(record) for record in result.records],
    }


def _rows(session: Session) -> list[Document]:
    """Return every error that was found, at its load."""
    rows = []
    for number, result in enumerate(session.results, 1):
        if result.step not in _OF_READING:
            continue
        for record in result.records:
            for name, error in errors(record):
                rows.append(_row(session, number, result, record, name, error))
    return rows


def _row(
    session: Session,
    number: int,
    result: Result,
    record: Mapping[str, Any],
    name: str,
    error: float,
) -> Document:
    phase = int(record.get("phase") or 0)
    mean = result.means.get(name, {}).get(phase or 1, Mean(0.0))
    parts = verdict.budget(
        record.get("uncertainty_percent", {}).get(name),
        record.get("u_percent", {}).get(name),
        mean.scatter_percent,
        mean.resolution,
        mean.value,
    )
    current, factor = _load(result, record, phase or 1)
    limit = session.identity.limits.get(name)
    row: Document = {
        "step": number,
        "kind": _kind(session, number, result),
        "meter": result.meter.id,
        "phase": phase,
        "quantity": name,
        "unit": unit(name),
        "load_percent": None
        if current is None
        else round(100 * current / result.meter.rating_a, 3),
        "power_factor": factor,
        "error": error,
        "before": record.get("before_percent", {}).get(name),
        "limit": limit,
    }
    if name in result.means:
        row["reference"] = mean.value
    if limit is not None:
        row["budget"] = _rounded(asdict(parts))
        row["u"] = None if parts.combined is None else round(parts.combined, 6)
        if result.step == "verify":
            row["verdict"] = verdict.judge(error, row["u"], limit)
    return row


def _load(
    result: Result, record: Mapping[str, Any], phase: int
) -> tuple[float | None, float | None]:
    """Return current in A and power factor: of the reference, else as the node sees them."""
    own = record.get("load", {})
    current, factor = own.get("current"), own.get("power_factor")
    true = {name: found[phase].value for name, found in result.means.items() if phase in found}
    if "phase_deg" in true:
        factor = round(math.cos(math.radians(true["phase_deg"])), 4)
    return true.get("current", current), factor


def _kind(session: Session, number: int, result: Result) -> str:
    """Return what an error says: as found, as left, a check in between, or of a step."""
    if result.step != "verify":
        return "step"
    changed = [
        n
        for n, one in enumerate(session.results, 1)
        if one.step != "verify" and one.meter.id == result.meter.id
    ]
    if result.as_found and changed:
        return "as_found"
    return "as_left" if not changed or number > changed[-1] else "check"


def _verdict(session: Session, rows: list[Document]) -> Document:
    """Judge the verifications as left, and say in one line why."""
    judged = [row for row in rows if row["kind"] == "as_left" and "verdict" in row]
    for result in (verdict.FAIL, verdict.INCONCLUSIVE):
        bad = [row for row in judged if row["verdict"] == result]
        if bad:
            worst = max(bad, key=lambda row: abs(row["error"]) / row["limit"])
            more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
            return {"result": result, "reason": f"{_sentence(worst)}{more}"}
    missing = _missing(session, judged)
    if missing:
        return {"result": verdict.INCONCLUSIVE, "reason": f"not verified: {', '.join(missing)}"}
    reason = f"{len(judged)} verified values within their class, uncertainty counted in"
    return {"result": verdict.PASS, "reason": reason}


def _sentence(row: Mapping[str, Any]) -> str:
    where = f" of L{row['phase']}" if row["phase"] else ""
    load = (
        f" at {row['load_percent']:.3g} % of the rating" if row["load_percent"] is not None else ""
    )
    u = f"U {row['u']:.3f} %" if row["u"] is not None else "its uncertainty is not known"
    return (
        f"{row['quantity']}{where}{load}: error {row['error']:+.3f} %, {u}, "
        f"class {row['limit']:g} %"
    )


def _missing(session: Session, judged: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what has a class and was not verified after the last step."""
    have = {(row["meter"], row["phase"], row["quantity"]) for row in judged}
    missing = []
    for meter in _used(session):
        for phase in meter.each:
            for name in session.identity.limits:
                if name in meter.names and (meter.id, meter.row(phase), name) not in have:
                    where = f" L{phase}" if meter.phases > 1 else ""
                    missing.append(f"{name} of {meter.id}{where}")
    return missing or ([] if session.results else ["anything"])


def _rounded(parts: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if x is None else round(x, 6) for name, x in parts.items()}
