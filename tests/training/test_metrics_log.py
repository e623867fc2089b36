import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddlex_seg.errors import ConfigError
from paddlex_seg.reports.metrics_file import losses_of, read_metrics
from paddlex_seg.training import metrics_log
from paddlex_seg.training.metrics_log import MetricsLog, bring_metrics

SPEED = {"data_seconds": 0.1, "step_seconds": 0.5, "images_per_second": 8.0}


def log_step(log: MetricsLog, step: int, **losses: float) -> None:
    log.step(
        epoch=(step + 1) // 2, step=step, learning_rate=0.1 / step, losses={"loss": 3.0, **losses}, **SPEED
    )


def log_epoch(log: MetricsLog, epoch: int) -> None:
    """Two steps and an evaluation."""
    for step in (2 * epoch - 1, 2 * epoch):
        log_step(log, step, loss_cls=1.0 / step)
    log.evaluation(epoch=epoch, step=2 * epoch, losses={"loss": 2.5}, mask_ap=0.1 * epoch, box_ap=None)


def lines(output: Path) -> list[str]:
    return (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()


def comparable(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    varying = metrics_log.VARYING_FIELDS
    return [{name: value for name, value in record.items() if name not in varying} for record in records]


def test_each_record_is_a_line_of_json_on_disk_when_its_call_returns(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    log_step(log, 1, loss_cls=1.25)
    record = json.loads(lines(tmp_path)[0])
    assert record.pop("time") > 1e9
    assert record == {
        "kind": "step",
        "epoch": 1,
        "step": 1,
        "learning_rate": 0.1,
        "loss": 3.0,
        "loss_cls": 1.25,
        **SPEED,
    }
    assert losses_of(record) == {"loss": 3.0, "loss_cls": 1.25}
    log.event("step skipped", epoch=1, step=2, images=["é.jpg"])
    assert json.loads(lines(tmp_path)[1])["images"] == ["é.jpg"]
    log.close()


def test_values_that_json_does_not_know_become_null_or_plain(tmp_path: Path) -> None:
    with MetricsLog(tmp_path) as log:
        log.evaluation(
            epoch=1,
            step=1,
            losses={"loss": math.nan, "loss_cls": np.float32(0.5)},
            mask_ap=np.float64(math.inf),
            count=np.int64(3),
            per_class={"nut": math.nan},
        )
    assert "NaN" not in lines(tmp_path)[0] and "Infinity" not in lines(tmp_path)[0]
    (record,) = read_metrics(tmp_path / "metrics.jsonl")
    assert record["loss"] is record["mask_ap"] is record["per_class"]["nut"] is None
    assert (record["loss_cls"], record["count"]) == (0.5, 3)


def test_a_resumed_run_drops_what_lies_beyond_its_step_and_equals_an_uninterrupted_one(
    tmp_path: Path,
) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    with MetricsLog(whole) as log:
        for epoch in (1, 2, 3):
            log_epoch(log, epoch)
    with MetricsLog(resumed) as log:
        log_epoch(log, 1)
        log_epoch(log, 2)
        log_step(log, 5)
    with (resumed / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "epoch": 3, "step"')  # killed while writing
    with MetricsLog(resumed, resume_step=2) as log:
        assert [record["step"] for record in read_metrics(resumed / "metrics.jsonl")] == [1, 2, 2]
        log_epoch(log, 2)
        log_epoch(log, 3)
    expected = comparable(read_metrics(whole / "metrics.jsonl"))
    assert comparable([json.loads(line) for line in lines(resumed)]) == expected
    assert [file.name for file in resumed.iterdir()] == ["metrics.jsonl"]  # no temporary file stays


def test_a_line_without_its_end_is_dropped_even_when_it_is_of_an_earlier_step(tmp_path: Path) -> None:
    with MetricsLog(tmp_path) as log:
        log_epoch(log, 1)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    with MetricsLog(tmp_path, resume_step=9) as log:
        log.event("resumed", epoch=1, step=2)
    assert [json.loads(line)["kind"] for line in lines(tmp_path)] == ["step", "step", "event"]


def test_trimming_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with MetricsLog(tmp_path) as log:
        log_epoch(log, 1)
    before = lines(tmp_path)

    def fail(source: str, target: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        MetricsLog(tmp_path, resume_step=1)
    assert lines(tmp_path) == before


def test_a_new_run_replaces_the_numbers_of_an_earlier_one(tmp_path: Path) -> None:
    with MetricsLog(tmp_path) as log:
        log_epoch(log, 1)
    (tmp_path / "vdlrecords.123.log").touch()
    (tmp_path / "tensorboard").mkdir()
    MetricsLog(tmp_path).close()
    assert lines(tmp_path) == []
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_run_without_numbers_can_be_resumed(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, resume_step=7) as log:
        log_step(log, 8)
    assert len(lines(tmp_path)) == 1


def test_numbers_come_along_into_another_folder(tmp_path: Path) -> None:
    with MetricsLog(tmp_path / "old") as log:
        log_epoch(log, 1)
    bring_metrics(tmp_path / "old", tmp_path / "new")
    assert lines(tmp_path / "new") == lines(tmp_path / "old")
    bring_metrics(tmp_path / "old", tmp_path / "old")
    bring_metrics(tmp_path / "nowhere", tmp_path / "new")
    assert len(lines(tmp_path / "new")) == 3


def test_of_many_steps_some_are_read_up_to_the_last(tmp_path: Path) -> None:
    with MetricsLog(tmp_path) as log:
        for epoch in range(1, 51):
            log_epoch(log, epoch)
    records = read_metrics(tmp_path / "metrics.jsonl", max_steps=30)
    steps = [record["step"] for record in records if record["kind"] == "step"]
    assert steps == list(range(4, 101, 4))
    assert len(records) - len(steps) == 50
    assert len(read_metrics(tmp_path / "metrics.jsonl", max_steps=100)) == 150


@pytest.mark.parametrize("extra", ["tensorboard", "visualdl"])
def test_a_missing_package_is_named_with_the_command_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, extra, None)
    with pytest.raises(ConfigError, match=rf"pip install 'paddlex_seg\[{extra}\]'.*Train.{extra}=False"):
        MetricsLog(tmp_path, **{extra: True})
    assert list(tmp_path.iterdir()) == []


def run_and_resume(output: Path, **viewer: bool) -> None:
    """Two epochs. The second one is started twice, and its first start is dropped."""
    with MetricsLog(output, **viewer) as log:
        log_epoch(log, 1)
        log_step(log, 3, loss_cls=99.0)
    with MetricsLog(output, resume_step=2, **viewer) as log:
        log_epoch(log, 2)


def points(by_tag: Mapping[str, list[Any]], tag: str) -> list[tuple[int, float]]:
    """Steps and values of a tag; floats of 32 bits are rounded."""
    return [(point[0], round(point[1], 6)) for point in by_tag[tag]]


CLASS_LOSSES = [(1, 1.0), (2, 0.5), (3, round(1 / 3, 6)), (4, 0.25)]


def test_tensorboard_reads_the_numbers_of_a_resumed_run(tmp_path: Path) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs the tensorboard extra"
    )
    run_and_resume(tmp_path, tensorboard=True)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    by_tag = {
        tag: [(event.step, event.value, event.wall_time) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }
    assert points(by_tag, "train/loss_cls") == CLASS_LOSSES
    assert points(by_tag, "val/mask_ap") == [(2, 0.1), (4, 0.2)]
    assert points(by_tag, "train_epoch/loss") == [(2, 2.5), (4, 2.5)]
    assert "train/learning_rate" in by_tag and "val/box_ap" not in by_tag  # it was never a number
    first = read_metrics(tmp_path / "metrics.jsonl")[0]
    assert by_tag["train/loss"][0][2] == pytest.approx(first["time"], abs=0.01)


def test_visualdl_reads_the_numbers_of_a_resumed_run(tmp_path: Path) -> None:
    pytest.importorskip("visualdl", reason="needs the visualdl extra")
    from visualdl import LogReader

    run_and_resume(tmp_path, visualdl=True)
    (file,) = tmp_path.glob("vdlrecords.*.log")
    assert metrics_log.visualdl_file(tmp_path) == file.name
    reader = LogReader(file_path=str(file))
    by_tag = {
        tag: [(item.id, item.value) for item in reader.get_data("scalar", tag)]
        for tag in reader.get_tags()["scalar"]
    }
    assert points(by_tag, "loss_cls") == CLASS_LOSSES
    assert points(by_tag, "mask-mAP") == [(2, 0.1), (4, 0.2)]
    assert "loss" in by_tag and "train/learning_rate" in by_tag
