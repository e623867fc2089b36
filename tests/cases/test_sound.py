"""The base of all cases: nothing is wrong with it."""

from pathlib import Path

from cases import check_dataset, copy_case


def test_the_sound_data_set_passes_without_findings(tmp_path: Path) -> None:
    desk = check_dataset(copy_case("00-sound", tmp_path / "data"), tmp_path / "output")
    assert desk.exit_code == 0
    assert desk.codes == {}
    attributes = desk.result["attributes"]
    assert (attributes["train_samples"], attributes["val_samples"]) == (2, 1)
    assert (attributes["train_annotations"], attributes["val_annotations"]) == (2, 1)
