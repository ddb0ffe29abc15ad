"""The wheel: installed away from the sources it has its images, profiles and schemas."""

import os
import subprocess
import sys
from pathlib import Path

from gridnode_host import build, resources

PROBE = """
import json
from gridnode_host import build, resources
print(json.dumps({
    "checkout": str(resources.checkout()),
    "profiles": [resources.profile(name)["sku"] for name in resources.profile_names()],
    "sensors": [resources.sensor(name)["version"] for name in resources.sensor_names()],
    "maps": [resources.modbus_map(name)["version"] for name in resources.map_names()],
    "schemas": [resources.schema(name)["type"] for name in ("config", "profile")],
    "policy": "Statement" in resources.policy("node-policy"),
    "images": [(resources.image_dir(arch) / "main.mpy").is_file() for arch in build.ARCHES],
    "certs": str(resources.certs_dir()),
}))
"""


def run(*command: str, cwd: Path, path: Path | None = None) -> str:
    env = {**os.environ, "PYTHONPATH": str(path or "")}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=100, check=False, cwd=cwd, env=env
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_works_without_the_sources(tmp_path: Path) -> None:
    root = resources.checkout()
    assert root
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(
        *pip,
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(root),
        cwd=tmp_path,
    )
    (wheel,) = tmp_path.glob("*.whl")
    target = tmp_path / "target"
    run(*pip, "install", "-q", "--no-deps", "--target", str(target), str(wheel), cwd=tmp_path)

    import json

    found = json.loads(run(sys.executable, "-c", PROBE, cwd=tmp_path, path=target))
    assert found["checkout"] == "None"
    assert found["profiles"] == resources.profile_names()
    assert found["sensors"] == [1] * len(resources.sensor_names())
    assert found["maps"] == [1] * len(resources.map_names())
    assert found["schemas"] == ["object", "object"]
    assert found["policy"]
    assert found["images"] == [True] * len(build.ARCHES)
    assert not found["certs"].startswith(str(target))
    help_text = run(sys.executable, "-m", "gridnode_host", "--help", cwd=tmp_path, path=target)
    assert "provision" in help_text
    packed = {path.suffix for path in target.joinpath("gridnode_host").rglob("*")}
    assert not packed & {".der", ".pem", ".key"}
