"""The ``.pdstates`` file: the progress of a run."""

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
