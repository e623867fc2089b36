"""Log messages about findings and repairs."""

import logging
from collections.abc import Mapping
from typing import Any

from paddlex_seg.data.checking.repair.repaired_copy import Repair
from paddlex_seg.data.findings import KINDS, Finding

_LOGGER = logging.getLogger(__name__)
_EXAMPLES_PER_CODE = 3


def log_findings(result: Mapping[str, Any]) -> None:
    """Log count and first examples of each code. Errors are skipped: a failed check lists them."""
    by_code: dict[str, list[Finding]] = {}
    for item in result["findings"]:
        by_code.setdefault(item["code"], []).append(Finding(**item))
    for code, count in result["finding_counts"].items():
        severity = KINDS[code].severity
        if severity == "error":
            continue
        examples = [
            f"  {str(finding).removesuffix(finding.hint).rstrip()}"
            for finding in by_code.get(code, [])[:_EXAMPLES_PER_CODE]
        ]
        more = [f"  ... and {count - len(examples)} more"] * (count > len(examples))
        text = "\n".join([f"{severity} {code} ({count}): {KINDS[code].meaning}", *examples, *more])
        _LOGGER.log(logging.WARNING if severity == "warning" else logging.INFO, text)


def log_repair(repair: Repair) -> None:
    """Log the folder of the repaired copy, and the number of repairs of each code."""
    if repair.written:
        _LOGGER.info(f"Repaired copy: {repair.root}. All changes are listed in {repair.log_file}.")
    else:
        _LOGGER.info(f"Repaired copy: {repair.root}. It is up to date; nothing was written.")
    for code, count in repair.counts.items():
        _LOGGER.info(f"repaired {code} ({count}): {KINDS[code].repair}")
    if repair.objects.count or repair.images.count:
        _LOGGER.warning(f"{repair.losses_text[:1].upper()}{repair.losses_text[1:]}.")
