"""The metrics of a training run: ``metrics.jsonl``, and logs for TensorBoard and VisualDL.

``metrics.jsonl`` has one JSON object per line, with ``kind`` (step, evaluation or event), ``epoch``,
``step`` and ``time`` (seconds since 1970). Fields whose names begin with ``loss`` are losses, ``loss`` is the
total. Two equal runs differ only in `VARYING_FIELDS`. TensorBoard and VisualDL logs are optional and hold the
same numbers. When a run is resumed, they are rewritten from ``metrics.jsonl`` with at most 1000 of its steps.
"""

import json
import logging
import math
import shutil
import socket
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Protocol, Self

import numpy as np

from paddlex_seg.errors import ConfigError
from paddlex_seg.files.atomic import write_bytes
from paddlex_seg.reports.metrics_file import METRICS_FILE, Record, read_metrics

LOGGER = logging.getLogger(__name__)
TENSORBOARD_FOLDER = "tensorboard"
VISUALDL_FILES = "vdlrecords.*.log"  # VisualDL's names; directly in the output folder, as in PaddleX

VARYING_FIELDS = ("time", "data_seconds", "step_seconds", "images_per_second")

_STEPS_SHOWN_AGAIN = 1000  # when a run is resumed; VisualDL takes a millisecond for each number
_NOT_SHOWN = {"kind", "epoch", "step", "time"}


class MetricsLog:
    """Writes the metrics of a run into the folder ``output``; each line is written out when its call returns.

    ``resume_step`` is the step after which the run continues. Lines of later steps are dropped, and so is an
    incomplete last line of a killed run. None starts a new run and replaces an earlier file. Raises
    ConfigError when the package of a viewer is missing.
    """

    def __init__(
        self,
        output: Path,
        *,
        resume_step: int | None = None,
        tensorboard: bool = False,
        visualdl: bool = False,
    ) -> None:
        require_viewers(tensorboard=tensorboard, visualdl=visualdl)
        self._path = path = output / METRICS_FILE
        self._warned = False
        kept = (
            [] if resume_step is None else [one for one in read_metrics(path) if one["step"] <= resume_step]
        )
        write_bytes(path, "".join(map(_line, kept)).encode())
        if resume_step is None or tensorboard:
            shutil.rmtree(output / TENSORBOARD_FOLDER, ignore_errors=True)
        if resume_step is None or visualdl:
            for old in output.glob(VISUALDL_FILES):
                old.unlink()
        self._viewers: list[_Viewer] = []
        if tensorboard:
            self._viewers.append(_TensorBoard(output / TENSORBOARD_FOLDER))
        if visualdl:
            self._viewers.append(_VisualDL(output))
        for record in read_metrics(path, max_steps=_STEPS_SHOWN_AGAIN) if self._viewers else []:
            self._show(record)
        self._file = path.open("a", encoding="utf-8")

    def step(
        self,
        *,
        epoch: int,
        step: int,
        learning_rate: float,
        losses: Mapping[str, float],
        data_seconds: float,
        step_seconds: float,
        images_per_second: float,
        **more: Any,
    ) -> None:
        """Record a finished training step. ``step`` and ``epoch`` count from 1 over the whole run.

        data_seconds: the part of ``step_seconds`` spent waiting for images. more: further numbers, such as
        the gradient norm.
        """
        self._write(
            "step",
            epoch=epoch,
            step=step,
            learning_rate=learning_rate,
            **losses,
            data_seconds=data_seconds,
            step_seconds=step_seconds,
            images_per_second=images_per_second,
            **more,
        )

    def evaluation(self, *, epoch: int, step: int, losses: Mapping[str, float], **metrics: Any) -> None:
        """Record an evaluation after epoch ``epoch`` and step ``step``.

        losses: means over the epoch. metrics: 0..1, or None when undefined.
        """
        self._write("evaluation", epoch=epoch, step=step, **losses, **metrics)

    def event(self, name: str, *, epoch: int, step: int, **details: Any) -> None:
        """Record an unusual event, such as a skipped step. name: a few words; details: JSON values."""
        self._write("event", epoch=epoch, step=step, event=name, **details)

    def close(self) -> None:
        """Close the files."""
        for close in (self._file.close, *(viewer.close for viewer in self._viewers)):
            try:
                close()
            except OSError as error:
                self._warn(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, kind: str, **values: Any) -> None:
        record = {"kind": kind, **_plain(values), "time": round(time.time(), 3)}
        try:
            self._file.write(_line(record))
            self._file.flush()
            self._show(record)
        except OSError as error:
            self._warn(error)

    def _warn(self, error: OSError) -> None:
        """Say once that a disk refuses the metrics, which a training can do without."""
        if not self._warned:
            LOGGER.warning("%s: metrics cannot be written: %s. Training continues.", self._path, error)
        self._warned = True

    def _show(self, record: Record) -> None:
        scalars = {
            name: float(value)
            for name, value in record.items()
            if name not in _NOT_SHOWN and isinstance(value, int | float) and not isinstance(value, bool)
        }
        for viewer in self._viewers:
            viewer.add(record, scalars)


def bring_metrics(source: Path, output: Path) -> bool:
    """Copy the metrics of the run in ``source`` to ``output`` when the run continues in another folder.

    Return whether there are any.
    """
    file, target = source / METRICS_FILE, output / METRICS_FILE
    if not file.is_file():
        return False
    if file.resolve() != target.resolve():
        write_bytes(target, file.read_bytes())
    return True


def require_viewers(*, tensorboard: bool, visualdl: bool) -> None:
    """Raise ConfigError when the package of a viewer that is switched on is missing or cannot be loaded."""
    for extra, wanted in (("tensorboard", tensorboard), ("visualdl", visualdl)):
        if wanted:
            _viewer_package(extra)


def visualdl_file(output: Path) -> str:
    """The name of VisualDL's file in the output folder; empty when there is none."""
    return next((path.name for path in sorted(output.glob(VISUALDL_FILES))), "")


def _line(record: Record) -> str:
    return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """The value for JSON: NumPy numbers become Python numbers, numbers that are not finite become null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ---- Viewers


class _Viewer(Protocol):
    """Takes the numbers of a record."""

    def add(self, record: Record, scalars: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class _TensorBoard:
    """Tags are ``train/<name>``, ``val/<name>``, and ``train_epoch/<name>`` for means over an epoch.

    Each record is one event and is written at once. The package's own writers pass each scalar to a thread,
    which takes ten times as long.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._event = _viewer_package("tensorboard", "compat.proto.event_pb2").Event
        self._summary = _viewer_package("tensorboard", "compat.proto.summary_pb2").Summary
        writer = _viewer_package("tensorboard", "summary.writer.record_writer").RecordWriter
        file = folder / f"events.out.tfevents.{round(time.time())}.{socket.gethostname()}"
        self._writer = writer(file.open("wb"))
        self._write(self._event(wall_time=time.time(), file_version="brain.Event:2"))

    def add(self, record: Record, scalars: Mapping[str, float]) -> None:
        values = [
            self._summary.Value(tag=f"{_group(record, name)}/{name}", simple_value=value)
            for name, value in scalars.items()
        ]
        summary = self._summary(value=values)
        self._write(self._event(wall_time=record["time"], step=record["step"], summary=summary))

    def close(self) -> None:
        self._writer.close()

    def _write(self, event: Any) -> None:
        self._writer.write(event.SerializeToString())
        self._writer.flush()


class _VisualDL:
    """Step losses and the two APs have PaddleX's tags; other numbers have the same tags as in TensorBoard."""

    def __init__(self, output: Path) -> None:
        # VisualDL writes in a thread. A killed run may lose the last flush_secs seconds.
        self._writer = _viewer_package("visualdl").LogWriter(logdir=str(output), flush_secs=10)

    def add(self, record: Record, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            group = _group(record, name)
            tag = name if group == "train" and name.startswith("loss") else f"{group}/{name}"
            tag = {"val/mask_ap": "mask-mAP", "val/box_ap": "bbox-mAP"}.get(tag, tag)
            self._writer.add_scalar(tag, value, record["step"], walltime=round(1000 * record["time"]))

    def close(self) -> None:
        self._writer.close()


def _group(record: Record, name: str) -> str:
    if record["kind"] == "evaluation":
        return "train_epoch" if name.startswith("loss") else "val"
    return "train" if record["kind"] == "step" else "event"


def _viewer_package(extra: str, module: str = "") -> ModuleType:
    """A module of a viewer's package. The package, its pip extra and its configuration key share one name."""
    try:
        return import_module(f"{extra}.{module}" if module else extra)
    except ImportError as error:
        raise ConfigError(
            f"Train.{extra} is on, but its package cannot be loaded ({error}). Install it with "
            f"pip install 'paddlex_seg[{extra}]', or set -o Train.{extra}=False."
        ) from error
