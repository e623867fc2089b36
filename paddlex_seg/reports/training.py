"""A training run as one HTML file: curves, schedule, pictures as the network gets them, settings.

The page works offline, has no scripts and follows the light or dark of the system. It is written before the
first step, which is when a wrong schedule or a wrong augmentation costs least, and again after each
evaluation; ``curves.png`` has the two most wanted curves as a picture.
"""

import html
import io
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paddlex_seg.data.samples.tasks import TrainSample
from paddlex_seg.files.publish import replace_file
from paddlex_seg.masks.rle import mask_to_rle
from paddlex_seg.reports import markup
from paddlex_seg.reports.curves import Mark, line_chart
from paddlex_seg.reports.images import encode_jpeg
from paddlex_seg.reports.metrics_file import METRICS_FILE, Record, losses_of, read_metrics
from paddlex_seg.structures import Category, Instances, ScheduleReport
from paddlex_seg.visualize import Curve, draw_curves, draw_instances

PAGE_FILE = "training.html"
CURVES_FILE = "curves.png"

_MAX_SAMPLES, _MAX_DRAWN_OBJECTS = 16, 100
_SAMPLE_SIDE, _SAMPLE_BYTES = 480, 110_000  # longer side of an embedded picture, and its size as JPEG
_MAX_POINTS = 1000  # of a curve, which is some 400 pixels wide
_MAX_PARTS, _MAX_EVALUATIONS, _MAX_EVENTS = 24, 200, 100  # shown
_SCORES = {"mask_ap": "mask AP", "box_ap": "box AP", "mask_ap50": "mask AP50"}


class TrainingPage:
    """Writes ``training.html`` and ``curves.png`` into ``output``, with what ``metrics.jsonl`` there says.

    samples: pictures of the run, augmented and not yet normalised; the first 16 are shown. categories: in the
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
        self._pictures = [_figure(sample, categories) for sample in samples[:_MAX_SAMPLES]]

    def write(self) -> None:
        """Write both files anew; each appears complete or not at all."""
        records = read_metrics(self._output / METRICS_FILE, max_steps=_MAX_POINTS)
        steps = [record for record in records if record["kind"] == "step"]
        evaluations = [record for record in records if record["kind"] == "evaluation"]
        events = [record for record in records if record["kind"] == "event"]
        sections = [
            _headline(self._title, self.schedule, steps, evaluations),
            _curves_section(self.schedule, steps, evaluations),
            _schedule_section(self.schedule, steps),
            _pictures_section(self._pictures),
            _events_section(events),
            _settings_section(self._settings),
            "</main>",
        ]
        page = markup.PAGE.format(
            title=f"{markup.text(self._title)}: training",
            style=markup.STYLE + _STYLE,
            body="\n".join(sections),
        )
        replace_file(self._output / PAGE_FILE, page.encode("utf-8", "replace"))
        replace_file(self._output / CURVES_FILE, _curves_png(steps, evaluations))


# ---- Curves


def _curve(records: Sequence[Record], name: str, *, x: str, label: str) -> Curve:
    """The values of a field over ``x``, without those that are missing."""
    points = [(record[x], record[name]) for record in records if isinstance(record.get(name), int | float)]
    places, values = np.array(points, np.float64).reshape(-1, 2).T
    return Curve(label, places, values)


def _loss_curves(steps: Sequence[Record], evaluations: Sequence[Record], name: str) -> list[Curve]:
    return [
        _curve(steps, name, x="step", label="logged steps"),
        _curve(evaluations, name, x="step", label="mean of the epoch"),
    ]


def _score_curves(evaluations: Sequence[Record]) -> list[Curve]:
    present = [name for name in _SCORES if any(record.get(name) is not None for record in evaluations)]
    return [_curve(evaluations, name, x="epoch", label=_SCORES[name]) for name in present]


def _curves_png(steps: Sequence[Record], evaluations: Sequence[Record]) -> bytes:
    losses = [curve for curve in _loss_curves(steps, evaluations, "loss") if len(curve.x)]
    buffer = io.BytesIO()
    Image.fromarray(draw_curves(losses, _score_curves(evaluations))).save(buffer, "PNG")
    return buffer.getvalue()


# ---- Pictures


def _figure(sample: TrainSample, categories: Sequence[Category]) -> str:
    jpeg = encode_jpeg(Image.fromarray(_draw(sample, categories)), _SAMPLE_BYTES)
    height, width = sample.image.shape[:2]
    counts = Counter(categories[index].name for index in sample.class_ids.tolist())
    content = ", ".join(
        f"{markup.number(count)} {markup.text(name, 40)}" for name, count in counts.most_common(6)
    )
    if len(counts) > 6:
        content += f" and {len(counts) - 6} more {markup.noun('class', len(counts) - 6)}"
    source = markup.data_url(jpeg, "image/jpeg")
    return (
        f'<figure><img src="{source}" alt="{content or "no objects"}"><figcaption>{content or "no objects"}'
        f'<br><span class="muted">image id {sample.image_id}, {markup.size(width, height)}</span>'
        f"</figcaption></figure>"
    )


def _draw(sample: TrainSample, categories: Sequence[Category]) -> NDArray[np.uint8]:
    """The picture at the size of the page, where names are readable, with its largest objects."""
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
    labels = [markup.shorten(category.name, 26) for category in categories]
    return draw_instances(image, instances, labels, show_scores=False)


# ---- Sections of the page


def _headline(
    title: str, schedule: ScheduleReport, steps: Sequence[Record], evaluations: Sequence[Record]
) -> str:
    done = max((record["step"] for record in (*steps[-1:], *evaluations[-1:])), default=0)
    epoch = max((record["epoch"] for record in (*steps[-1:], *evaluations[-1:])), default=0)
    scored = [record for record in evaluations if record.get("mask_ap") is not None]
    tiles = [(f"{epoch} of {schedule.epochs}", "epochs")]
    if scored:
        best = max(scored, key=lambda record: (record["mask_ap"], record["epoch"]))
        tiles.append((f"{scored[-1]['mask_ap']:.3f}", "mask AP now"))
        tiles.append((f"{best['mask_ap']:.3f}", f"best mask AP, of epoch {best['epoch']}"))
    if steps:
        tiles += _step_tiles(steps)
    state = f"{done} of {schedule.total_steps} steps" if done else "Training has not begun"
    items = "".join(f'<li class="tile"><b>{number}</b> {text}</li>' for number, text in tiles)
    written = datetime.now().strftime("%Y-%m-%d %H:%M:%S")
    return (
        f'<header><p class="muted">Training</p><h1>{markup.text(title)}</h1>\n'
        f'<ul class="tiles">{items}</ul><p class="muted">{state}. Written {written}.</p>\n'
        f"{markup.navigation('curves', 'schedule', 'pictures', 'events', 'settings')}</header><main>"
    )


def _step_tiles(steps: Sequence[Record]) -> list[tuple[str, str]]:
    last = steps[-1]
    tiles = []
    if isinstance(last.get("loss"), float):
        tiles.append((f"{last['loss']:.3f}", "loss"))
    if last.get("step_seconds"):
        waiting = (last.get("data_seconds") or 0.0) / last["step_seconds"]
        tiles.append(
            (f"{last['step_seconds']:.2f} s", f"a step, {markup.percent(waiting)} of it for pictures")
        )
    return tiles


def _curves_section(schedule: ScheduleReport, steps: Sequence[Record], evaluations: Sequence[Record]) -> str:
    run = (0.0, float(schedule.total_steps))
    names = list(dict.fromkeys(name for record in (*steps[:1], *steps[-1:]) for name in losses_of(record)))
    parts = [name for name in names if name != "loss"][:_MAX_PARTS]
    scores = _score_curves(evaluations)
    charts = [
        line_chart("Loss", _loss_curves(steps, evaluations, "loss"), x_range=run, x_unit="step"),
        line_chart("AP on the val pictures", scores, x_range=(0.0, float(schedule.epochs)), x_unit="epoch"),
    ]
    small = [
        line_chart(
            name, _loss_curves(steps, evaluations, name), x_range=run, x_unit="step", with_legend=False
        )
        for name in parts
    ]
    note = markup.nothing(
        f"At most {_MAX_POINTS} of the logged steps are drawn; {METRICS_FILE} has them all."
    )
    return markup.section(
        "curves",
        "Curves",
        f'<div class="charts">{"".join(charts)}</div>{note}',
        f'<h3>Parts of the loss</h3><div class="charts">{"".join(small)}</div>' if small else "",
        _evaluations_table(evaluations),
    )


def _evaluations_table(evaluations: Sequence[Record]) -> str:
    if not evaluations:
        return markup.nothing("Not evaluated yet.")
    shown = evaluations[-_MAX_EVALUATIONS:]
    head = ("Epoch", "Step", *_SCORES.values(), "Loss")
    rows = [
        [
            markup.number(record["epoch"]),
            markup.number(record["step"]),
            *(_cell(record.get(name)) for name in (*_SCORES, "loss")),
        ]
        for record in reversed(shown)
    ]
    title = f"{len(shown)} {markup.noun('evaluation', len(shown))}, the last first"
    return f"<details><summary>{title}</summary>{markup.table(head, rows)}</details>"


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else markup.decimal(None)


def _schedule_section(schedule: ScheduleReport, steps: Sequence[Record]) -> str:
    places, rates = np.array(schedule.learning_rates, np.float64).T
    marks = [Mark(schedule.warmup_steps, "end of warm-up")] if schedule.warmup_steps else []
    marks += [Mark(change.step, f"epoch {change.epoch}") for change in schedule.milestones]
    curves = [
        Curve("schedule", places, rates),
        _curve(steps, "learning_rate", x="step", label="so far"),
    ]
    chart = line_chart(
        "Learning rate",
        curves if steps else curves[:1],
        x_range=(0.0, float(schedule.total_steps)),
        x_unit="step",
        marks=marks,
        y_top=1.1 * float(rates.max()),
    )
    words = "".join(f"<p>{markup.text(line, 1000)}</p>" for line in schedule.lines())
    return markup.section("schedule", "Schedule", f'<div class="charts"><div>{words}</div>{chart}</div>')


def _pictures_section(pictures: Sequence[str]) -> str:
    if not pictures:
        return markup.section("pictures", "Pictures", markup.nothing("No pictures."))
    note = (
        '<p class="muted">Training pictures after all augmentation, as the network gets them, with the '
        "masks, boxes and classes that it learns from. A mask beside its object, or an object that cannot be "
        "recognised any more, is a reason to stop.</p>"
    )
    return markup.section(
        "pictures", "Pictures", note, f'<div class="samples grid4">{"".join(pictures)}</div>'
    )


def _events_section(events: Sequence[Record]) -> str:
    if not events:
        return markup.section("events", "Events", markup.nothing("None so far."))
    rows = [
        [
            markup.number(event["epoch"]),
            markup.number(event["step"]),
            markup.text(str(event.get("event", ""))),
            markup.text(_details(event), 300),
        ]
        for event in reversed(events[-_MAX_EVENTS:])
    ]
    table = markup.table(("Epoch", "Step", "Event", "Details"), rows, numbers=(0, 1))
    unshown = len(events) - len(rows)
    rest = markup.nothing(f"{markup.number(unshown)} earlier ones are in {METRICS_FILE}.") if unshown else ""
    return markup.section("events", "Events", table, rest)


def _details(event: Record) -> str:
    usual = {"kind", "epoch", "step", "event", "time"}
    return ", ".join(f"{name}: {value}" for name, value in event.items() if name not in usual)


def _settings_section(settings: str) -> str:
    text = html.escape(settings)
    folded = f"<details><summary>The effective configuration</summary><pre>{text}</pre></details>"
    return markup.section("settings", "Settings", folded)


_STYLE = """
path.line { fill: none; stroke-width: 1.6; stroke-linejoin: round; }
.line.s0 { stroke: var(--s0); } .line.s1 { stroke: var(--s1); } .line.s2 { stroke: var(--s2); }
.line.s3 { stroke: var(--s3); }
.samples.grid4 { grid-template-columns: repeat(auto-fill, minmax(min(240px, 100%), 1fr)); }
.legend { margin: 0; }
pre { font: 13px/1.45 ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace; overflow: auto;
  background: var(--card); padding: 12px; border-radius: 6px; }
"""
