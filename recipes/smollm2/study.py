"""The study of SmolLM2-135M from start to end, in parts that leave little on the disk.

    python recipes/smollm2/study.py study runs/smollm2-study
    python recipes/smollm2/study.py study_short runs/smollm2-study_short

Runs `study.yaml`, or another file beside it, regime by regime and seed by seed; after each part `forgetting.py`
measures the models and deletes them (half a gigabyte each). Start it again to go on where it stopped; the last part
writes the page of all runs.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent


def parts(study: dict[str, Any]) -> list[dict[str, Any]]:
    """One part for each seed and regime, then the whole, of which nothing is left to run."""
    single = [
        {**study, "seeds": [seed], "regimes": {name: keys}}
        for seed in study["seeds"]
        for name, keys in study["regimes"].items()
    ]
    return [*single, study]


def main(name: str, output: Path) -> None:
    study = yaml.safe_load((HERE / f"{name}.yaml").read_text(encoding="utf-8"))
    output.mkdir(parents=True, exist_ok=True)
    for part in parts(study):
        file = output / "part.yaml"
        file.write_text(yaml.safe_dump(part, sort_keys=False), encoding="utf-8")
        subprocess.run(["amft", "compare", file, "--jobs", "1", "--output", output], check=True)
        subprocess.run([sys.executable, HERE / "forgetting.py", output], check=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
