"""Adds 8-bit networks to an exported folder, if a data set shows that they cost little.

An 8-bit network is another model than the one that was trained, so it cannot be certified as equal. Instead
one data set evaluates the folder in float32 and in 8 bits. Both APs are written into the certificate, and a
network that costs too much is not published.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from paddlex_seg.data.coco.describe import describe_annotations
from paddlex_seg.data.samples.loader import WorkerPool
from paddlex_seg.data.samples.tasks import EvalTask, evaluation_tasks
from paddlex_seg.errors import CertificateError
from paddlex_seg.evaluation.predict import predict_dataset
from paddlex_seg.files.atomic import new_files
from paddlex_seg.files.checksum import sha256_of
from paddlex_seg.files.written import claimed
from paddlex_seg.inference import certificate, quantization
from paddlex_seg.inference.backends.exported_files import ONNX
from paddlex_seg.inference.backends.onnx_network import INT8_FILES
from paddlex_seg.inference.backends.open import load_onnx
from paddlex_seg.inference.certificate import Entry, add_entries, read_certificate
from paddlex_seg.inference.certify import DESCRIPTION, versions_of
from paddlex_seg.inference.edge import EDGE
from paddlex_seg.inference.export_spec import read_inference_yml
from paddlex_seg.inference.quantization import LARGEST_DROP
from paddlex_seg.metrics.coco_ap import evaluate_coco
from paddlex_seg.runtime.machine import describe_machine, package_versions
from paddlex_seg.structures import Backend, BackendName, CocoFile, Id

LOGGER = logging.getLogger(__name__)
MOST_CALIBRATED = 100  # images; at 640 pixels each takes up to a second
LEAST_AP = 0.1  # ten times the largest drop; a model that finds less has little to lose


@dataclass(frozen=True)
class AnnotatedData:
    """A data set that calibrates with its train images and measures with its val images."""

    train: CocoFile
    val: CocoFile
    image_dir: Path
    category_ids: Sequence[Id]  # of the classes of the model


@dataclass(frozen=True)
class _Way:
    """How the 8-bit network of a backend is made."""

    source: str  # the network in float32
    files: tuple[str, ...]  # what is written, the graph first
    quantize: Callable[[Path, Path, Sequence[EvalTask]], None]  # source, target, inputs
    packages: tuple[str, ...]


_WAYS: Mapping[BackendName, _Way] = {
    "openvino": _Way(
        source=ONNX,
        files=(INT8_FILES["openvino"], Path(INT8_FILES["openvino"]).with_suffix(".bin").name),
        quantize=lambda *given: quantization.quantize_for_openvino(*given),
        packages=quantization.FOR_OPENVINO,
    ),
    "onnxruntime": _Way(
        source=EDGE,
        files=(INT8_FILES["onnxruntime"],),
        quantize=lambda *given: quantization.quantize_for_onnxruntime(*given),
        packages=quantization.FOR_ONNXRUNTIME,
    ),
}


def add_int8(folder: Path, backend: BackendName, data: AnnotatedData) -> Entry:
    """Quantize the network of an exported folder for a backend, measure what that costs, and publish it.

    OpenVINO's is made of ``network.onnx``, ONNX Runtime's of ``network_edge.onnx``. Returns its entry. Raises
    CertificateError, and leaves the folder as it was, if the mask AP on the val images is more than
    `LARGEST_DROP` lower than in float32, or too low in float32 to tell.
    """
    start, spec, way = time.perf_counter(), read_inference_yml(folder / DESCRIPTION), _WAYS[backend]
    tasks = _spread(evaluation_tasks(data.train, data.image_dir, spec.preprocess), MOST_CALIBRATED)
    with claimed(folder, (*way.files, certificate.FILE)), new_files(folder) as temporary:
        f32, int8 = folder / way.source, temporary / way.files[0]
        way.quantize(f32, int8, tasks)
        before = mask_ap(load_onnx(f32, spec, backend), data)
        after = mask_ap(load_onnx(int8, spec, backend, "int8"), data)
        _require_low_cost(folder / int8.name, before, after)
        entry = Entry(
            backend=backend,
            precision="int8",
            graph=int8.name,
            verdict="passed",
            problems=(),
            limits={"mask_ap_drop": LARGEST_DROP, "least_mask_ap": LEAST_AP},
            reference=f"{f32.name} in float32",
            inputs=(),
            calls=(),
            figures={
                "mask_ap": {"f32": before, "int8": after, "drop": before - after},
                "data": describe_annotations(train=data.train, val=data.val),
                "calibrated_with": len(tasks),
            },
            sha256={
                path.name: sha256_of(path)
                for path in (*(temporary / name for name in way.files), folder / DESCRIPTION)
            },
            versions=versions_of(backend) | package_versions(way.packages),
            machine=describe_machine(),
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.perf_counter() - start, 2),
        )
        add_entries(temporary, [entry], earlier=read_certificate(folder))
    LOGGER.info(
        "%s: mask AP %.4f in float32, %.4f in 8 bits, on %d val images; %.1f MB instead of %.1f MB.",
        *(folder / int8.name, before, after, len(data.val.images)),
        *(sum((folder / name).stat().st_size for name in way.files) / 1e6, f32.stat().st_size / 1e6),
    )
    return entry


def mask_ap(backend: Backend, data: AnnotatedData) -> float:
    """The mask AP of a backend on the val images; NaN if they have no objects."""
    with WorkerPool(0) as pool:
        found = predict_dataset(backend, data.val, data.image_dir, batch_size=1, pool=pool, log_interval=100)
    ap = evaluate_coco(data.val, found, data.category_ids).segm.AP
    return float("nan") if ap is None else ap


def _require_low_cost(file: Path, f32: float, int8: float) -> None:
    if not f32 >= LEAST_AP:  # nor if it is NaN
        raise CertificateError(
            f"{file} was not written: the mask AP on the val images is {f32:.4f} in float32; expected at "
            f"least {LEAST_AP}, because a model that finds less has little to lose. Train the model further, "
            "or set Global.dataset_dir to the data set that it was trained for."
        )
    if not f32 - int8 <= LARGEST_DROP:
        raise CertificateError(
            f"{file} was not written: the mask AP on the val images is {f32:.4f} in float32 and {int8:.4f} "
            f"in 8 bits, {f32 - int8:.4f} less; expected at most {LARGEST_DROP} less. The other files of the "
            "export are there. Set Export.int8=False, and use Predict.precision=f32."
        )


def _spread(tasks: Sequence[EvalTask], most: int) -> list[EvalTask]:
    """At most ``most`` of some tasks, evenly spread over them."""
    count = min(most, len(tasks))
    return [tasks[index * len(tasks) // count] for index in range(count)]
