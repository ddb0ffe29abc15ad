"""Where profiles, maps, schemas, images and keys are found, in a checkout and in an installed wheel.

In a checkout the data lies in ``boards/`` and the image is compiled on demand (only what has
changed); a wheel carries both as package data under ``gridnode_host/data``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from gridnode_host import maps
from gridnode_host.errors import Exit, GridnodeError

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
        raise GridnodeError(
            f"read {what}", f"{path} cannot be read: {err.strerror}", exit=Exit.USAGE
        ) from err
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
    """Return the JSON Schema ``report``, ``config``, ``profile`` or ``map``."""
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


def modbus_map(name: str, folder: Path | None = None) -> dict[str, Any]:
    """Return the registers of a Modbus meter as a node gets them: see `maps.compact`.

    ``name`` is one of `map_names`, or the path of a JSON file of the same form, which is looked
    for from ``folder``.
    """
    own_file = name.endswith(".json")
    if not own_file and name not in map_names():
        raise GridnodeError(
            "read map",
            f"there is no Modbus map named {name!r}",
            f"Choose one of: {', '.join(map_names())}; or give the path of a .json file.",
            Exit.USAGE,
        )
    path = (folder or Path()) / name if own_file else _data("boards", "maps", f"{name}.json")
    document = _load(path, f"map {name}")
    problem = best_match(Draft202012Validator(schema("map")).iter_errors(document))
    if problem:
        raise GridnodeError(
            "read map",
            f"{path}: {problem.json_path}: {problem.message}",
            "Correct the file; boards/schema/map.schema.json describes it.",
            Exit.USAGE,
        )
    return maps.compact(path.stem, document)


def profile(name: str) -> dict[str, Any]:
    """Return a profile as a node gets it: the board's and the Modbus maps' data in it.

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
    return document


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
