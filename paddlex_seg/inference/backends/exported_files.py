"""Which files of a folder are an exported model: those of this toolkit, of PaddleX or of PaddleDetection."""

from dataclasses import dataclass
from pathlib import Path

from paddlex_seg.errors import BackendError
from paddlex_seg.inference.export_spec import PADDLEDETECTION_YML

OURS = "network.json"
# Graph and parameters, the preferred ones first. PaddleDetection's own names are "model".
PAIRS = (
    (OURS, "inference.pdiparams"),
    ("inference.json", "inference.pdiparams"),
    ("inference.pdmodel", "inference.pdiparams"),
    ("model.json", "model.pdiparams"),
    ("model.pdmodel", "model.pdiparams"),
)
PADDLEX_YML = "inference.yml"


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


def find_files(model_dir: Path) -> ExportedFiles:
    """The files to run. Raises BackendError that names the missing files of an exported folder."""
    if not model_dir.is_dir():
        state = "is a file" if model_dir.exists() else "does not exist"
        raise BackendError(
            f"{model_dir} {state}; expected the folder of an exported model. Export a model, or correct "
            "Predict.model_dir."
        )
    present = {name for name in _all_names() if (model_dir / name).is_file()}
    # How the masks of our graph are pasted stands in inference.yml.
    usable = present if PADDLEX_YML in present else present - {OURS}
    pair = next((pair for pair in PAIRS if usable.issuperset(pair)), None)
    description = _description(present, pair)
    if pair is None or description is None:
        raise BackendError(
            f"{model_dir}: {', '.join(_missing(present))} missing. Expected a folder written by mode export, "
            f"PaddleX or PaddleDetection. Copy all its files, or export the model into another folder."
            f"{_hint(model_dir)}"
        )
    graph, params = pair
    return ExportedFiles(model_dir / graph, model_dir / params, model_dir / description)


def _all_names() -> set[str]:
    return {name for pair in PAIRS for name in pair} | {PADDLEX_YML, PADDLEDETECTION_YML}


def _description(present: set[str], pair: tuple[str, str] | None) -> str | None:
    """The description that belongs to the graph; the other one if there is no other."""
    names = [PADDLEX_YML, PADDLEDETECTION_YML]
    if pair is not None and pair[0].startswith("model"):
        names.reverse()
    return next((name for name in names if name in present), None)


def _missing(present: set[str]) -> list[str]:
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
