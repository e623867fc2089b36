"""Which options there are, which go together, and what is said about those of PaddleX without an effect."""

import subprocess
import sys
from pathlib import Path

import pytest
from command_line import run_argv

from paddlex_seg.options import COMMANDS, GOES_WITH, PLUGINS, REPLACED, read_options

ROOT = Path(__file__).parent.parent


def refusal(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The message about wrong options."""
    with pytest.raises(SystemExit) as ending:
        read_options(argv)
    assert ending.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("start", [["main.py"], ["-m", "paddlex_seg"]], ids=["main.py", "module"])
def test_without_options_the_help_is_printed_with_exit_code_2(start: list[str]) -> None:
    result = subprocess.run([sys.executable, *start], capture_output=True, text=True, cwd=ROOT)
    asked = subprocess.run([sys.executable, *start, "--help"], capture_output=True, text=True, cwd=ROOT)
    assert (result.returncode, asked.returncode) == (2, 0)
    assert result.stdout == asked.stdout and result.stderr == ""
    for option in ("-c", "--pipeline", "--get_pipeline_config", "--threshold", "exit codes"):
        assert option in result.stdout


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["-c", "x", "--pipeline", "y", "--input", "a"], ["-c and --pipeline are two commands"]),
        (["--get_pipeline_config", "--pipeline", "y"], ["--pipeline and --get_pipeline_config are two"]),
        (["-c", "x", "--serve"], ["-c and --serve are two commands"]),
        (["--pipeline", "y"], ["--pipeline needs --input"]),
        (
            ["--pipeline", "y", "--input", "a", "-o", "Train.seed=1"],
            ["-o goes with -c or --serve, not with --pipeline"],
        ),
        (["-c", "x", "--input", "a"], ["--input goes with --pipeline", "Predict.input"]),
        (["-c", "x", "--device", "cpu"], ["--device goes with --pipeline", "Global.device"]),
        (["-c", "x", "--save_path", "out"], ["--save_path goes with --pipeline", "Global.output"]),
        (["--input", "a"], ["--input goes with --pipeline."]),
        (["-o", "Train.seed=1"], ["-o goes with -c or --serve."]),
        (["--get_pipeline_config", "--threshold", "0.1"], ["--threshold goes with --pipeline"]),
        (["--pipeline", "y", "--input", "a", "--port", "80"], ["--port goes with --serve"]),
        (["--opset_version", "7"], ["--opset_version goes with --paddle2onnx"]),
        (["--paddle2onnx"], ["--paddle2onnx needs --paddle_model_dir"]),
        (["-y"], ["-y goes with --install"]),
        (["train"], ["unknown: train"]),
        (["-c", "x", "--epochs", "3"], ["unknown: --epochs 3", "-o"]),
    ],
    ids=lambda value: " ".join(value) if value and value[0].startswith("-") else None,
)
def test_options_that_do_not_go_together_are_named(
    argv: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    message = refusal(argv, capsys)
    assert all(word in message for word in words), message


def test_each_option_belongs_to_a_command() -> None:
    _, options = read_options([])
    assert set(vars(options)) == set(COMMANDS) | set(GOES_WITH)


def test_inputs_may_be_given_together_and_again() -> None:
    command, options = read_options(["--pipeline", "p", "--input", "a", "b c", "--input", "d"])
    assert (command, options.input) == ("pipeline", ["a", "b c", "d"])


def test_serving_may_name_its_pipeline() -> None:
    assert read_options(["--serve", "--pipeline", "p", "--port", "8080"])[0] == "serve"


@pytest.mark.parametrize("plugin", [*PLUGINS, "hpi-gpu", "PaddleSeg"])
def test_installing_a_plugin_says_in_one_line_what_to_do(plugin: str) -> None:
    outcome = run_argv(["--install", plugin, "-y", "--platform", "gitee.com", "--no_deps"])
    assert (outcome.code, outcome.stderr) == (0, "")
    assert len(outcome.stdout.splitlines()) == 1
    answer = (
        "pip install paddlex_seg["
        if plugin in ("paddle2onnx", "hpi-cpu", "serving")
        else "nothing to install, "
    )
    assert outcome.stdout.startswith(f"{plugin}: {answer}")


def test_installing_all_plugins_is_training() -> None:
    outcome = run_argv(["--install"])
    assert outcome.code == 0 and "training" in outcome.stdout


def test_options_without_an_effect_are_told_in_a_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    monkeypatch.setattr("paddlex_seg.cli.run_command", lambda *arguments: given.append(arguments) or 0)
    argv = ["--pipeline", "p", "--input", "a", "--use_hpip", "--serial_number", "AB-12", "--update_license"]
    outcome = run_argv(argv)
    assert outcome.code == 0 and len(given) == 1
    assert sorted(outcome.stderr.splitlines()) == sorted(REPLACED.values())
