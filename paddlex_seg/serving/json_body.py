"""Bodies in JSON, from senders who may want to keep the parser busy or its stack full."""

import json
import math
import re
from typing import Any

from paddlex_seg.serving.problems import RequestProblem

_MOST_PARTS = 100_000  # brackets, commas and colons
_MOST_DIGITS = 400  # of a number; the longest float64 has 309 before its point
_LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse_json(body: bytes, max_depth: int) -> Any:
    """The value of a JSON text in UTF-8. Of equal keys, the last one counts.

    max_depth: how deep lists and objects may be nested. Raises RequestProblem 400 for anything that is no
    JSON, deeper, of more than 100,000 parts, or has numbers that are not finite or whole ones of more than 64
    bits.
    """
    _check_parts(body, max_depth)
    try:
        text = body.decode("utf-8-sig")
        value = json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_refuse_constant)
        if _LONE_SURROGATE.search(body):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise _refusal(f"byte {error.start + 1} is not UTF-8") from error
    except UnicodeEncodeError as error:
        raise _refusal(f"it has half of a surrogate pair, {error.object[error.start]!r}") from error
    except json.JSONDecodeError as error:
        message = error.msg[:1].lower() + error.msg[1:]
        raise _refusal(f"line {error.lineno}, column {error.colno}: {message}") from error
    return value


def _refusal(reason: str) -> RequestProblem:
    return RequestProblem(400, f"the body is not usable as JSON: {reason}")


def _check_parts(body: bytes, max_depth: int) -> None:
    """Depth and number of parts, before the text is parsed."""
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")  # quotes that are left begin or end a text
    if plain.count(b'"') > 2 * _MOST_PARTS:
        raise _refusal(f"it has more than {_MOST_PARTS:,} texts")
    outside = b"".join(plain.split(b'"')[::2])
    parts = outside.translate(None, _NOT_STRUCTURAL)
    if len(parts) > _MOST_PARTS:
        raise _refusal(f"it has more than {_MOST_PARTS:,} brackets, commas and colons")
    depth = 0
    for part in parts:
        depth += (part in b"[{") - (part in b"]}")
        if depth > max_depth:
            raise _refusal(f"its lists and objects are nested deeper than {max_depth}")


_NOT_STRUCTURAL = bytes(set(range(256)) - set(b"[]{},:"))


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS or not -(2**63) <= (value := int(digits)) < 2**64:
        raise _refusal(f"{_short(digits)} has more than 64 bits")
    return value


def _finite(digits: str) -> float:
    if len(digits) > _MOST_DIGITS or not math.isfinite(value := float(digits)):
        raise _refusal(f"{_short(digits)} is not a finite number of at most {_MOST_DIGITS} digits")
    return value


def _refuse_constant(name: str) -> None:
    raise _refusal(f"{name} is not a number in JSON")


def _short(digits: str) -> str:
    return digits if len(digits) <= 24 else f"{digits[:20]}..."
