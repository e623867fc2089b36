"""Where the output folder of a training has what."""

from pathlib import Path

from paddlex_seg.errors import WeightsError

CHECKPOINTS = "checkpoints"
BEST = "best_model"
DEFAULT_OUTPUT = Path("output")  # of Global.output


def best_of_run(output: Path, name: str, *, key: str) -> Path:
    """The file or folder ``name`` of the best model of the run in ``output``.

    If ``output`` holds no run, it is that of the run in ``output/``, as in PaddleX. Raises WeightsError when
    ``output`` holds a run without a best model: that of another run must not be used instead.
    """
    own = output / BEST / name
    if own.exists() or not (output / CHECKPOINTS).is_dir():
        return own if own.exists() else DEFAULT_OUTPUT / BEST / name
    raise WeightsError(
        f"{key}: {output} holds a run without {own.relative_to(output)}. Training writes it after its first "
        f"evaluation. Set {key} to the model that you mean."
    )
