"""Runs an ONNX file with npm's onnxruntime-web in Node."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parent.parent / "edge"
_TYPES = {"float32": np.float32, "int32": np.int32, "int64": np.int64}


def what_is_missing() -> str | None:
    """What must be installed before `run_in_node`; None if nothing is missing."""
    if shutil.which("node") is None:
        return "node is not installed"
    if not (FOLDER / "node_modules" / "onnxruntime-web").is_dir():
        return "onnxruntime-web is not installed: npm install --prefix tests/edge"
    return None


def run_in_node(
    model: Path, inputs: Mapping[str, NDArray[np.float32]], runs: int = 1
) -> tuple[list[NDArray[Any]], dict[str, Any]]:
    """The outputs of a model, and what ``run_network.mjs`` measured."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        task: dict[str, Any] = {"model": str(model), "runs": runs, "outputs": name, "inputs": {}}
        for key, array in inputs.items():
            np.ascontiguousarray(array, np.float32).tofile(folder / key)
            task["inputs"][key] = {"dims": array.shape, "file": str(folder / key)}
        (folder / "task.json").write_text(json.dumps(task))
        ended = subprocess.run(
            ["node", str(FOLDER / "run_network.mjs"), str(folder / "task.json")],
            capture_output=True,
            text=True,
            timeout=300,
        )
        if ended.returncode:
            raise RuntimeError(ended.stderr)
        measured = json.loads(ended.stdout)
        outputs = [
            np.fromfile(folder / str(index), _TYPES[one["type"]]).reshape(one["dims"])
            for index, one in enumerate(measured["outputs"])
        ]
    return outputs, measured
