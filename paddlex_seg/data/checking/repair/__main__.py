"""Undo a repair: ``python -m paddlex_seg.data.checking.repair FOLDER_fixed --into FOLDER``."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from paddlex_seg.data.checking.repair.repaired_copy import write_document
from paddlex_seg.data.checking.repair.undo import undo_repair
from paddlex_seg.streams import make_standard_streams_last


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the annotation files from before the repair."""
    make_standard_streams_last()
    parser = argparse.ArgumentParser(
        prog="python -m paddlex_seg.data.checking.repair",
        description="Undo a repair: write the annotation files from before the repair.",
    )
    parser.add_argument("repaired", type=Path, help="folder of the repaired copy")
    parser.add_argument("--into", type=Path, required=True, help="folder for the annotation files")
    options = parser.parse_args(arguments)
    options.into.mkdir(parents=True, exist_ok=True)
    for name, document in undo_repair(options.repaired).items():
        write_document(document, options.into / name)
        print(f"wrote {options.into / name}")


if __name__ == "__main__":
    main()
