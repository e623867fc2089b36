"""paddlex_seg: instance segmentation from annotated images to a served model, on PaddlePaddle 3."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paddlex_seg.inference.results import save_to_coco
    from paddlex_seg.pipelines.create import create_model, create_pipeline

__all__ = ["__version__", "create_model", "create_pipeline", "save_to_coco"]
__version__ = "0.1.0"
# The functions of Python users. Only their first use loads what they need.
_PLACES = {
    "create_model": "paddlex_seg.pipelines.create",
    "create_pipeline": "paddlex_seg.pipelines.create",
    "save_to_coco": "paddlex_seg.inference.results",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
