"""A node on a pty that speaks the calibration orders, with a simple front end of known errors.

The rules themselves are the firmware's and are tested there; this node has just enough of them to
show what the host makes of an answer, a refusal, a silence and a broken cable.
"""

from __future__ import annotations

import copy
import json
import math
import os
import select
import socket
import time
from typing import Any

from fake_node import FakeNode

LIMITS = {"voltage": 0.5, "current": 0.5, "power": 1.0}
STEPS = ["linearity", "offset", "gain", "phase", "power", "multipoint", "temperature", "verify"]


class CalibratingNode(FakeNode):
    """``load`` is the truth per phase: V, A and the degrees that the current lags."""

    def __init__(self, phases: int = 1, rating_a: float = 60.0) -> None:
        super().__init__()
        self.phases = phases
        self.rating_a = rating_a
        self.load: dict[str, list[float]] = {
            "voltage": [230.0] * phases,
            "current": [30.0] * phases,
            "phase_deg": [0.0] * phases,
        }
        self.wrong = {"voltage": -0.03, "current": 0.05, "lead": 1.5}
        self.in_force = self._design()
        self.drafts: list[dict[str, Any]] = []
        self.generation = 7
        self.orders: list[tuple[str, dict[str, Any]]] = []
        self.refusals: dict[str, list[dict[str, Any]]] = {}  # by order or step
        self.unplug_at: str | None = None
        self.measure_s = 0.0
        self.suggestions: list[dict[str, Any]] = []
        self.garbled: set[str] = set()  # orders that are answered with another form
        self._measured: list[dict[str, float]] = []
        self.pin: str | None = None  # what a source has put on it
        self.taken: list[tuple[str | None, float]] = []  # that, and the level that was told

    def names(self) -> list[str]:
        """The orders that came, without their requests."""
        return [name for name, _ in self.orders]

    def requests(self, order: str) -> list[dict[str, Any]]:
        """The requests of one order."""
        return [request for name, request in self.orders if name == order]

    def _design(self) -> dict[str, list[float]]:
        one, none = [1.0] * self.phases, [0.0] * self.phases
        return {"voltage": list(one), "current": list(one), "power": list(one), "lead": none}

    def calibration(self, order: str, request: dict[str, Any]) -> None:
        """What ``gridnode.service`` offers."""
        json.dumps(request, allow_nan=False)
        self.orders.append((order, request))
        if self.unplug_at and self.unplug_at in (order, request.get("step")):
            os.close(self._master)
            self._nobody = socket.socketpair()  # what it says now is heard by nobody
            self._master = os.dup(self._nobody[0].fileno())
            return
        for key in (order, request.get("step")):
            if self.refusals.get(str(key)) and (order != "apply" or key == order):
                self._print(json.dumps({"ok": False, **self.refusals[str(key)].pop(0)}))
                return
        if order in self.garbled:
            self._reply(something="else")
            return
        answer = getattr(self, "_" + order)(request)
        if answer is not None:
            self._reply(**answer)

    def _refuse(self, condition: str, message: str, measured: float, limit: float) -> None:
        answer = {"code": "condition", "message": message, "condition": condition}
        self._print(json.dumps({"ok": False, **answer, "measured": measured, "limit": limit}))

    def _begin(self, request: dict[str, Any]) -> dict[str, Any]:
        self.drafts = [copy.deepcopy(self.in_force)]
        names = ["voltage", "current", "power", "reactive_power", "frequency"]
        meter = {
            "id": "main",
            "driver": "ct",
            "phases": self.phases,
            "names": names,
            "steps": STEPS,
            "rating_a": self.rating_a,
            "nominal_v": 230,
            "nominal_hz": 50,
        }
        return {
            "node": "a4cf12b3c4d5",
            "sku": "home-3ph-ct" if self.phases > 1 else "home-60a-ct",
            "generation": self.generation,
            "firmware": "1.4.0",
            "temperature": None,
            "meters": [meter],
            "class": LIMITS,
            "points": [5, 20, 50, 100],
        }

    def _read(self) -> list[dict[str, float]]:
        draft, rows = self.drafts[-1], []
        for k in range(self.phases):
            v = self.load["voltage"][k] * (1 + self.wrong["voltage"]) * draft["voltage"][k]
            i = self.load["current"][k] * (1 + self.wrong["current"]) * draft["current"][k]
            angle = math.radians(
                self.load["phase_deg"][k] - self.wrong["lead"] + draft["lead"][k]
            )
            p, q = (v * i * f(angle) * draft["power"][k] for f in (math.cos, math.sin))
            rows.append({"voltage": v, "current": i, "power": p, "reactive_power": q})
        if self.phases == 1:
            return [{**rows[0], "frequency": 50.0}]
        return [{"frequency": 50.0}, *rows]

    def _wait(self) -> None:
        end = time.monotonic() + self.measure_s
        while time.monotonic() < end:
            if select.select([self._master], [], [], 0.02)[0]:
                raise RuntimeError("KeyboardInterrupt")  # what a VM makes of Ctrl-C

    def _observe(self, request: dict[str, Any]) -> dict[str, Any]:
        rows = self._read()
        return {
            "values": rows,
            "spread_percent": [{} for _ in rows],
            "quality": {},
            "window_s": 2,
            "blocks": 10,
        }

    def _measure(self, request: dict[str, Any]) -> dict[str, Any]:
        self._wait()
        self._measured = self._read()
        if "level_mv" in request:
            self.taken.append((self.pin, request["level_mv"]))
            return {"count": 1000, "level_mv": request["level_mv"], "levels": len(self.taken)}
        return {
            "values": self._measured,
            "spread_percent": [{"voltage": 0.02, "current": 0.03} for _ in self._measured],
            "windows": 3 if request["step"] == "verify" else 5,
            "rejected": 0,
            "window_s": 2,
            "temperature": 24.5,
        }

    def _apply(self, request: dict[str, Any]) -> dict[str, Any] | None:
        step, phase = request["step"], request["phase"]
        if not self._measured:
            answer = {"ok": False, "code": "sequence", "message": f"measure {step} first"}
            self._print(json.dumps(answer))
            return None
        measured, self._measured = self._measured, []
        chosen = range(self.phases) if phase is None else [phase - 1]
        draft, records = copy.deepcopy(self.drafts[-1]), []
        for k in chosen:
            row = measured[k + 1 if self.phases > 1 else 0]
            told = self._told(request["reference"], k)
            for name in ("voltage", "current", "power"):
                if name in told and abs(told[name] / row[name] - 1) > 0.2:
                    off = 100 * abs(told[name] / row[name] - 1)
                    text = f"{name} reference is {off:.4g} % away from the reading, allowed are 20 %"
                    self._refuse("reference", text, off, 20)
                    return None
            self._change(draft, step, k, told, row)
            records.append((k, told, row))
        former = self.drafts[-1]
        self.drafts.append(draft)
        after = self._read()
        if step == "verify":
            assert draft == former
        return {
            "number": len(self.drafts) - 1,
            "records": [self._record(request, *one, after) for one in records],
            "proof_s": 0 if step == "verify" else 4,
        }

    def _told(self, reference: dict[str, Any], k: int) -> dict[str, float]:
        found = {}
        for name, value in reference.items():
            one = value[k] if isinstance(value, list) else value
            if one is not None:
                found[name] = one
        return found

    def _change(
        self,
        draft: dict[str, Any],
        step: str,
        k: int,
        told: dict[str, float],
        row: dict[str, float],
    ) -> None:
        if step == "gain" or step == "multipoint":
            for name in ("voltage", "current"):
                if name in told:
                    draft[name][k] *= told[name] / row[name]
        if step == "phase":
            draft["lead"][k] += told.get("phase_deg", 0.0) - _angle(row)
        if step == "power":
            draft["power"][k] *= told["power"] / row["power"]

    def _record(
        self,
        request: dict[str, Any],
        k: int,
        told: dict[str, float],
        before: dict[str, float],
        rows: list[dict[str, float]],
    ) -> dict[str, Any]:
        step = request["step"]
        after = rows[k + 1 if self.phases > 1 else 0]
        given = request["uncertainty_percent"]

        def errors(row: dict[str, float]) -> dict[str, float]:
            if step == "offset":
                return {"power": 0.01}
            found = {
                name: round(100 * (row[name] / told[name] - 1), 4)
                for name in ("voltage", "current", "power")
                if name in told
            }
            if "phase_deg" in told:
                found["angle"] = round(_angle(row) - told["phase_deg"], 4)
            return found

        left = errors(after)
        record = {
            "step": step,
            "meter": "main",
            "phase": k + 1 if self.phases > 1 else 0,
            "date": 0,
            "operator": "",
            "source": "serial",
            "instrument": request["instrument"],
            "reference": told,
            "uncertainty_percent": given,
            "before_percent": {} if step == "verify" else errors(before),
            "after_percent": left,
            "spread_percent": {"voltage": 0.02, "current": 0.03, "power": 0.04},
            "u_percent": {name: math.hypot(0.03, given.get(name, 0.0)) for name in left},
            "load": {
                "voltage": after["voltage"],
                "current": after["current"],
                "power": after["power"],
                "power_factor": 1.0,
                "frequency": 50.0,
                "temperature": 24.5,
            },
            "windows": 5,
            "rejected": 0,
            "window_s": 2,
        }
        if request["as_found"]:
            record["as_found"] = True
        return record

    def _undo(self, request: dict[str, Any]) -> dict[str, Any] | None:
        if len(self.drafts) < 2:
            answer = {"ok": False, "code": "sequence", "message": "there is no step to undo"}
            self._print(json.dumps(answer))
            return None
        self.drafts.pop()
        return {"number": len(self.drafts) - 1}

    def _commit(self, request: dict[str, Any]) -> dict[str, Any]:
        self.in_force = self.drafts[-1]
        self.drafts = []
        self.generation += 1
        return {"generation": self.generation, "records": []}

    def _abandon(self, request: dict[str, Any]) -> dict[str, Any]:
        self.drafts = []
        return {}

    def _restore(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"generation": 6, "date": 1795600000, "operator": "jd"}

    def _show(self, request: dict[str, Any]) -> dict[str, Any]:
        return {
            "calibration": {
                "version": 2,
                "generation": 7,
                "date": 1795600000,
                "operator": "jd",
                "meters": {"main": {"current": [{"gain": 0.98, "curve": [[3.0, 1.0, 0.2]]}]}},
            },
            "generations": [6, 7],
            "factory": True,
        }

    def _records(self, request: dict[str, Any]) -> dict[str, Any]:
        names = ("gain", "phase", "power", "multipoint", "verify", "ct_ratio")
        every = [
            {
                "step": name,
                "meter": "main",
                "phase": 1,
                "date": 1795600000,
                **({"value": 2000} if name == "ct_ratio" else {"after_percent": {"current": 0.02}}),
            }
            for name in names
        ]
        return {"records": every[request["from"] : request["from"] + 4]}

    def _check(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"suggestions": self.suggestions}

    def _set(self, request: dict[str, Any]) -> dict[str, Any]:
        self.generation += 1
        record = {"step": request["command"], "value": request["value"], "former": 1}
        return {"record": record, "generation": self.generation}


def _angle(row: dict[str, float]) -> float:
    return math.degrees(math.atan2(row["reactive_power"], row["power"]))
