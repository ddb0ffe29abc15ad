"""Where profiles, maps, sensors, forests, schemas, images and keys are found, in a checkout and in an installed wheel.

In a checkout the data lies in ``boards/`` and the image is compiled on demand (only what has
changed); a wheel carries both as package data under ``gridnode_host/data``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from gridnode_host import maps, sensor_models
from gridnode_host.errors import Exit, GridnodeError
from gridnode_host.files import unread

_PACKAGE = Path(__file__).resolve().parent


def checkout() -> Path | None:
    """Return the root of the source tree, or None when running from an installed wheel."""
    root = _PACKAGE.parents[1]
    return root if (root / "firmware").is_dir() and (root / "boards").is_dir() else None


def _data(*parts: str) -> Path:
    root = checkout()
    return (root if root else _PACKAGE / "data").joinpath(*parts)


def _load(path: Path, what: str) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as err:
        raise unread(f"read {what}", path, err) from err
    except ValueError as err:
        raise GridnodeError(
            f"read {what}", f"{path} is not JSON: {err}", "Correct the file.", Exit.USAGE
        ) from err
    if not isinstance(document, dict):
        raise GridnodeError(
            f"read {what}", f"{path} is not a JSON object", "Correct the file.", Exit.USAGE
        )
    return document


def schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema of boards/schema with this name: ``report``, ``profile`` and so on."""
    return _load(_data("boards", "schema", f"{name}.schema.json"), f"schema {name}")


def policy(name: str) -> dict[str, Any]:
    """Return a policy document of ``certs/policy``."""
    return _load(_data("certs", "policy", f"{name}.json"), f"policy {name}")


def profile_names() -> list[str]:
    """Return the names of the profiles that come with the product, sorted."""
    return sorted(path.stem for path in _data("boards", "profiles").glob("*.json"))


def map_names() -> list[str]:
    """Return the names of the Modbus meters whose registers come with the product, sorted."""
    return sorted(path.stem for path in _data("boards", "maps").glob("*.json"))


def sensor_names() -> list[str]:
    """Return the names of the transformers whose models come with the product, sorted."""
    return sorted(path.stem for path in _data("boards", "sensors").glob("*.json"))


def forest_names() -> list[str]:
    """Return the names of the forests that come with the product, sorted."""
    return sorted(path.stem for path in _data("boards", "models").glob("*.gnf"))


def forest(name: str) -> bytes:
    """Return the file of a forest for a node; ``name`` is one of `forest_names`, or a path."""
    path = _data("boards", "models", f"{name}.gnf") if name in forest_names() else Path(name)
    try:
        return path.read_bytes()
    except OSError as err:
        raise GridnodeError(
            "read forest",
            f"{name} cannot be read: {err.strerror}",
            f"Choose one of: {', '.join(forest_names())}; or give the path of a .gnf file.",
            Exit.USAGE,
        ) from err


def modbus_map(name: str, folder: Path | None = None) -> dict[str, Any]:
    """Return the registers of a Modbus meter as a node gets them: see `maps.compact`.

    ``name`` is one of `map_names`, or the path of a JSON file of the same form, which is looked
    for from ``folder``.
    """
    known = map_names()
    return maps.compact(*_part("map", "Modbus map", "maps", known, name, folder))


def sensor(name: str, folder: Path | None = None) -> dict[str, Any]:
    """Return the model of a transformer; ``name`` as of `modbus_map`, of `sensor_names`."""
    return _sensor(name, folder)[1]


def _sensor(name: str, folder: Path | None) -> tuple[str, dict[str, Any]]:
    short, model = _part("sensor", "sensor", "sensors", sensor_names(), name, folder)
    found = sensor_models.problems(model)
    if found:
        raise GridnodeError(
            "read sensor", f"{name}: {'; '.join(found)}", "Correct the file.", Exit.USAGE
        )
    return short, model


def _part(
    kind: str, called: str, place: str, known: list[str], name: str, folder: Path | None
) -> tuple[str, dict[str, Any]]:
    """Return the short name and the content of a file that a profile names, judged by its schema."""
    own_file = name.endswith(".json")
    if not own_file and name not in known:
        raise GridnodeError(
            f"read {kind}",
            f"there is no {called} named {name!r}",
            f"Choose one of: {', '.join(known)}; or give the path of a .json file.",
            Exit.USAGE,
        )
    path = (folder or Path()) / name if own_file else _data("boards", place, f"{name}.json")
    document = _load(path, f"{kind} {name}")
    problem = best_match(Draft202012Validator(schema(kind)).iter_errors(document))
    if problem:
        raise GridnodeError(
            f"read {kind}",
            f"{path}: {problem.json_path}: {problem.message}",
            f"Correct the file; boards/schema/{kind}.schema.json describes it.",
            Exit.USAGE,
        )
    return path.stem, document


def faults(own: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    """Return the rules of faults as a node gets them: boards/faults.json without its reasons.

    ``own`` are a profile's rules: they replace all those of the same fault.
    """
    path = _data("boards", "faults.json")
    rules = _rules(_load(path, "faults"), str(path))
    if own:
        named = {rule.get("fault") for rule in own}
        rules = [rule for rule in rules if rule["fault"] not in named]
        rules += _rules({"version": 1, "title": "faults", "faults": own}, "detector.faults")
    return [{key: part for key, part in rule.items() if key != "why"} for rule in rules]


def _rules(document: dict[str, Any], where: str) -> list[dict[str, Any]]:
    problem = best_match(Draft202012Validator(schema("faults")).iter_errors(document))
    if problem:
        raise GridnodeError(
            "read faults",
            f"{where}: {problem.json_path}: {problem.message}",
            "Correct the file; boards/schema/faults.schema.json describes it.",
            Exit.USAGE,
        )
    found: list[dict[str, Any]] = document["faults"]
    return found


def profile(name: str) -> dict[str, Any]:
    """Return a profile as a node gets it: data of its board, Modbus maps and sensors in it.

    ``name`` is one of `profile_names`, or the path of a JSON file of the same form.
    """
    own_file = name.endswith(".json")
    if not own_file and name not in profile_names():
        raise GridnodeError(
            "read profile",
            f"there is no profile named {name!r}",
            f"Choose one of: {', '.join(profile_names())}; or give the path of a .json file.",
            Exit.USAGE,
        )
    path = Path(name) if own_file else _data("boards", "profiles", f"{name}.json")
    document = _load(path, "profile")
    board = document.get("board")
    if isinstance(board, str):
        folder = _data("boards")
        known = sorted(p.parent.name for p in folder.glob("*/hardware.json"))
        if board not in known:
            raise GridnodeError(
                "read profile",
                f"{name} names the board {board!r}, which is not known",
                f"Choose one of: {', '.join(known)}.",
                Exit.USAGE,
            )
        document["board"] = _load(folder / board / "hardware.json", "board")
    for meter in document.get("meters", ()):
        modbus = meter.get("modbus", {})
        if isinstance(modbus.get("map"), str):
            modbus["map"] = modbus_map(modbus["map"], path.parent)
        for quantity in sensor_models.KINDS:
            for channel in meter.get(quantity, ()):
                if isinstance(channel.get("sensor"), str):
                    _fill(channel, quantity, document, path.parent)
    return document


def _fill(channel: dict[str, Any], quantity: str, profile: dict[str, Any], folder: Path) -> None:
    """Complete a channel with the model of the sensor that it names."""
    name, model = _sensor(channel["sensor"], folder)
    wanted = sensor_models.KINDS[quantity]
    if model["kind"] != wanted:
        fitting = [n for n in sensor_names() if sensor(n)["kind"] == wanted]
        raise GridnodeError(
            "read profile",
            f"{name} is a {model['kind']}, which does not measure a {quantity}",
            f"Choose one of: {', '.join(fitting)}.",
            Exit.USAGE,
        )
    rating = float(profile.get("rating", {}).get("current", 0.0))
    frequency = float(profile.get("nominal", {}).get("frequency", 50.0))
    sensor_models.fill(channel, name, model, rating, frequency)


def image_dir(arch: str) -> Path:
    """Return the folder with the compiled application for ``arch``, built if need be.

    It holds ``main.mpy``, ``gridnode/`` and ``umqtt/``. ``arch`` is one of
    `gridnode_host.build.ARCHES`.
    """
    root = checkout()
    if root:
        from gridnode_host import build  # a wheel carries images and needs no compiler

        return build.build_image(arch, root / "build" / "image" / arch)
    path = _PACKAGE / "data" / "image" / arch
    if not path.is_dir():
        have = ", ".join(sorted(p.name for p in path.parent.glob("*")))
        raise GridnodeError("find image", f"no image for {arch}; there are: {have}")
    return path


def certs_dir() -> Path:
    """Return the folder of the development CA and of generated keys (not made here)."""
    root = checkout()
    if root:
        return root / "certs" / "generated"
    from platformdirs import user_data_path

    return user_data_path("gridnode", appauthor=False) / "certs"
