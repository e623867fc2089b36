"""Mode compare, and ``python -m paddlex_seg.compare``."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import Outcome, read_result, run_argv, run_cli
from small_runs import annotation_file, copy_dataset

from paddlex_seg import compare


def run(output: Path, *sources: Any, **options: Any) -> Outcome:
    listed = json.dumps([str(source) for source in sources], ensure_ascii=False)
    options = {"Evaluate__bootstraps": 20, "Train__num_workers": 0, **options}
    return run_cli("compare", output, Compare__sources=listed, **options)


def write_results(annotations: Path, to: Path, *, keep: int = 10**6, score: float = 0.9) -> Path:
    """The first annotated objects of a file as detections."""
    entries = json.loads(annotations.read_text(encoding="utf-8"))["annotations"][:keep]
    keys = ("image_id", "category_id", "segmentation")
    rows = [
        {**{key: entry[key] for key in keys}, "score": score / (1 + place % 3)}
        for place, entry in enumerate(entries)
    ]
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(json.dumps(rows), encoding="utf-8")
    return to


@pytest.fixture
def truth(dataset: Path) -> Path:
    return annotation_file(dataset, "val")


def test_two_files_are_compared(dataset: Path, truth: Path, tmp_path: Path) -> None:
    good = write_results(truth, tmp_path / "a b,é" / "good.json")
    bad = write_results(truth, tmp_path / "bad.json", keep=1)
    outcome = run(tmp_path / "out", good, bad, Global__dataset_dir=dataset)
    assert outcome.code == 0, outcome.stderr
    result = read_result(tmp_path / "out", "compare")
    assert [model["name"] for model in result["models"]] == ["good.json", "bad.json"]
    assert result["figures"][0]["values"][0] == 1 > result["figures"][0]["values"][1]
    assert result["models"][0]["predictions"]["path"] == str(good)
    assert {row["group"] for row in result["slices"]} >= {"border", "brightness"}
    page = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    assert "good.json" in page and "bad.json" in page
    assert result["verdict"][0] in outcome.stdout


def test_a_page_is_not_written_if_unwanted(dataset: Path, truth: Path, tmp_path: Path) -> None:
    sources = [write_results(truth, tmp_path / name) for name in ("1.json", "2.json")]
    assert run(tmp_path, *sources, Global__dataset_dir=dataset, Evaluate__page=False).code == 0
    assert not (tmp_path / "comparison.html").exists()


def test_two_thresholds_of_one_file(dataset: Path, truth: Path, tmp_path: Path) -> None:
    file = write_results(truth, tmp_path / "results.json")
    options = {"Global__dataset_dir": dataset, "Compare__thresholds": "[0.2, 0.5]"}
    assert run(tmp_path, file, **options).code == 0
    result = read_result(tmp_path, "compare")
    assert [model["name"] for model in result["models"]] == [
        "results.json above 0.2",
        "results.json above 0.5",
    ]
    first, second = result["figures"][0]["values"]
    assert first == 1 > second


def test_names_can_be_chosen(dataset: Path, truth: Path, tmp_path: Path) -> None:
    sources = [write_results(truth, tmp_path / name / "r.json") for name in "ab"]
    run(tmp_path, *sources, Global__dataset_dir=dataset)
    names = [model["name"] for model in read_result(tmp_path, "compare")["models"]]
    assert names == ["a/r.json", "b/r.json"]
    run(tmp_path, *sources, Global__dataset_dir=dataset, Compare__names="[old, <b>]")
    names = [model["name"] for model in read_result(tmp_path, "compare")["models"]]
    assert names == ["old", "<b>"]
    assert "<b></" not in (tmp_path / "comparison.html").read_text(encoding="utf-8")


def test_a_run_its_weights_and_its_export_are_the_same(
    findable: Path, weights: Path, exported: Path, tmp_path: Path
) -> None:
    """Boxes too: those of the run are in another file than its masks."""
    options = {"Global__dataset_dir": findable, "Train__num_workers": 0}
    assert run_cli("evaluate", tmp_path / "run", Evaluate__weight_path=weights, **options).code == 0
    outcome = run(tmp_path / "out", tmp_path / "run", weights, exported, Global__dataset_dir=findable)
    assert outcome.code == 0, outcome.stderr
    result = read_result(tmp_path / "out", "compare")
    assert "predictions" in result["models"][0]
    assert result["models"][1]["weights"]["path"] == str(weights)
    assert result["models"][2]["backend"] == "paddle"
    assert result["figures"][0]["values"][0] > 0.1
    for row in result["figures"]:
        assert row["values"][0] == row["values"][1]
        assert row["values"][2] == pytest.approx(row["values"][0], abs=1e-6)


def test_a_run_of_other_annotations_is_predicted_again(findable: Path, weights: Path, tmp_path: Path) -> None:
    options = {"Global__dataset_dir": findable, "Train__num_workers": 0}
    run_cli("evaluate", tmp_path / "run", Evaluate__weight_path=weights, **options)
    best = tmp_path / "run" / "best_model" / "best_model.pdparams"
    best.parent.mkdir()
    best.write_bytes(weights.read_bytes())
    changed = copy_dataset(findable, tmp_path / "changed")
    truth = annotation_file(changed, "val")
    content = json.loads(truth.read_text(encoding="utf-8"))
    content["annotations"].pop()
    truth.write_text(json.dumps(content), encoding="utf-8")
    other = write_results(truth, tmp_path / "other.json")
    outcome = run(tmp_path / "out", other, tmp_path / "run", Global__dataset_dir=changed)
    assert outcome.code == 0, outcome.stderr
    assert read_result(tmp_path / "out", "compare")["models"][1]["weights"]["path"] == str(best)


def test_two_backends_of_one_model(findable: Path, exported: Path, tmp_path: Path) -> None:
    options = {"Global__dataset_dir": findable, "Compare__backends": "[paddle, openvino]"}
    outcome = run(tmp_path, exported, **options)
    if (exported / "network.onnx").is_file():
        result = read_result(tmp_path, "compare")
        assert [one["name"].split()[-1] for one in result["models"]] == ["paddle", "openvino"]
        assert result["figures"][0]["differences"][0]["value"] == pytest.approx(0, abs=1e-3)
    else:
        assert "network.onnx is missing" in outcome.stderr


WRONG = {
    "none": ([], {}, 2, "expected two or more"),
    "one": (["a.json"], {}, 2, "names 1; expected two or more"),
    "three_thresholds": (
        ["a.json", "b.json"],
        {"Compare__thresholds": "[0.1, 0.2, 0.3]"},
        2,
        "Compare.sources has 2 values, but 3 are compared",
    ),
    "names": (["a.json", "b.json"], {"Compare__names": "[a]"}, 2, "has 1 names, but 2 are compared"),
    "same_names": (["a.json", "b.json"], {"Compare__names": "[a, a]"}, 2, "repeats a name"),
    "twice": (["a.json", "a.json"], {}, 2, "the same thing twice"),
    "missing": (["a.json", "b.json"], {}, 2, "a.json does not exist"),
    "no_export": (
        ["a.json"],
        {"Compare__backends": "[paddle, openvino]"},
        2,
        "no folder of an exported model",
    ),
    "threshold": (["a.json"], {"Compare__thresholds": "[0.3, 30]"}, 2, "from 0 to 1"),
    "backend": (["a.json"], {"Compare__backends": "[paddle, tensorrt]"}, 2, "tensorrt"),
}


@pytest.mark.parametrize(("sources", "options", "code", "message"), WRONG.values(), ids=WRONG)
def test_wrong_settings_are_told(
    dataset: Path, tmp_path: Path, sources: list[str], options: dict[str, str], code: int, message: str
) -> None:
    outcome = run(tmp_path, *sources, Global__dataset_dir=dataset, **options)
    assert (outcome.code, message in outcome.stderr) == (code, True), outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_a_folder_without_anything_is_told(dataset: Path, truth: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    file = write_results(truth, tmp_path / "a.json")
    outcome = run(tmp_path, file, tmp_path / "empty", Global__dataset_dir=dataset)
    assert outcome.code == 2 and "empty has none of these" in outcome.stderr


# ---- python -m paddlex_seg.compare


def command(*argv: Any) -> Outcome:
    def main(options: list[str]) -> int:
        try:
            return compare.main(options)
        except SystemExit as end:
            return int(end.code or 0)

    return run_argv([str(one) for one in argv], main)


def test_the_command_is_mode_compare(truth: Path, tmp_path: Path) -> None:
    sources = [
        write_results(truth, tmp_path / name, keep=keep) for name, keep in (("a, 1.json", 9), ("007", 3))
    ]
    sources[1] = sources[1].rename(tmp_path / "yes.json")
    outcome = command(
        *sources,
        *("--annotations", truth, "--output", tmp_path / "out: é", "--names", "1.0", "no"),
        *("--bootstraps", 20, "--thresholds", 0.1),
    )
    assert outcome.code == 0, outcome.stderr
    result = read_result(tmp_path / "out: é", "compare")
    assert [(model["name"], model["threshold"]) for model in result["models"]] == [("1.0", 0.1), ("no", 0.1)]


def test_wrong_options_end_with_2(tmp_path: Path) -> None:
    for argv in ((), ("a", "b", "--split", "all"), ("a", "b", "--backends", "tensorrt"), ("a", "--colour")):
        outcome = command(*argv)
        assert outcome.code == 2 and "usage: python -m paddlex_seg.compare" in outcome.stderr
    outcome = command("a", "b", "--output", tmp_path, "--bootstraps", "many")
    assert outcome.code == 2 and "Evaluate.bootstraps" in outcome.stderr


def test_help_loads_nothing() -> None:
    code = (
        "import sys\n"
        "from paddlex_seg.compare import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit:\n    print(sorted({'numpy', 'paddle', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("usage: python -m paddlex_seg.compare")
    assert done.stdout.splitlines()[-1] == "[]"
