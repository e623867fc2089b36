"""The report of a training run as one HTML file: curves, schedule, training images, events, settings.

The page works offline, has no scripts and follows the light or dark theme of the system. It is written before
the first step, so that a wrong schedule or augmentation is seen before training time is spent. It is written
again after each evaluation. ``curves.png`` shows the loss and the AP as an image.
"""

import io
import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paddlex_seg.data.samples.tasks import TrainSample
from paddlex_seg.files.atomic import write_bytes
from paddlex_seg.masks.rle import mask_to_rle
from paddlex_seg.reports.charts import Chart, Curve, Mark, draw_curves, line_chart
from paddlex_seg.reports.images import Embedded, embed_jpeg
from paddlex_seg.reports.metrics_file import METRICS_FILE, Record, losses_of, read_metrics
from paddlex_seg.reports.page import render_page
from paddlex_seg.reports.text import NOTHING, describe_objects, number, percent, shorten, size
from paddlex_seg.structures import Category, Id, Instances, ScheduleReport
from paddlex_seg.visualize import draw_instances

PAGE_FILE = "training.html"
CURVES_FILE = "curves.png"

_SHARE_OF_RUN = 0.02  # that updates of the page may take
_MAX_SAMPLES, _MAX_DRAWN_OBJECTS = 16, 100
_SAMPLE_SIDE, _SAMPLE_BYTES = 480, 110_000  # longer side of an embedded image, and its size as JPEG
_MAX_POINTS = 1000  # per curve; a chart is about 400 pixels wide
_MAX_PARTS, _MAX_EVALUATIONS, _MAX_EVENTS = 24, 200, 100  # how many loss terms, rows of tables are shown
_SCORES = {"mask_ap": "mask AP", "box_ap": "box AP", "mask_ap50": "mask AP50"}


class TrainingPage:
    """Writes ``training.html`` and ``curves.png`` into ``output``, from the ``metrics.jsonl`` in that folder.

    samples: training images, augmented and not yet normalised; the first 16 are shown. categories: in the
    order of the class indices. settings: the effective configuration, as text.
    """

    def __init__(
        self,
        output: Path,
        *,
        title: str,
        schedule: ScheduleReport,
        samples: Sequence[TrainSample],
        categories: Sequence[Category],
        settings: str,
    ) -> None:
        self._output, self._title, self.schedule, self._settings = output, title, schedule, settings
        self._samples = [_show_sample(sample, categories) for sample in samples[:_MAX_SAMPLES]]
        self._written_at, self._write_seconds = -math.inf, 0.0  # of the last `write`

    def update(self) -> None:
        """`write`, unless the last one was so recent that the page would take more than 2 % of the run."""
        if time.perf_counter() - self._written_at >= self._write_seconds / _SHARE_OF_RUN:
            self.write()

    def write(self) -> None:
        """Write both files again. Each file is replaced atomically."""
        start = time.perf_counter()
        records = read_metrics(self._output / METRICS_FILE, max_steps=_MAX_POINTS)
        steps = [record for record in records if record["kind"] == "step"]
        evaluations = [record for record in records if record["kind"] == "evaluation"]
        events = [record for record in records if record["kind"] == "event"]
        logged = [*steps[-1:], *evaluations[-1:]]
        page = render_page(
            "training.html.jinja",
            styles=["page.css", "training.css"],
            title=self._title,
            tiles=_tiles(self.schedule, steps, evaluations),
            done=max((record["step"] for record in logged), default=0),
            schedule=self.schedule,
            written=datetime.now().strftime("%Y-%m-%d %H:%M:%S"),
            curves=_curve_charts(self.schedule, steps, evaluations),
            loss_parts=_loss_part_charts(self.schedule, steps, evaluations),
            max_points=_MAX_POINTS,
            metrics_file=METRICS_FILE,
            score_names=list(_SCORES.values()),
            evaluations=_evaluation_rows(evaluations[-_MAX_EVALUATIONS:]),
            rates=_schedule_chart(self.schedule, steps),
            samples=self._samples,
            events=_event_rows(events[-_MAX_EVENTS:]),
            unshown_events=max(0, len(events) - _MAX_EVENTS),
            settings=self._settings,
        )
        write_bytes(self._output / PAGE_FILE, page)
        write_bytes(self._output / CURVES_FILE, _curves_png(steps, evaluations))
        self._written_at = time.perf_counter()
        self._write_seconds = self._written_at - start


# ---- Tiles and tables


def _tiles(
    schedule: ScheduleReport, steps: Sequence[Record], evaluations: Sequence[Record]
) -> list[tuple[str, str]]:
    """The most important numbers, each with its label."""
    epoch = max((record["epoch"] for record in (*steps[-1:], *evaluations[-1:])), default=0)
    scored = [record for record in evaluations if record.get("mask_ap") is not None]
    tiles = [(f"{epoch} of {schedule.epochs}", "epochs")]
    if scored:
        best = max(scored, key=lambda record: (record["mask_ap"], record["epoch"]))
        tiles.append((f"{scored[-1]['mask_ap']:.3f}", "latest mask AP"))
        tiles.append((f"{best['mask_ap']:.3f}", f"best mask AP (epoch {best['epoch']})"))
    return tiles + (_step_tiles(steps[-1]) if steps else [])


def _step_tiles(last: Record) -> list[tuple[str, str]]:
    tiles = []
    if isinstance(last.get("loss"), float):
        tiles.append((f"{last['loss']:.3f}", "loss"))
    if last.get("step_seconds"):
        waiting = (last.get("data_seconds") or 0.0) / last["step_seconds"]
        tiles.append(
            (f"{last['step_seconds']:.2f} s", f"per step, {percent(waiting)} of it waiting for data")
        )
    return tiles


def _evaluation_rows(evaluations: Sequence[Record]) -> list[list[str]]:
    """Rows of epoch, step, scores and loss; the newest evaluation first."""
    return [
        [
            number(record["epoch"]),
            number(record["step"]),
            *(_cell(record.get(name)) for name in (*_SCORES, "loss")),
        ]
        for record in reversed(evaluations)
    ]


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else NOTHING


def _event_rows(events: Sequence[Record]) -> list[list[str]]:
    """Rows of epoch, step, event and details; the newest event first."""
    usual = {"kind", "epoch", "step", "event", "time"}
    details = [
        ", ".join(f"{name}: {value}" for name, value in event.items() if name not in usual)
        for event in events
    ]
    rows = [
        [
            number(event["epoch"]),
            number(event["step"]),
            shorten(str(event.get("event", ""))),
            shorten(text, 300),
        ]
        for event, text in zip(events, details, strict=True)
    ]
    return rows[::-1]


# ---- Curves


def _curve(records: Sequence[Record], name: str, *, x: str, label: str) -> Curve:
    """The values of the field ``name`` over the field ``x``. Records without a value are skipped."""
    points = [(record[x], record[name]) for record in records if isinstance(record.get(name), int | float)]
    places, values = np.array(points, np.float64).reshape(-1, 2).T
    return Curve(label, places, values)


def _loss_curves(steps: Sequence[Record], evaluations: Sequence[Record], name: str) -> list[Curve]:
    return [
        _curve(steps, name, x="step", label="logged steps"),
        _curve(evaluations, name, x="step", label="mean of epoch"),
    ]


def _score_curves(evaluations: Sequence[Record]) -> list[Curve]:
    present = [name for name in _SCORES if any(record.get(name) is not None for record in evaluations)]
    return [_curve(evaluations, name, x="epoch", label=_SCORES[name]) for name in present]


def _curve_charts(
    schedule: ScheduleReport, steps: Sequence[Record], evaluations: Sequence[Record]
) -> list[Chart]:
    run, epochs = (0.0, float(schedule.total_steps)), (0.0, float(schedule.epochs))
    losses, scores = _loss_curves(steps, evaluations, "loss"), _score_curves(evaluations)
    return [
        line_chart("Loss", losses, x_range=run, x_label="step", whole_x=True),
        line_chart("AP on the val images", scores, x_range=epochs, x_label="epoch", whole_x=True),
    ]


def _loss_part_charts(
    schedule: ScheduleReport, steps: Sequence[Record], evaluations: Sequence[Record]
) -> list[Chart]:
    names = dict.fromkeys(name for record in (*steps[:1], *steps[-1:]) for name in losses_of(record))
    return [
        line_chart(
            name,
            _loss_curves(steps, evaluations, name),
            x_range=(0.0, float(schedule.total_steps)),
            x_label="step",
            whole_x=True,
            with_legend=False,
        )
        for name in [name for name in names if name != "loss"][:_MAX_PARTS]
    ]


def _schedule_chart(schedule: ScheduleReport, steps: Sequence[Record]) -> Chart:
    places, rates = np.array(schedule.learning_rates, np.float64).T
    marks = [Mark(schedule.warmup_steps, "end of warm-up")] if schedule.warmup_steps else []
    marks += [Mark(change.step, f"epoch {change.epoch}") for change in schedule.milestones]
    curves = [
        Curve("schedule", places, rates),
        _curve(steps, "learning_rate", x="step", label="logged steps"),
    ]
    return line_chart(
        "Learning rate",
        curves if steps else curves[:1],
        x_range=(0.0, float(schedule.total_steps)),
        x_label="step",
        y_range=(0.0, 1.1 * float(rates.max())),
        whole_x=True,
        marks=marks,
    )


def _curves_png(steps: Sequence[Record], evaluations: Sequence[Record]) -> bytes:
    losses = [curve for curve in _loss_curves(steps, evaluations, "loss") if len(curve.x)]
    buffer = io.BytesIO()
    Image.fromarray(draw_curves(losses, _score_curves(evaluations))).save(buffer, "PNG")
    return buffer.getvalue()


# ---- Images


@dataclass(frozen=True)
class _Shown:
    """A training image as the page shows it."""

    image: Embedded
    content: str  # number of objects per class
    image_id: Id
    size: str


def _show_sample(sample: TrainSample, categories: Sequence[Category]) -> _Shown:
    height, width = sample.image.shape[:2]
    return _Shown(
        embed_jpeg(Image.fromarray(_draw(sample, categories)), _SAMPLE_BYTES),
        describe_objects(Counter(categories[index].name for index in sample.class_ids.tolist())),
        sample.image_id,
        size(width, height),
    )


def _draw(sample: TrainSample, categories: Sequence[Category]) -> NDArray[np.uint8]:
    """The image with its largest objects. It is resized first, so that class names stay readable."""
    height, width = sample.image.shape[:2]
    scale = min(_SAMPLE_SIDE / max(height, width), 4.0)
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    areas = sample.masks.sum(axis=(1, 2), dtype=np.int64)
    largest = np.argsort(-areas, kind="stable")[:_MAX_DRAWN_OBJECTS]
    masks = [
        cv2.resize(sample.masks[i].astype(np.float32), size_wh, interpolation=cv2.INTER_AREA) >= 0.5
        for i in largest
    ]
    scale_xyxy = np.array([size_wh[0] / width, size_wh[1] / height] * 2, np.float32)
    instances = Instances(
        size_hw=size_wh[::-1],
        class_ids=sample.class_ids[largest],
        scores=np.ones(len(largest), np.float32),
        boxes_xyxy=sample.boxes_xyxy[largest] * scale_xyxy,
        masks=tuple(mask_to_rle(mask) for mask in masks),
    )
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image = cv2.resize(sample.image, size_wh, interpolation=method)
    labels = [shorten(category.name, 26) for category in categories]
    return draw_instances(image, instances, labels, show_scores=False)
