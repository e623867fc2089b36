import base64
import io
import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from paddlex_seg.data.samples.tasks import TrainSample
from paddlex_seg.reports.charts import Curve, line_chart
from paddlex_seg.reports.training import TrainingPage
from paddlex_seg.structures import Category
from paddlex_seg.training.metrics_log import MetricsLog
from paddlex_seg.training.schedule import PiecewiseSchedule, describe_schedule
from paddlex_seg.visualize import class_colour

NAUGHTY = "<script>alert('1')</script>&\"é花"
CATEGORIES = (Category(7, "nut"), Category(3, NAUGHTY))
SCHEDULE = describe_schedule(
    PiecewiseSchedule(0.01, 1200, (800, 1100), (0.1, 0.01), warmup_steps=100), steps_per_epoch=100
)


def sample(num_objects: int, class_id: int = 0, size_hw: tuple[int, int] = (240, 120)) -> TrainSample:
    """A black image. Its objects fill the upper left quarter."""
    height, width = size_hw
    masks = np.zeros((num_objects, height, width), np.uint8)
    masks[:, : height // 2, : width // 2] = 1
    return TrainSample(
        image=np.zeros((height, width, 3), np.uint8),
        boxes_xyxy=np.array([[0, 0, width // 2, height // 2]] * num_objects, np.float32).reshape(-1, 4),
        class_ids=np.full(num_objects, class_id, np.int64),
        masks=masks,
        polygons=(None,) * num_objects,
        image_id=17,
        im_shape=np.array(size_hw, np.float32),
        scale_factor=np.ones(2, np.float32),
        file_names=("17.jpg",),
    )


@dataclass
class Run:
    output: Path
    samples: list[TrainSample]

    def begin(self) -> TrainingPage:
        return TrainingPage(
            self.output,
            title=f"model {NAUGHTY}",
            schedule=SCHEDULE,
            samples=self.samples,
            categories=CATEGORIES,
            settings="Train:\n  seed: <7>\n",
        )

    def page(self) -> str:
        self.begin().write()
        return (self.output / "training.html").read_text(encoding="utf-8")

    def curves(self) -> Image.Image:
        return Image.open(self.output / "curves.png")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path, [sample(1), sample(0), sample(1, class_id=1, size_hw=(900, 1300))])


def log_run(output: Path, *, epochs: int) -> None:
    with MetricsLog(output) as log:
        for epoch in range(1, epochs + 1):
            for step in range(100 * epoch - 90, 100 * epoch + 1, 10):
                losses = {"loss": 500 / step, "loss_cls": float("nan") if step == 50 else 2.0}
                speed = {"data_seconds": 0.1, "step_seconds": 0.5, "images_per_second": 8.0}
                log.step(epoch=epoch, step=step, learning_rate=0.01, losses=losses, **speed)
            score = 0.1 * min(epoch, 6 - epoch)
            metrics = {"mask_ap": score, "box_ap": None if epoch == 1 else score}
            log.evaluation(epoch=epoch, step=100 * epoch, losses={"loss": 500 / (100 * epoch)}, **metrics)
        log.event("step skipped", epoch=2, step=150, reason=NAUGHTY)


def section(text: str, name: str) -> str:
    return text.partition(f'id="{name}"')[2].partition("</section>")[0]


def embedded(text: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)]


def test_page_before_training_shows_schedule_and_images_without_curves(run: Run) -> None:
    text = run.page()
    assert "Training has not started" in text and "0 of 12" in text and "Not evaluated yet" in text
    assert 'class="line' not in section(text, "curves")
    assert "0.001 from step 800 (epoch 9)" in section(text, "schedule")
    assert section(text, "schedule").count('class="mark"') == 3
    assert [image.size for image in embedded(text)] == [(240, 480), (240, 480), (480, 332)]
    assert run.curves().size[0] > 1000


def test_after_evaluations_the_page_has_their_numbers(run: Run) -> None:
    log_run(run.output, epochs=4)
    text = run.page()
    curves = section(text, "curves")
    assert "<b>4 of 12</b>" in text and "400 of 1200 steps" in text
    assert "<b>0.200</b> latest mask AP" in text and "<b>0.300</b> best mask AP (epoch 3)" in text
    assert "20\u202f% of it waiting for data" in text
    assert "<td>4</td>" in curves and "loss_cls" in curves
    assert "step skipped" in section(text, "events")
    assert "nan" not in re.sub('src="data:[^"]+"', "", text).lower()


def test_loss_curve_covers_only_the_steps_done_so_far(run: Run) -> None:
    log_run(run.output, epochs=4)
    (loss,) = re.findall(r'<path class="line s0" d="([^"]+)"', section(run.page(), "curves"))[:1]
    drawn = points(loss)
    assert len(drawn) == 40
    xs, ys = np.array(drawn).T
    assert (np.diff(xs) > 0).all() and (np.diff(ys) >= 0).all()  # y grows downwards
    assert 100 < xs.max() < 240  # a third of the run is done


def test_masks_boxes_and_names_are_drawn_where_the_objects_are(run: Run) -> None:
    with_object, without, second_class = (np.asarray(one).astype(int) for one in embedded(run.page()))
    assert without.max() < 10
    assert np.abs(with_object[150, 60] - 0.45 * np.array(class_colour(0))).max() < 12
    assert with_object[400, 200].max() < 10
    assert np.abs(second_class[100, 100] - 0.45 * np.array(class_colour(1))).max() < 12


def test_at_most_16_images_are_shown(run: Run) -> None:
    run.samples = [sample(0)] * 20
    assert len(embedded(run.page())) == 16


def test_the_page_needs_no_network_runs_no_script_and_escapes_names(run: Run) -> None:
    log_run(run.output, epochs=1)
    text = run.page()
    assert "<script" not in text and "http:" not in text and "https:" not in text and "url(" not in text
    assert text.count("&lt;script&gt;") >= 4  # title twice, class, event
    assert "seed: &lt;7&gt;" in section(text, "settings")
    for tag in ("figure", "div", "svg", "section", "p", "ul", "main", "header", "details"):
        assert len(re.findall(f"<{tag}[ >]", text)) == text.count(f"</{tag}>"), tag


def test_a_long_run_has_a_small_page(run: Run) -> None:
    with (run.output / "metrics.jsonl").open("w") as file:
        for step in range(1, 5001):
            losses = f'"loss": {step % 7}.5, "loss_a": 1.0'
            file.write(f'{{"kind": "step", "epoch": 1, "step": {step}, {losses}, "time": 1}}\n')
    text = run.page()
    assert len(section(text, "curves")) < 100_000
    assert "5000 of 1200 steps" in text  # the last step is read


def test_curves_png_shows_what_was_logged(run: Run) -> None:
    """Loss on the left, falling as 500 / step; scores on the right, highest at epoch 3 of 4."""
    log_run(run.output, epochs=4)
    run.page()
    drawn = np.asarray(run.curves())
    left, right = drawn[:, :720], drawn[:, 720:]
    loss = drawn_curve(left, (31, 119, 180))  # up to step 100, where the mean of the epoch hides it
    height, width = size_of_axes(left)
    assert loss[0] == pytest.approx(50 / 51 * height, rel=0.02)  # of step 10; the axis ends at 51
    for step in (20, 50, 80):
        column = round((step - 10) / 390 * width / 1.1)  # there is a margin of 5 % on both sides
        assert loss[column] / loss[0] == pytest.approx(10 / step, abs=0.04)
    box_ap = drawn_curve(right, (255, 127, 14))  # of epochs 2 to 4; hides the mask AP
    assert abs(box_ap.argmax() / (len(box_ap) - 1) - 0.5) < 0.03
    assert box_ap[[8, -8]] / box_ap.max() == pytest.approx(2 / 3, abs=0.03)


def drawn_curve(panel: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Heights of a curve above the lower end of its axes, in pixels, from left to right."""
    is_curve = abs(panel.astype(int) - colour).max(axis=2) < 60
    _, pieces, statistics, _ = cv2.connectedComponentsWithStats(is_curve.astype(np.uint8), connectivity=8)
    widest = 1 + statistics[1:, cv2.CC_STAT_WIDTH].argmax()  # the others are in the legend
    rows, columns = np.nonzero(pieces == widest)
    upper = [rows[columns == column].mean() for column in np.unique(columns)]
    return lower_end(panel) - np.array(upper)


def lower_end(panel: np.ndarray) -> int:
    """The row of the x axis."""
    return int(np.flatnonzero((panel < 60).all(axis=2).mean(axis=1) > 0.5).max())


def size_of_axes(panel: np.ndarray) -> tuple[int, int]:
    is_frame = (panel < 60).all(axis=2)
    rows, columns = (np.flatnonzero(is_frame.mean(axis=axis) > 0.5) for axis in (1, 0))
    return int(np.ptp(rows)), int(np.ptp(columns))


def test_updates_take_a_small_share_of_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("paddlex_seg.reports.training.time.perf_counter", lambda: now[0])

    def drawn(*args: object) -> bytes:
        now[0] += 0.5  # seconds that writing the page takes
        return b"drawn"

    monkeypatch.setattr("paddlex_seg.reports.training._curves_png", drawn)
    page, file = run.begin(), run.output / "training.html"
    page.update()
    file.unlink()  # its content is the same each time
    now[0] += 20
    page.update()
    assert not file.exists()
    now[0] += 5
    page.update()
    assert file.exists()


def test_a_single_high_value_does_not_flatten_the_rest() -> None:
    y = np.array([1.0] * 99 + [1000.0])
    chart = line_chart("loss", [Curve("a", np.arange(100.0), y)], x_range=(0, 99), x_label="step")
    heights = {round(y) for _, y in points(re.findall(r'class="line s0" d="([^"]+)"', chart.svg)[0])}
    assert heights == {30, 110}  # the upper edge, and the middle
