"""A short summary of an output folder: ``python -m paddlex_seg.modes.summary output``."""

import json
import sys
from pathlib import Path
from typing import Any

from paddlex_seg.streams import make_standard_streams_last


def summarize(output: Path) -> str:
    """Mask AP over the epochs, and the paths of the pages, the images, the weights and the exported model."""
    train, evaluation = (_read(output / f"{mode}_result.json") for mode in ("train", "evaluate"))
    curve = "  ".join(f"{row['epoch']}: {_ap(row['mask_ap'])}" for row in train.get("history", []))
    rows = {
        "mask AP by epoch": curve,
        "mask AP (evaluate)": _ap(evaluation.get("metrics", {}).get("AP")),
        "evaluation page": _path(output / "evaluation.html"),
        "data set report": _path(output / "check_dataset" / "report.html"),
        "data set images": _path(output / "check_dataset"),
        "best weights": _path(output / "best_model" / "best_model.pdparams"),
        "exported model": _path(output / "best_model" / "inference"),
        "predictions": _path(output / "predict"),
    }
    return "\n".join(f"{name:20} {value}" for name, value in rows.items())


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _ap(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _path(path: Path) -> str:
    return str(path) if path.exists() else "not there"


if __name__ == "__main__":
    make_standard_streams_last()
    print(summarize(Path(sys.argv[1])))
