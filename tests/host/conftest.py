"""Fixtures of the tests of gridnode replay."""



import json
from pathlib import Path

import pytest
from gridnode_host import resources
from replays import STAND_IN


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector that tells what it is given, and can be made to fail, where the node's is found."""
    monkeypatch.setattr(resources, "image_dir", lambda _arch: STAND_IN)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A recording of two signals of which the last rows of one are anomalous, and its limits."""
    lines = ["timestamp,voltage,label,current,label_current,class,train"]
    for k in range(300):
        anomalous = k in (240, 241, 242, 270)
        voltage = {240: 300, 241: 301, 242: "", 270: 150}.get(k, 230 + k * 7 % 5 / 4)
        stamp = f"2026-01-02T00:{k // 6:02}:{k % 6}0Z"
        current = 10 + k * 11 % 7 / 8
        lines.append(f"{stamp},{voltage},{anomalous:d},{current},no number,c,{int(k < 200)}")
    path = tmp_path / "in.csv"
    path.write_text("\n".join(lines) + "\n")
    limits = {"interval_s": 10, "train_rows": 200, "nominal": {"voltage": [207, 253]}}
    (tmp_path / "in.json").write_text(json.dumps(limits))
    return path
