"""Measure an exported model: ``python -m paddlex_seg.benchmark MODEL_DIR IMAGE...``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from paddlex_seg.errors import PaddlexSegError
from paddlex_seg.files.json import write_json
from paddlex_seg.files.problems import problem_of_the_system
from paddlex_seg.inference.speed import candidates, image_files, measure_all
from paddlex_seg.structures import BackendName, Precision


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, write the JSON file if one is named, and return the exit code."""
    options = _parser().parse_args(argv)
    try:
        report = measure_all(
            options.model_dir,
            image_files(options.images),
            candidates(options.backends, options.precisions),
            threshold=options.threshold,
            tell=lambda line: print(line, file=sys.stderr, flush=True),
        )
        print(report.table(), flush=True)
        if options.json is not None:
            write_json(options.json, report.as_json())
    except PaddlexSegError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"Error: {problem_of_the_system(error) or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m paddlex_seg.benchmark",
        description="Measure an exported model with each backend that can run it, from image files to RLE.",
    )
    parser.add_argument("model_dir", type=Path, help="folder written by mode export")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files, folders or patterns")
    parser.add_argument("--backends", nargs="+", choices=get_args(BackendName), default=get_args(BackendName))
    parser.add_argument("--precisions", nargs="+", choices=get_args(Precision), default=get_args(Precision))
    parser.add_argument(
        "--threshold", type=float, help="objects with a higher score are kept; by default that of the model"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
