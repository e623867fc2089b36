"""paddlex_seg: instance segmentation from annotated images to a served model, on PaddlePaddle 3."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paddlex_seg.pipelines.create import create_model, create_pipeline

__all__ = ["__version__", "create_model", "create_pipeline"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """The functions of Python users. Only their first use loads what they need."""
    if name in ("create_model", "create_pipeline"):
        from paddlex_seg.pipelines import create

        return getattr(create, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
