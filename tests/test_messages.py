"""What messages may not say."""

import ast
import re
from pathlib import Path

import pytest

import paddlex_seg

PACKAGE = Path(paddlex_seg.__file__).parent
# The user's files are the user's: a message says what a file is and what to use instead.
DESTRUCTION = re.compile(
    r"(?<!-)\b(delete|erase|wipe|overwrite|discard)\b"
    r"|\bremove (them|it|the (image )?(file|folder|checkpoint|data))\b(?! from the categories)",
    re.IGNORECASE,
)
ALLOWED = ("remove it", "Remove it")  # of a configuration key, or of a polygon in an annotation
FILES = sorted(PACKAGE.rglob("*.py"))


def texts(source: str) -> list[str]:
    """All string literals but docstrings and single words."""
    tree = ast.parse(source)
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and " " in node.value
        and id(node) not in docstrings
    ]


def orders(source: str) -> list[str]:
    return [text for text in texts(source) if (found := DESTRUCTION.search(text)) and found[0] not in ALLOWED]


def test_no_message_orders_a_destruction() -> None:
    assert len(FILES) > 100
    assert {path.name: found for path in FILES if (found := orders(path.read_text(encoding="utf-8")))} == {}


@pytest.mark.parametrize(
    "text", ["Delete it and fetch the weights again.", "or remove the file, and go on", "Overwrite it."]
)
def test_such_messages_would_be_found(text: str) -> None:
    assert orders(f"def f():\n    'Delete it, a docstring.'\n    raise ValueError(f{text!r})") == [text]
