"""The errors of a conversion, kept in the data set that it wrote.

What could not be read is missing in the converted data set. So every check and every training reports these
errors again, until a conversion without errors removes the file.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from paddlex_seg.data.findings import Finding, finding

ERRORS_FILE = "conversion_errors.json"
_KEYS = ("code", "file", "message", "hint")
_HINT = (
    f"The conversion noted this in {ERRORS_FILE}. Convert again when it is mended, or give that file another "
    "name to use the data set without what is missing."
)


def errors_to_json(findings: Iterable[Finding]) -> bytes | None:
    """The content of the file; None if no finding is an error, so that there is no file."""
    errors = [{key: getattr(item, key) for key in _KEYS} for item in findings if item.severity == "error"]
    if not errors:
        return None
    return (json.dumps(errors, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def conversion_errors(root: Path) -> list[Finding]:
    """The errors of the conversion that wrote the data set in ``root``; none if it had none."""
    try:
        content = (root / ERRORS_FILE).read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        return [finding("source_unreadable", ERRORS_FILE, f"the file cannot be read ({error.strerror})")]
    try:
        return [
            finding(item["code"], item["file"], item["message"], hint=f"{item['hint']} {_HINT}")
            for item in json.loads(content)
        ]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        message = f"the errors of the conversion cannot be read ({error!r})"
        return [finding("source_unreadable", ERRORS_FILE, message, hint=_HINT)]
