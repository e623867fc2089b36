"""What a reader of another annotation format gives: the data set as COCO, nothing written yet."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from paddlex_seg.data.findings import Finding
from paddlex_seg.structures import CocoFile

ALL = "all"  # the split of a source that does not say what is for training


@dataclass(frozen=True)
class Conversion:
    """A data set read from another format.

    ``splits`` has the keys ``train``, ``val`` and perhaps ``test``, as far as the source says so, else the
    one key ``all``. All of them list the same categories. A file that could not be read is a finding, and
    absent here.
    """

    splits: Mapping[str, CocoFile]
    findings: tuple[Finding, ...] = ()
    # Images that do not lie at images/<file_name> yet, by file_name: where they lie, or their bytes.
    images: Mapping[str, Path | bytes] = field(default_factory=dict)
    # By file_name, the line that names its annotations in a list file; empty for formats without list files.
    list_lines: Mapping[str, str] = field(default_factory=dict)
