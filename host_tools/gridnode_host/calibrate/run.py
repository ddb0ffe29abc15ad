"""A calibration by a plan: every step in its order, and the result in force only at the end."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from gridnode_host.calibrate import certificate, conduct, tell
from gridnode_host.calibrate.conduct import Task
from gridnode_host.calibrate.plan import Plan, Step
from gridnode_host.calibrate.references import Instruments, instruments
from gridnode_host.calibrate.session import STILL, Identity, Result, Session, open_session
from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.output import Output


def run(port: str, plan: Plan, out: Output) -> None:
    """Carry a plan out on the node at ``port``.

    A step that is refused ends it with nothing stored, unless the plan calls the step optional.
    Raises `GridnodeError`; VERIFY when the node is not within its class in the end.
    """
    if plan.certificate:
        certificate.check_place(plan.certificate)
    with contextlib.ExitStack() as stack:
        with out.step("open the instruments"):
            opened = stack.enter_context(instruments(plan))
        with open_session(port, out, plan.operator or "") as session:
            tell_node(session.identity, out)
            tasks = [_task(plan, step, session.identity) for step in plan.steps]
            for task, step in zip(tasks, plan.steps, strict=True):
                if not (step.optional and task.step not in task.meter.steps):
                    conduct.check(task, opened.reference)
            for task, step in zip(tasks, plan.steps, strict=True):
                _step(session, task, opened, out, optional=step.optional)
            finish(session, out, factory=plan.factory)
    close(session, opened, out, plan.certificate)


def dry_run(port: str, plan: Plan, out: Output) -> None:
    """Tell the steps of a plan, and touch neither node nor instruments."""
    if plan.certificate:
        certificate.check_place(plan.certificate)
    for number, step in enumerate(plan.steps, 1):
        out.event("plan", f"would {number:2}  {_describe(step)}", number=number, **_fields(step))
    what = "then put the result in force" + (", as factory set too" if plan.factory else "")
    out.event("plan", f"would {what} on {port}", factory=plan.factory)
    if plan.certificate:
        out.event("plan", f"would write {plan.certificate}", path=str(plan.certificate))
    out.done()


def tell_node(identity: Identity, out: Output) -> None:
    """Tell who the node is."""
    meters = ", ".join(f"{m.id} ({m.driver}, {m.phases} phase)" for m in identity.meters)
    out.event(
        "node_info",
        f"      node {identity.node}, {identity.sku}, firmware {identity.firmware}, "
        f"calibration generation {identity.generation}; {meters}",
        node=identity.node,
        thing=identity.thing,
        sku=identity.sku,
        firmware=identity.firmware,
        generation=identity.generation,
        meters=[{"id": m.id, "driver": m.driver, "steps": list(m.steps)} for m in identity.meters],
        limits=dict(identity.limits),
        points=list(identity.points),
    )


def tell_result(result: Result, session: Session, out: Output) -> None:
    """Tell what a step has come to."""
    out.event(
        "result",
        "\n".join(f"      {line}" for line in tell.lines(result)) or None,
        step=result.step,
        meter=result.meter.id,
        phase=result.phase,
        label=result.label,
        as_found=result.as_found,
        instrument=result.instrument,
        records=list(result.records),
        steps=len(session.results),
    )


def finish(session: Session, out: Output, *, factory: bool) -> None:
    """Put what was accepted in force; without a change nothing is written to the node."""
    if not session.changes:
        out.event("unchanged", f"      no step has changed anything: {STILL}")
        return
    with out.step("put the calibration in force"):
        number = session.commit(factory=factory)
    kept = ", and as factory set" if factory else ""
    out.event(
        "committed",
        f"      generation {number} is in force{kept}",
        generation=number,
        factory=factory,
    )


def close(session: Session, opened: Instruments, out: Output, path: Path | None) -> None:
    """Write the certificate, tell the verdict; raises `GridnodeError` (VERIFY) if it is a fail."""
    document = certificate.build(session, opened)
    verdict = document["verdict"]
    if path:
        with out.step("write the certificate"):
            json_path = certificate.write(document, path)
        out.event(
            "certificate",
            f"      {path} and {json_path}",
            path=str(path),
            json=str(json_path),
            sha256=document["sha256"],
        )
    effort = session.effort
    numbers: dict[str, Any] = {
        "prompts": effort.prompts,
        "measuring_s": round(effort.measuring_s, 1),
        "elapsed_s": round(effort.elapsed_s, 1),
    }
    if verdict["result"] == "fail":
        raise GridnodeError(
            "judge the verification",
            f"the node is not within its class: {verdict['reason']}",
            "See the certificate; repeat the steps of what is beyond its limit.",
            Exit.VERIFY,
            {"verdict": "fail", "generation": session.generation, **numbers},
        )
    out.done(
        f"{len(session.changes)} steps; verdict: {verdict['result']} ({verdict['reason']}). "
        f"{effort.prompts} prompts, {effort.measuring_s:.0f} s of measuring, "
        f"{effort.elapsed_s:.0f} s in all",
        generation=session.generation,
        steps=len(session.changes),
        verdict=verdict["result"],
        **numbers,
    )


def _step(
    session: Session, task: Task, opened: Instruments, out: Output, *, optional: bool
) -> None:
    try:
        with out.step(f"{task.place} of {task.meter.id}"):
            conduct.set_load(session, task, opened)
            if task.sweep and opened.source:
                result = conduct.sweep(session, task, task.sweep, opened.source)
            else:
                seen = conduct.complete(task, conduct.measure(session, task, opened.reference))
                result = conduct.apply(session, task, seen, opened.reference)
    except GridnodeError as err:
        if not optional or err.exit != Exit.REFUSED:
            raise
        out.event(
            "refused",
            f"left out  {task.place}: {err.cause}",
            step=task.step,
            meter=task.meter.id,
            phase=task.phase,
            cause=err.cause,
            **err.fields,
        )
        return
    tell_result(result, session, out)


def _task(plan: Plan, step: Step, identity: Identity) -> Task:
    settle = step.settle_s
    if settle is None:
        settle = plan.source.settle_s if plan.source else 0.0
    place = step.place + (f" {step.label}" if step.label else "")
    return Task(
        place=place,
        step=step.step,
        meter=identity.meter(step.meter),
        phase=step.phase,
        label=step.label,
        source=step.source,
        typed=step.reference,
        uncertainty_percent=step.uncertainty_percent,
        instrument=step.instrument,
        quantities=step.quantities,
        settle_s=settle,
        max_spread_percent=step.max_spread_percent,
        sweep=step.sweep,
    )


def with_options(plan: Plan, *, operator: str | None, path: Path | None, factory: bool) -> Plan:
    """Return a plan with what was given on the command line."""
    return replace(
        plan,
        operator=operator or plan.operator,
        certificate=path or plan.certificate,
        factory=factory or plan.factory,
    )


def _describe(step: Step) -> str:
    parts = [step.step, f"of meter {step.meter}" if step.meter else "of the first meter"]
    if step.phase:
        parts.append(f"phase {step.phase}")
    for word, table in (("with", step.source), ("reference", step.reference)):
        if table:
            values = ", ".join(
                f"{name} {' / '.join(f'{v.value:g}' for v in each)}"
                for name, each in table.items()
            )
            parts.append(f"{word} {values}")
    if step.sweep:
        told = step.sweep
        parts.append(f"at {told.levels} levels from {told.low:g} to {told.high:g} mV")
    if step.optional:
        parts.append("(optional)")
    return " ".join(parts)


def _fields(step: Step) -> dict[str, Any]:
    return {
        "step": step.step,
        "meter": step.meter,
        "phase": step.phase,
        "source": {name: [v.value for v in each] for name, each in step.source.items()},
        "reference": {name: [v.value for v in each] for name, each in step.reference.items()},
        "optional": step.optional,
    }
