"""What bf16 and 8 bits cost in AP and bring in time, for one exported folder.

    python benchmarks/precision_cost.py MODEL_DIR DATASET_DIR [--rounds 9]

MODEL_DIR: an exported folder with ``network.onnx`` and, for 8 bits, the files of ``Export.int8``. Prints a
row for each backend and precision that can run here: the size of its files, the mask AP on the val images of
DATASET_DIR and how much is lost, and the milliseconds of the network on the first val image: the median of
alternating rounds, all of them in this process. Takes minutes.
"""

import argparse
import time
from pathlib import Path
from statistics import median

from paddlex_seg.data.coco.paths import dataset_paths
from paddlex_seg.data.coco.read import read_coco
from paddlex_seg.data.preprocess import collate
from paddlex_seg.data.samples.tasks import evaluation_tasks
from paddlex_seg.errors import PaddlexSegError
from paddlex_seg.evaluation.int8 import AnnotatedData, mask_ap
from paddlex_seg.inference.backends.onnx_network import INT8_FILES
from paddlex_seg.inference.backends.open import ExportedBackend, load_backend
from paddlex_seg.structures import BackendName, Precision

WAYS: tuple[tuple[BackendName, Precision], ...] = (
    ("openvino", "f32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
    ("onnxruntime", "f32"),
    ("onnxruntime", "int8"),
)


def size_mb(folder: Path, backend: BackendName, precision: Precision) -> float:
    """The size of what a backend loads."""
    graph = folder / (INT8_FILES[backend] if precision == "int8" else "network.onnx")
    return sum(path.stat().st_size for path in (graph, graph.with_suffix(".bin")) if path.is_file()) / 1e6


def open_all(folder: Path) -> dict[tuple[BackendName, Precision], ExportedBackend]:
    """The backends that run here; says why others do not."""
    opened = {}
    for backend, precision in WAYS:
        try:
            opened[backend, precision] = load_backend(folder, backend, precision=precision)
        except PaddlexSegError as error:
            print(f"{backend} {precision}: {error}")
    return opened


def annotated_data(dataset_dir: Path) -> AnnotatedData:
    """The data set as `add_int8` takes it."""
    paths = dataset_paths(dataset_dir)
    train, val = read_coco(paths.train_json), read_coco(paths.val_json)
    return AnnotatedData(train, val, paths.image_dir, [category.id for category in val.categories])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model_dir", type=Path)
    parser.add_argument("dataset_dir", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    opened = open_all(arguments.model_dir)
    data = annotated_data(arguments.dataset_dir)
    aps = {way: mask_ap(backend, data) for way, backend in opened.items()}
    spec = next(iter(opened.values())).spec
    inputs = collate([evaluation_tasks(data.val, data.image_dir, spec.preprocess)[0]()])
    seconds: dict[tuple[BackendName, Precision], list[float]] = {way: [] for way in opened}
    for number in range(arguments.rounds + 1):
        for way, backend in opened.items():
            start = time.perf_counter()
            backend(*inputs)
            if number:  # the first round prepares kernels
                seconds[way].append(time.perf_counter() - start)
    print(f"{spec.model_name}, {inputs.image.shape}, {len(data.val.images)} val images")
    print("| backend | precision | MB | mask AP | lost | ms |\n|---|---|---|---|---|---|")
    for way, ap in aps.items():
        lost = aps[way[0], "f32"] - ap
        print(
            f"| {way[0]} | {way[1]} | {size_mb(arguments.model_dir, *way):.1f} | {ap:.4f} | {lost:.4f} | "
            f"{median(seconds[way]) * 1000:.1f} |"
        )


if __name__ == "__main__":
    main()
