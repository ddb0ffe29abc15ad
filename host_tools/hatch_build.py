"""Build hook: a wheel carries the compiled images, profiles, maps, sensors, forests, schemas."""

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface):
    """Compile the images and add the package data; an editable install needs neither."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        root = Path(self.root)
        sys.path.insert(0, str(root / "host_tools"))
        from gridnode_host import build, resources

        included = build_data["force_include"]
        for arch in build.ARCHES:
            image = resources.image_dir(arch)
            for path in image.rglob("*.mpy"):
                place = path.relative_to(image).as_posix()
                included[str(path)] = f"gridnode_host/data/image/{arch}/{place}"
        data = ("boards/**/*.json", "boards/models/*.gnf", "certs/policy/*.json")
        for path in [path for pattern in data for path in root.glob(pattern)]:
            included[str(path)] = f"gridnode_host/data/{path.relative_to(root).as_posix()}"
