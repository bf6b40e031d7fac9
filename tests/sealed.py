"""Run directories written by hand: recorded as if steps had just written what lies in them."""

import json
from pathlib import Path

from pbb_probe.store.disk import write_sealed
from pbb_probe.store.outputs import record_outputs
from pbb_probe.store.records import RECORD
from pbb_probe.store.writable import WritableRun


def seal(path: Path, seconds: float = 1.0) -> Path:
    """Record every folder of a run as a finished step, and its config.json, if there is one, in the manifest."""
    for folder in sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith(".")):
        (folder / RECORD).unlink(missing_ok=True)
        record = {
            "step": folder.name,
            "key": "by hand",
            "inputs": {},
            "outputs": record_outputs(folder),
            "seconds": seconds,
        }
        write_sealed(folder / RECORD, record)
    config = path / "config.json"
    WritableRun(path).write_manifest(config=json.loads(config.read_text()) if config.exists() else {})
    return path
