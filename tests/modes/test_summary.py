from pathlib import Path

from command_line import Outcome

from paddlex_seg.modes.result_file import write_result
from paddlex_seg.modes.summary import summarize


def rows(output: Path) -> dict[str, str]:
    return {line[:20].strip(): line[21:] for line in summarize(output).splitlines()}


def test_a_training_is_summarised_with_its_course_and_its_files(trained: tuple[Path, Outcome]) -> None:
    summary = rows(trained[0])
    assert summary["mask AP by epoch"] == "1: 0.000  2: 0.000"
    assert Path(summary["best weights"]).is_file()
    assert Path(summary["exported model"]).is_dir()
    assert summary["data set report"] == "not there"


def test_numbers_come_from_the_result_files(tmp_path: Path) -> None:
    history = [{"epoch": 2, "mask_ap": 0.12345}, {"epoch": 4, "mask_ap": None}]
    write_result(tmp_path, "train", {"history": history})
    write_result(tmp_path, "evaluate", {"metrics": {"AP": 0.5}})
    (tmp_path / "evaluation.html").touch()
    summary = rows(tmp_path)
    assert summary["mask AP by epoch"] == "2: 0.123  4: none"
    assert summary["mask AP (evaluate)"] == "0.500"
    assert summary["evaluation page"] == str(tmp_path / "evaluation.html")


def test_an_empty_folder_has_nothing(tmp_path: Path) -> None:
    summary = rows(tmp_path)
    assert summary["mask AP (evaluate)"] == "none"
    assert set(summary.values()) == {"", "none", "not there"}


def test_a_failed_run_is_summarised_as_far_as_it_came(tmp_path: Path) -> None:
    for mode in ("train", "evaluate"):
        write_result(tmp_path, mode, {"done_flag": False, "err_msg": "stopped"})
    assert rows(tmp_path)["mask AP (evaluate)"] == "none"
