"""``--get_pipeline_config``: where the file of the pipeline is copied, and what it never replaces."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import run_argv

from paddlex_seg.config.pipeline import find_pipeline

ROOT = Path(__file__).parent.parent.parent
NAME = "instance_segmentation"
CONTENT = find_pipeline(NAME).read_bytes()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([NAME], f"{NAME}.yaml"),
        ([], f"{NAME}.yaml"),
        ([NAME, "--save_path", "./my_path"], f"my_path/{NAME}.yaml"),
        ([NAME, "--config_save_path", "./my_path"], f"my_path/{NAME}.yaml"),
        ([NAME, "--save_path", "a b/é/my.yml"], "a b/é/my.yml"),
        ([NAME, "--save_path", "my.YAML"], "my.YAML"),
        ([NAME, "--save_path", "folder.yaml"], f"folder.yaml/{NAME}.yaml"),
    ],
)
def test_the_file_is_copied_to_a_folder_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.yaml").mkdir()
    outcome = run_argv(["--get_pipeline_config", *words])
    assert (outcome.code, outcome.stderr) == (0, "")
    assert (tmp_path / expected).read_bytes() == CONTENT
    assert str(Path(expected)) in outcome.stdout
    assert run_argv(["--get_pipeline_config", *words]).code == 0  # again: it is the same file


def test_an_unknown_pipeline_is_answered_with_those_there_are() -> None:
    outcome = run_argv(["--get_pipeline_config", "instance-segmentation"])
    assert outcome.code == 2
    assert "instance-segmentation" in outcome.stderr and f"Did you mean {NAME}?" in outcome.stderr


def test_without_a_terminal_another_file_is_kept_and_named(tmp_path: Path) -> None:
    other = tmp_path / f"{NAME}.yaml"
    other.write_text("of the user")
    command = [sys.executable, "main.py", "--get_pipeline_config", NAME, "--save_path", str(tmp_path)]
    result = subprocess.run(command, input="y\n", capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 2
    assert str(other) in result.stderr and len(result.stderr.splitlines()) == 1
    assert other.read_text() == "of the user"


@pytest.mark.parametrize(("answer", "replaced"), [("y", True), ("Yes", True), ("n", False), ("", False)])
def test_at_a_terminal_the_user_is_asked(tmp_path: Path, answer: str, replaced: bool) -> None:
    other = tmp_path / f"{NAME}.yaml"
    other.write_text("of the user")
    command = [sys.executable, "main.py", "--get_pipeline_config", NAME, "--save_path", str(tmp_path)]
    master, slave = pty.openpty()
    try:
        with subprocess.Popen(command, stdin=slave, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            os.write(master, f"{answer}\n".encode())
            assert process.stdout is not None and "(y/N)" in process.stdout.read()
        assert process.returncode == (0 if replaced else 2)
    finally:
        os.close(master)
        os.close(slave)
    assert (other.read_bytes() == CONTENT) is replaced
    assert replaced or other.read_text() == "of the user"


@pytest.mark.parametrize("place", ["file/below", "file/my.yaml"])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("precious")
    outcome = run_argv(["--get_pipeline_config", NAME, "--save_path", str(tmp_path / place)])
    assert outcome.code == 2
    assert "--save_path" in outcome.stderr and "Traceback" not in outcome.stderr
    assert (tmp_path / "file").read_text() == "precious"


def test_the_copied_file_is_a_pipeline(tmp_path: Path) -> None:
    assert run_argv(["--get_pipeline_config", NAME, "--save_path", str(tmp_path / "p.yaml")]).code == 0
    outcome = run_argv(["--pipeline", str(tmp_path / "p.yaml"), "--input", "x.png", "--device", "no device"])
    assert outcome.code == 2 and "--device" in outcome.stderr


def test_paddle_is_not_needed(tmp_path: Path) -> None:
    code = (
        "import sys; from paddlex_seg.cli import main; "
        f"main(['--get_pipeline_config', '--save_path', {str(tmp_path)!r}]); print('paddle' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.splitlines()[-1] == "False", result.stderr
