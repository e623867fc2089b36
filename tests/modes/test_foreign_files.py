"""Weights, exported folders and addresses that are not what they should be, through the command line."""

import shutil
from pathlib import Path
from typing import Any

import paddle
import pytest
import yaml
from command_line import Outcome, run_cli
from file_server import Server
from small_runs import (
    CATEGORIES,
    IMAGE_SIZE,
    MODEL,
    annotation_file,
    filled_model,
    run_slim,
    save_model,
    slim_model,
    train_options,
)

from paddlex_seg.checkpoints.info import ModelInfo
from paddlex_seg.checkpoints.weights import write_weights
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.files import download

DESTRUCTION = ("delete", "remove", "overwrite", "again")


@pytest.fixture
def photo(dataset: Path) -> Path:
    return sorted((dataset / "images").iterdir())[0]


def with_weights(mode: str, weights: object, output: Path, dataset: Path) -> Outcome:
    """Run a mode with a value for its key of weights."""
    if mode in ("evaluate", "export"):
        key = f"{mode.capitalize()}__weight_path"
        return run_cli(mode, output, Global__dataset_dir=dataset, **{key: weights})
    key = "Train__resume" if mode == "resume" else "Train__pretrain_weight_path"
    return run_slim("train", output, **train_options(dataset, Train__num_classes=2, **{key: weights}))


def predict(exported: Path, inputs: object, output: Path, **options: Any) -> Outcome:
    return run_cli("predict", output, Predict__model_dir=exported, Predict__input=inputs, **options)


# Weights


@pytest.mark.parametrize("mode", ["evaluate", "export", "pretrain", "resume"])
@pytest.mark.parametrize("name", ["inference.pdiparams", "network.json", "inference.yml", "photo", "."])
def test_a_file_that_is_no_weights_is_named(
    exported: Path, photo: Path, dataset: Path, tmp_path: Path, mode: str, name: str
) -> None:
    given = photo if name == "photo" else exported / name
    outcome = with_weights(mode, given, tmp_path / "out", dataset)
    assert outcome.code == 1
    assert str(given) in outcome.stderr and "Traceback" not in outcome.stderr
    folder = "holds no checkpoint" if mode == "resume" else "is a folder"
    expected = {"photo": "an image", "inference.yml": "a text file", ".": folder}
    assert expected.get(name, "of an exported model") in outcome.stderr
    if name in ("inference.pdiparams", "network.json"):
        assert ".pdparams" in outcome.stderr and "Predict.model_dir" in outcome.stderr
    assert not any(word in outcome.stderr.lower() for word in DESTRUCTION)


@pytest.mark.parametrize("mode", ["evaluate", "export", "pretrain"])
def test_weights_that_are_not_finite_are_refused_by_name(dataset: Path, tmp_path: Path, mode: str) -> None:
    model = slim_model(2) if mode == "pretrain" else filled_model()
    name, statistics = next(item for item in model.state_dict().items() if item[0].endswith("_variance"))
    statistics[:2] = float("nan")
    categories = read_coco(annotation_file(dataset, "val")).categories
    weights = save_model(model, tmp_path / "checkpoint", ModelInfo(MODEL, categories, IMAGE_SIZE))
    outcome = with_weights(mode, weights, tmp_path / "out", dataset)
    assert outcome.code == 1
    assert f"{weights}: 1 of " in outcome.stderr
    assert f"{name} (2 of {statistics.shape[0]})" in outcome.stderr


def test_a_checkpoint_that_is_not_finite_is_not_resumed(
    trained: tuple, dataset: Path, tmp_path: Path
) -> None:
    source = sorted((trained[0] / "checkpoints").iterdir())[-1]
    folder = Path(shutil.copytree(source, tmp_path / source.name))
    (folder / "checksums.json").unlink()
    for suffix in ("pdema", "pdparams"):
        state = paddle.load(str(folder / f"{folder.name}.{suffix}"))
        state["yolo_head.pred_cls.0.bias"][0] = float("inf")
        write_weights(
            {name: value for name, value in state.items() if not isinstance(value, dict)},
            folder / f"{folder.name}.{suffix}",
        )
    outcome = with_weights("resume", folder, tmp_path / "out", dataset)
    assert outcome.code == 1
    assert "yolo_head.pred_cls.0.bias (1 of 2)" in outcome.stderr


def test_a_prefix_is_left_out_and_the_log_says_so(dataset: Path, tmp_path: Path) -> None:
    path = tmp_path / "parallel.pdparams"
    write_weights({f"module.{name}": x for name, x in slim_model(2).state_dict().items()}, path)
    options = {"Evaluate__weight_path": path, "Global__dataset_dir": dataset, "Train__image_size": 64}
    outcome = run_slim("evaluate", tmp_path / "out", **options)
    assert outcome.code == 0, outcome.stderr
    assert f"{path}: the " in outcome.stdout
    assert "entries that begin with module. are used, without this prefix" in outcome.stdout


# Addresses of weights


def test_weights_are_fetched_checked_and_kept(
    server: Server, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damage in the cache is noticed; nobody has to repair it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    write_weights(slim_model(2).state_dict(), tmp_path / "w.pdparams")
    server.content = (tmp_path / "w.pdparams").read_bytes()
    url = server.url.replace("http", "HTTP").replace("net", "模型 ß")
    options = {"Evaluate__weight_path": url, "Global__dataset_dir": dataset, "Train__image_size": 64}
    for _ in range(2):
        outcome = run_slim("evaluate", tmp_path / "out", **options)
        assert outcome.code == 0, outcome.stderr
    assert len(server.requests) == 1
    (cached,) = (tmp_path / "paddlex_seg" / "weights").glob("*.pdparams")
    damaged = bytearray(cached.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    cached.write_bytes(damaged)
    outcome = run_slim("evaluate", tmp_path / "out", **options)
    assert outcome.code == 0, outcome.stderr
    assert "is damaged or out of date. It is downloaded again." in outcome.stdout
    assert len(server.requests) == 2 and cached.read_bytes() == server.content


def test_a_page_instead_of_weights_is_told(
    server: Server, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    server.content = b"<html>Please log in</html>"
    outcome = with_weights("export", server.url, tmp_path / "out", dataset)
    assert outcome.code == 1
    assert "web page" in outcome.stderr and server.url in outcome.stderr
    assert not list((tmp_path / "paddlex_seg" / "weights").glob("*.pdparams"))


def test_weights_beyond_the_limits_are_not_downloaded(
    server: Server, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    server.send_size = download.WEIGHT_LIMITS.num_bytes + 1
    outcome = with_weights("export", server.url, tmp_path / "out", dataset)
    assert outcome.code == 1 and "larger than 10000 MB" in outcome.stderr
    endless = server.url.replace("models/net.pdparams", "elsewhere?") * 30 + server.url
    outcome = with_weights("export", endless, tmp_path / "out", dataset)
    assert outcome.code == 1 and "302" in outcome.stderr
    assert len(server.requests) < 15


@pytest.mark.parametrize("url", ["s3://bucket/w.pdparams", "hdfs:///w", "oss://b/w", "ftp://h/w", "data:,x"])
@pytest.mark.parametrize("mode", ["export", "predict"])
def test_addresses_of_an_unknown_kind_are_named(
    exported: Path, dataset: Path, tmp_path: Path, mode: str, url: str
) -> None:
    if mode == "predict":
        outcome = predict(exported, url, tmp_path / "out")
    else:
        outcome = with_weights(mode, url, tmp_path / "out", dataset)
    assert outcome.code == (3 if mode == "predict" else 1)
    scheme = url.partition(":")[0]
    assert f"{scheme}: addresses are not supported" in outcome.stderr
    assert "http, https and file" in outcome.stderr


# Inputs of predict


def test_images_are_predicted_from_any_address(
    exported: Path, photo: Path, server: Server, tmp_path: Path
) -> None:
    server.content = photo.read_bytes()
    renamed = Path(shutil.copy(photo, tmp_path / "图 1.jpg"))
    base = server.url.replace("http", "HTTP").replace("/models/net.pdparams", "")
    urls = [f"{base}/größe é.jpg?x=图 1", f"{base}/a%20b.jpg", renamed.as_uri(), f"FILE://{renamed}"]
    outcome = predict(exported, repr(urls), tmp_path / "out")
    assert outcome.code == 0, outcome.stderr
    assert {path.name for path in (tmp_path / "out").glob("*.json")} >= {
        "größe_é_res.json",
        "a_b_res.json",
        "图 1_res.json",
        "图 1_2_res.json",
    }


# Exported folders


@pytest.mark.parametrize("name", ["network.json", "inference.pdiparams"])
@pytest.mark.parametrize("damage", ["a bit", "half", "nothing left", "a web page", "of another model"])
def test_a_damaged_exported_file_is_an_error(
    exported: Path, photo: Path, tmp_path: Path, name: str, damage: str
) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "model"))
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 4
    other = "inference.json" if name == "network.json" else "network.json"
    (folder / name).write_bytes(
        {
            "a bit": content,
            "half": content[: len(content) // 2],
            "nothing left": b"",
            "a web page": b"<html></html>",
            "of another model": (folder / other).read_bytes(),
        }[damage]
    )
    outcome = predict(folder, photo, tmp_path / "out")
    assert outcome.code == 1
    assert str(folder / name) in outcome.stderr and "Traceback" not in outcome.stderr


@pytest.mark.parametrize("labels", [["one"], ["one", "two", "three"]])
def test_labels_of_another_number_of_classes_are_refused(
    exported: Path, photo: Path, tmp_path: Path, labels: list[str]
) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "model"))
    document = yaml.safe_load((folder / "inference.yml").read_text(encoding="utf-8"))
    document["label_list"] = labels
    (folder / "inference.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
    outcome = predict(folder, photo, tmp_path / "out", Predict__threshold=1)
    assert outcome.code == 1
    assert (
        f"label_list has {len(labels)} names, and the graph has {len(CATEGORIES)} classes" in outcome.stderr
    )


def test_the_export_in_the_folder_of_a_run_is_used(trained: tuple, photo: Path, tmp_path: Path) -> None:
    folder = trained[0] / "best_model"
    outcome = predict(folder, photo, tmp_path / "out")
    assert outcome.code == 0
    assert f"the exported model in it is used, {folder / 'inference'}" in outcome.stdout
    outcome = predict(photo, photo, tmp_path / "out")
    assert outcome.code == 1 and "is a file; expected the folder of an exported model" in outcome.stderr
