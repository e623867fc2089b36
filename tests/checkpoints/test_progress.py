"""The ``.pdstates`` file: the progress of a run."""

import json
from pathlib import Path

import pytest

from paddlex_seg.checkpoints.progress import read_progress
from paddlex_seg.errors import WeightsError


@pytest.mark.parametrize("text", [None, "{", '{"epoch": 1}', '{"metric": 0.4, "epoch": 7}', "\x80\x02}q"])
def test_a_state_that_cannot_be_resumed_points_to_the_other_setting(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "last_model.pdstates").write_bytes(text.encode("latin1"))
    with pytest.raises(WeightsError, match=r"last_model\.pdstates.*Train\.pretrain_weight_path"):
        read_progress(tmp_path / "last_model.pdparams")


def test_the_progress_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """It counted the steps of the epoch without an update, not those with one."""
    saved = {"epoch": 2, "epoch_step": 7, "step": 27, "batch_size": 4, "skipped_in_epoch": 2}
    saved |= {"loss_sums": {"loss": 10.0}, "run_epochs": 9, "history": []}
    (tmp_path / "old.pdstates").write_text(json.dumps(saved), encoding="utf-8")
    progress = read_progress(tmp_path / "old.pdparams")
    assert (progress.epoch, progress.epoch_step, progress.run_epochs) == (2, 7, 9)
    assert progress.mean_losses == {"loss": 2.0}
