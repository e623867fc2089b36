"""The mean losses of an epoch are means over its images, also after a change of the batch size."""

from pathlib import Path
from typing import Any

import pytest
from command_line import read_result
from disturbed import train, train_until

from paddlex_seg.checkpoints.progress import Progress
from paddlex_seg.models.pp_yoloe_seg.model import PpYoloeSeg
from paddlex_seg.reports.metrics_file import read_metrics
from paddlex_seg.training.resume import at_batch_size


@pytest.mark.parametrize(("first", "then"), [(1, 4), (4, 1)])
def test_a_loss_that_is_always_2_has_the_mean_2(
    dataset: Path, tmp_path: Path, no_export: None, monkeypatch: pytest.MonkeyPatch, first: int, then: int
) -> None:
    loss = PpYoloeSeg.loss

    def two(self: PpYoloeSeg, batch: Any) -> Any:
        losses = loss(self, batch)
        return {**losses, "loss": losses["loss"] * 0 + 2.0}

    monkeypatch.setattr(PpYoloeSeg, "loss", two)
    train_until(dataset, tmp_path, 4 // first, Train__batch_size=first, Train__epochs_iters=1)
    outcome = train(dataset, tmp_path, Train__batch_size=then, Train__epochs_iters=1, Train__resume="auto")
    assert outcome.code == 0, outcome.stderr
    assert f"Batch size changed from {first} to {then}" in outcome.stdout
    (row,) = read_result(tmp_path, "train")["history"]
    evaluation = [row for row in read_metrics(tmp_path / "metrics.jsonl") if row["kind"] == "evaluation"]
    assert row["loss"] == evaluation[0]["loss"] == pytest.approx(2.0)


def test_an_image_counts_the_same_in_small_and_large_batches() -> None:
    three_of_two = Progress(epoch_step=3, batch_size=2, loss_sums={"loss": 3 * 1.0}, loss_steps=3.0)
    progress = at_batch_size(three_of_two, batch_size=6, steps_per_epoch=2)
    assert progress.epoch_step == 1 and progress.mean_losses == {"loss": pytest.approx(1.0)}
    sums, steps = progress.loss_sums["loss"] + 5.0, progress.loss_steps + 1  # six images with a loss of 5
    assert sums / steps == pytest.approx(3.0)
