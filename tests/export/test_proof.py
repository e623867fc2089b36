"""An export that gives something else than its network is not published."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import Tensor
from small_runs import CATEGORIES, IMAGE_SIZE, MODEL
from tiny_model import TinyModel

from paddlex_seg.catalog import find_model
from paddlex_seg.checkpoints.info import ModelInfo
from paddlex_seg.errors import CertificateError
from paddlex_seg.export import graphs
from paddlex_seg.files.checksum import sha256_of
from paddlex_seg.inference.certificate import read_certificate
from paddlex_seg.inference.export_spec import ExportedSpec
from paddlex_seg.inference.stored_inputs import stored_inputs

SPEC, INFO = find_model(MODEL), ModelInfo(MODEL, CATEGORIES, IMAGE_SIZE)


def export(folder: Path, model: TinyModel | None = None) -> None:
    graphs.export_model(model or TinyModel(), SPEC, INFO, folder)


@contextmanager
def written_with(model: TinyModel, change: Callable[[np.ndarray], np.ndarray]) -> Iterator[None]:
    """Inside, the graphs are written with other weights than the network has."""
    save, weight = graphs._save_graph, model.masks.weight

    def save_changed(*arguments: Any) -> None:
        own = weight.numpy()
        weight.set_value(change(own.copy()))
        save(*arguments)
        weight.set_value(own)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "_save_graph", save_changed)
        yield


def scalar_changed(weight: np.ndarray) -> np.ndarray:
    weight[1, 2, 3, 0] *= 1.05
    return weight


def described_as(monkeypatch: pytest.MonkeyPatch, change: Callable[[ExportedSpec], ExportedSpec]) -> None:
    """Let ``inference.yml`` say something else than is true."""
    describe = graphs.exported_spec
    monkeypatch.setattr(graphs, "exported_spec", lambda *arguments: change(describe(*arguments)))


def assert_not_published(folder: Path, *sentences: str) -> None:
    (folder / "inference.yml").write_text("mine", encoding="utf-8")
    with pytest.raises(CertificateError, match="nothing was published") as caught:
        export(folder)
    for sentence in sentences:
        assert sentence in str(caught.value)
    assert [path.name for path in folder.iterdir() if path.suffix in (".json", ".pdiparams", ".bak")] == []
    assert (folder / "inference.yml").read_text(encoding="utf-8") == "mine"


def test_an_export_has_a_certificate_of_both_graphs(tmp_path: Path) -> None:
    export(tmp_path)
    entries = read_certificate(tmp_path)
    assert [(one.backend, one.precision, one.graph, one.verdict) for one in entries] == [
        ("paddle", "f32", "network.json", "passed"),
        ("paddle", "f32", "inference.json", "passed"),
    ]
    for entry in entries:
        assert entry.figures["detections"]["pairs"] == 4 * len(entry.inputs)
        assert entry.sha256 == {name: sha256_of(tmp_path / name) for name in entry.sha256}
        assert set(entry.sha256) == {entry.graph, "inference.pdiparams", "inference.yml"}
        assert entry.versions["paddlepaddle"] == paddle.__version__
    assert len(entries[0].inputs) == len(stored_inputs())
    reference = json.loads((tmp_path / "reference.json").read_text(encoding="utf-8"))
    assert len(reference["results"]) == 4 * len(stored_inputs())
    assert {row["class"] for row in reference["results"]} == {one.name for one in CATEGORIES}


def test_images_are_compared_alone_and_in_a_batch_of_several_sizes(tmp_path: Path) -> None:
    export(tmp_path)
    ours, official = (one.calls for one in read_certificate(tmp_path))
    sizes = {one.name: one.size_hw for one in stored_inputs()}
    assert len({sizes[name] for name in ours[0]}) == 3
    assert {len(call) for call in ours[1:]} == {len(call) for call in official} == {1}


def test_a_tensor_that_is_changed_by_5_percent_is_not_published(tmp_path: Path) -> None:
    model = TinyModel()
    with written_with(model, lambda weight: weight * 1.05):
        with pytest.raises(
            CertificateError, match="1 parameters in inference.pdiparams are not those"
        ) as caught:
            export(tmp_path, model)
    assert "scores of a pair differ by" in str(caught.value)
    assert not (tmp_path / "inference.pdiparams").exists()


def test_a_single_number_that_is_changed_is_not_published(tmp_path: Path) -> None:
    model = TinyModel()
    with (
        written_with(model, scalar_changed),
        pytest.raises(CertificateError, match="not those of the network"),
    ):
        export(tmp_path, model)
    assert not (tmp_path / "inference.pdiparams").exists()


@pytest.mark.parametrize("graph", ["WithSmallMasks", "WithPastedMasks"])
def test_masks_that_are_shifted_are_not_published(
    graph: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By 2 pixels of the original image, or by one cell of the small masks."""
    kept, pixels = getattr(graphs, graph), 2 if graph == "WithPastedMasks" else 1

    class Shifted(kept):  # type: ignore[misc, valid-type]
        def forward(self, image: Tensor, im_shape: Tensor, scale_factor: Tensor) -> tuple[Tensor, ...]:
            bbox, number, mask = super().forward(image, im_shape, scale_factor)
            return bbox, number, paddle.roll(mask, pixels, axis=2)

    monkeypatch.setattr(graphs, graph, Shifted)
    assert_not_published(tmp_path, "the mean mask IoU of pairs is")


def test_swapped_class_names_are_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described_as(monkeypatch, lambda spec: replace(spec, labels=spec.labels[::-1]))
    assert_not_published(
        tmp_path,
        "class 0 is 'Scheibe ß'; expected 'bolt'",
        "of the 24 detections of the reference above score 0.05 have a partner of the same class",
    )


def test_a_wrong_mean_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described_as(
        monkeypatch, lambda spec: replace(spec, preprocess=replace(spec.preprocess, mean=(0.1, 0, 0)))
    )
    assert_not_published(
        tmp_path, "mean is [0.1, 0.0, 0.0]; expected [0.0, 0.0, 0.0]", "scores of a pair differ by"
    )


def test_a_wrong_kind_of_masks_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described_as(monkeypatch, lambda spec: replace(spec, mask_frame="image"))
    assert_not_published(tmp_path, "network.json with paddle")


def test_weights_that_find_nothing_are_published_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        export(tmp_path, TinyModel(score_bias=-30))
    assert [one.verdict for one in read_certificate(tmp_path)] == ["proved nothing"] * 2
    assert "The certificate of network.json with paddle proves nothing" in caplog.text


def test_weights_that_find_nothing_must_have_the_right_description(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described_as(monkeypatch, lambda spec: replace(spec, labels=spec.labels[::-1]))
    with pytest.raises(CertificateError, match="the class names differ"):
        export(tmp_path, TinyModel(score_bias=-30))
