"""Mode benchmark: table in the log, and the figures in the result file."""

from pathlib import Path

import numpy as np
from command_line import read_result, run_cli
from PIL import Image
from toy_model import export_toy, image_with

from paddlex_seg.inference.speed import PARTS


def test_the_result_file_has_the_times_of_each_backend(tmp_path: Path) -> None:
    exported = export_toy(tmp_path / "exported")
    Image.fromarray(image_with((128, 192), red=np.s_[40:90, 40:120])).save(tmp_path / "a.png")
    output = tmp_path / "output"
    ended = run_cli(
        "benchmark",
        output,
        Predict__model_dir=exported,
        Predict__input=str(tmp_path / "a.png"),
        Predict__threshold=0.2,
    )
    assert ended.code == 0, ended
    result = read_result(output, "benchmark")
    assert result["done_flag"] and result["model"] == "PP-YOLOE_seg-S"
    paddle = result["measured"][0]
    assert (paddle["backend"], paddle["objects"]) == ("paddle", 1)
    assert set(paddle["parts"]) == set(PARTS)
    others = {(one["backend"], one["precision"]) for one in result["not_measured"]}
    assert ("openvino", "int8") in others and all(one["reason"] for one in result["not_measured"])


def test_an_input_is_needed(tmp_path: Path) -> None:
    ended = run_cli("benchmark", tmp_path / "output", Predict__model_dir=tmp_path, Predict__input="null")
    assert ended.code == 2 and "Predict.input" in ended.stderr
