"""The result of reading another annotation format: the data set as COCO in memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from paddlex_seg.data.findings import Finding
from paddlex_seg.structures import CocoFile

ALL = "all"  # name of the only split of a source without train and val


@dataclass(frozen=True)
class Conversion:
    """A data set read from another format.

    ``splits`` has the splits of the source: ``train``, ``val`` and perhaps ``test``. If the source defines no
    splits, the only key is ``all``. All splits list the same categories. A file that could not be read is
    reported as a finding and is not in the splits.
    """

    splits: Mapping[str, CocoFile]
    findings: tuple[Finding, ...] = ()
    # Images that are not at images/<file_name> yet: file_name to current path or content.
    images: Mapping[str, Path | bytes] = field(default_factory=dict)
    # file_name to the line in a list file that names its annotations; empty for formats without list files.
    list_lines: Mapping[str, str] = field(default_factory=dict)
