"""Reads ``metrics.jsonl``, the metrics of a training run. `training.metrics_log` writes it.

Each line is a JSON object with ``kind`` (step, evaluation or event), ``epoch``, ``step`` and ``time``
(seconds since 1970). Fields whose names begin with ``loss`` are losses, ``loss`` is the total.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

METRICS_FILE = "metrics.jsonl"
_STEP_LINE = '{"kind": "step",'  # how the line of a step begins

Record = dict[str, Any]


def read_metrics(path: Path, *, max_steps: int | None = None) -> list[Record]:
    """The records of a ``metrics.jsonl``; [] if the file does not exist.

    Incomplete lines of a killed run are skipped. max_steps: parse at most this many step records, evenly
    spaced and including the last one. This is fast even for a long file.
    """
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    if max_steps is not None:
        steps = [number for number, line in enumerate(lines) if line.startswith(_STEP_LINE)]
        skipped = set(steps) - set(steps[:: -(-(-len(steps) // max_steps) or 1)])
        lines = [line for number, line in enumerate(lines) if number not in skipped]
    return [record for record in map(_parse, lines) if record is not None]


def losses_of(record: Mapping[str, Any]) -> dict[str, float]:
    """The losses of a record by name. Values that are not numbers are left out."""
    return {
        name: value for name, value in record.items() if name.startswith("loss") and isinstance(value, float)
    }


def _parse(line: str) -> Record | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    complete = isinstance(record, dict) and {"kind", "epoch", "step", "time"} <= record.keys()
    return record if complete else None
