"""Which files of a folder are an exported model: those of this toolkit, of PaddleX or of PaddleDetection."""

from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

from paddlex_seg.errors import BackendError
from paddlex_seg.inference.export_spec import PADDLEDETECTION_YML

OURS = "network.json"
ONNX = "network.onnx"  # the same network, for ONNX Runtime and OpenVINO
# Graph and parameters, the preferred ones first. PaddleDetection's own names are "model".
PAIRS = (
    (OURS, "inference.pdiparams"),
    ("inference.json", "inference.pdiparams"),
    ("inference.pdmodel", "inference.pdiparams"),
    ("model.json", "model.pdiparams"),
    ("model.pdmodel", "model.pdiparams"),
)
PADDLEX_YML = "inference.yml"
ALL_NAMES = frozenset({name for pair in PAIRS for name in pair} | {PADDLEX_YML, PADDLEDETECTION_YML})


@dataclass(frozen=True)
class ExportedFiles:
    """The three files of an exported model."""

    graph: Path
    params: Path
    description: Path

    @property
    def is_official(self) -> bool:
        """Whether the graph has the outputs of official exports, with masks of the original size."""
        return self.graph.name != OURS


def find_files(model_dir: Path, *, official: bool = False) -> ExportedFiles:
    """The files that Paddle runs; with ``official`` those of the official graph, also if ours is there.

    Raises BackendError that names the missing files of an exported folder.
    """
    _require_folder(model_dir)
    present = {name for name in ALL_NAMES if (model_dir / name).is_file()} - ({OURS} if official else set())
    chosen = choose_files(present)
    if chosen is None:
        raise BackendError(
            f"{model_dir}: {', '.join(missing_files(present))} missing. Expected a folder written by mode "
            "export, PaddleX or PaddleDetection. Copy all its files, or export the model into another folder."
            f"{_hint(model_dir)}"
        )
    graph, params, description = chosen
    return ExportedFiles(model_dir / graph, model_dir / params, model_dir / description)


def find_description(model_dir: Path) -> Path:
    """The description of an exported model, whatever runs it. Raises BackendError when files are missing.

    A folder with ``network.onnx`` needs no files of Paddle.
    """
    description = model_dir / PADDLEX_YML
    if (model_dir / ONNX).is_file() and description.is_file():
        return description
    return find_files(model_dir).description


def _require_folder(model_dir: Path) -> None:
    if not model_dir.is_dir():
        state = "is a file" if model_dir.exists() else "does not exist"
        raise BackendError(
            f"{model_dir} {state}; expected the folder of an exported model. Export a model, or correct "
            "Predict.model_dir."
        )


def choose_files(present: Set[str]) -> tuple[str, str, str] | None:
    """Graph, parameters and description among the names of files; None if they are not complete."""
    # How the masks of our graph are pasted stands in inference.yml.
    usable = present if PADDLEX_YML in present else present - {OURS}
    pair = next((pair for pair in PAIRS if usable >= set(pair)), None)
    if pair is None:
        return None
    descriptions = [PADDLEX_YML, PADDLEDETECTION_YML]
    if pair[0].startswith("model"):
        descriptions.reverse()
    description = next((name for name in descriptions if name in present), None)
    return None if description is None else (*pair, description)


def missing_files(present: Set[str]) -> list[str]:
    """What incomplete files lack to be an exported model: names, with those that would do in brackets."""
    missing = (
        [] if present & {PADDLEX_YML, PADDLEDETECTION_YML} else [f"{PADDLEX_YML} (or {PADDLEDETECTION_YML})"]
    )
    graphs = [pair for pair in PAIRS if pair[0] in present]
    params = [pair[1] for pair in PAIRS if pair[1] in present]
    if graphs and not any(pair[1] in present for pair in graphs):
        missing.append(f"{graphs[0][1]} (the parameters of {graphs[0][0]})")
    elif not graphs:
        own = params[0] if params else "inference.pdiparams"
        first, *others = [pair[0] for pair in PAIRS if pair[1] == own]
        if not params:
            others += ["model.json", "model.pdmodel"]
        missing.append(f"{first} (or {', '.join(others)})")
        missing += [] if params else [own]
    elif not missing:  # a complete pair, but our graph without inference.yml
        missing.append(f"{PADDLEX_YML} (the description of {OURS})")
    return missing


def _hint(model_dir: Path) -> str:
    """The folder inside ``model_dir`` that was meant, as after unpacking an archive."""
    inner = sorted(
        path.parent for name in (PADDLEX_YML, PADDLEDETECTION_YML) for path in model_dir.glob(f"*/{name}")
    )
    return f" Did you mean Predict.model_dir={inner[0]}?" if inner else ""
