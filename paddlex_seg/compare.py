"""Compare models: ``python -m paddlex_seg.compare A B [C ...]``. This is mode compare with short options."""

import argparse
import json
import sys
from collections.abc import Sequence

from paddlex_seg.cli import main as run_command_line


def main(argv: Sequence[str] | None = None) -> int:
    """Run mode compare with these options, and return the exit code."""
    options = _parser().parse_args(argv)
    settings = {
        "Global.mode": "compare",
        "Global.output": options.output,
        "Global.device": options.device,
        "Global.dataset_dir": options.dataset_dir,
        "Evaluate.annotations": options.annotations,
        "Evaluate.split": options.split,
        "Evaluate.bootstraps": options.bootstraps,
        "Compare.sources": options.sources,
        "Compare.names": options.names,
        "Compare.thresholds": options.thresholds,
        "Compare.backends": options.backends,
    }
    command = ["-c", options.config]
    for key, value in settings.items():
        if value is not None:
            # JSON is YAML; quotes keep text as it is, whatever it looks like.
            command += ["-o", f"{key}={json.dumps(value, ensure_ascii=False)}"]
    return run_command_line(command)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m paddlex_seg.compare",
        description="Compare models on the same images: figures, classes, slices and images that got better "
        "or worse, and whether a difference is more than chance.",
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="detections in COCO's result format, an output folder of evaluate or train, weights, or a "
        "folder of an exported model; the others are compared with the first one",
    )
    parser.add_argument("--dataset_dir", metavar="FOLDER", help="data set; default: as configured")
    parser.add_argument("--annotations", metavar="FILE", help="COCO annotation file instead of a data set")
    parser.add_argument("--split", choices=("train", "val", "test"), help="of the data set; default: val")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="names of the sources")
    parser.add_argument(
        "--thresholds",
        nargs="+",
        metavar="T",
        help="detections with higher scores count; one, or one for each",
    )
    parser.add_argument(
        "--backends",
        nargs="+",
        choices=("paddle", "onnxruntime", "openvino", "auto"),
        help="what runs exported models; one, or one for each",
    )
    parser.add_argument("--bootstraps", metavar="N", help="resamples for the intervals; default: 1000")
    parser.add_argument("--output", default="output/compare", metavar="FOLDER", help="default: %(default)s")
    parser.add_argument("--device", default="cpu", help="of models; default: %(default)s")
    parser.add_argument(
        "--config",
        "-c",
        default="PP-YOLOE_seg-S",
        metavar="CONFIG",
        help="configuration for all else, such as the model of weights that do not say it",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
