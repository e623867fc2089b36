"""Read YAML without guessing types: a scalar is the text that stands there, and only null is told apart.

YAML reads `1.10` as 1.1, `007` as 7, `no` as false and `2024-11-26` as a date. Here the type of a key decides
instead (values.py), so that the name of a folder stays what the user wrote.
"""

import codecs
import re
import unicodedata
from pathlib import Path
from typing import Any

import yaml

NULL_WORDS = ("None", "null", "Null", "NULL", "~")  # "None" is PaddleX's
_NULL_PATTERN = re.compile(f"(?:{'|'.join(NULL_WORDS)}|)$")
_NULL, _MERGE, _TEXT, _LIST, _MAPPING = (
    f"tag:yaml.org,2002:{kind}" for kind in ("null", "merge", "str", "seq", "map")
)
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark begins alike
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class YamlError(ValueError):
    """A text cannot be read as YAML. ``problems``: the number of the line (1 is the first), what is wrong."""

    def __init__(self, *problems: tuple[int, str]):
        super().__init__(" ".join(text for _, text in problems))
        self.problems = problems


class DuplicateKeyError(YamlError):
    """A mapping has a key twice."""


class _TextLoader(yaml.SafeLoader):
    """Takes scalars and keys as text, and notes keys that stand twice in a mapping."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    yaml_constructors = {
        tag: yaml.SafeLoader.yaml_constructors[tag] for tag in (_NULL, _TEXT, _LIST, _MAPPING, None)
    }

    def __init__(self, text: str):
        super().__init__(text)
        self.duplicates: list[tuple[int, str]] = []

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise YamlError((line, "a key must be a word, not a list or a mapping."))
            if key.tag != _MERGE:
                key.tag = _TEXT
            if key.value in lines:
                first = lines[key.value]
                place = f", in line {first} and in line {line}" if first != line else ""
                self.duplicates.append((line, f"{key.value} is given twice{place}. Keep one of them."))
            lines.setdefault(key.value, line)
        return node


_TextLoader.add_implicit_resolver(_NULL, _NULL_PATTERN, ["~", "n", "N", ""])
_TextLoader.add_implicit_resolver(_MERGE, re.compile("<<$"), ["<"])


class _ValueLoader(_TextLoader):
    """For the command line, where ``[*.jpg]`` is a list of a pattern and not of a YAML alias."""

    fetch_alias = fetch_anchor = fetch_tag = yaml.SafeLoader.fetch_plain


class _Dumper(yaml.SafeDumper):
    """Quotes each text that another reader of YAML, or `parse_yaml`, would take for something else."""


_Dumper.add_implicit_resolver(_NULL, _NULL_PATTERN, ["N"])


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark.

    Raises YamlError for another encoding or a binary file, and OSError.
    """
    data = path.read_bytes()
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), "utf-8")
    save_again = "Save it again as UTF-8 (in an editor: Save as, encoding UTF-8)."
    if encoding == "utf-8" and b"\0" in data:
        if max(data[0::2].count(0), data[1::2].count(0)) > len(data) / 4:
            raise YamlError((1, f"the text seems to be UTF-16 without a byte order mark. {save_again}"))
        raise YamlError((data[: data.index(0)].count(b"\n") + 1, "found a zero byte; this is no text file."))
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        found = f"byte 0x{data[error.start]:02x} is not {encoding.removesuffix('-sig').upper()}"
        raise YamlError(
            (line, f"{found}. The file seems to be in another encoding, such as GBK. {save_again}")
        ) from None


def parse_yaml(text: str) -> Any:
    """The content: dict, list, str and None, each text as it was written. Raises YamlError."""
    return _load(text, _TextLoader)


def parse_value(text: str) -> Any:
    """`parse_yaml` for a value on the command line, which has no aliases, anchors and tags."""
    return _load(text, _ValueLoader)


def key_lines(text: str) -> dict[str, int]:
    """Where each key of a YAML text stands: ``Train.batch_size`` -> number of the line. Raises YamlError."""
    lines: dict[str, int] = {}
    try:
        _note_lines(_TextLoader(text).get_single_node(), (), lines)
    except yaml.YAMLError as error:
        raise YamlError(_explain(error, text)) from None
    return lines


def dump_yaml(content: Any) -> str:
    """YAML that `parse_yaml` reads back with the same texts."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def full_width_hint(text: str) -> str:
    """`` Write ... instead of ...`` for the first full-width sign in a text; empty if there is none."""
    for sign in text:
        plain = unicodedata.normalize("NFKC", sign)
        if not sign.isascii() and plain.isascii():
            return f" Write {plain!r} instead of {sign!r} (U+{ord(sign):04X})."
    return ""


def colon_hint(text: str) -> str:
    """`` Write a space after the colon`` for ``key:value``, which YAML takes for one word; else empty."""
    found = re.search(r"(?:^\s*|[{,]\s*)([\w.*-]+):([^\s/\\:,{}]+)", text)
    return f" Write a space after the colon: {found[1]}: {found[2]}." if found else ""


def _load(text: str, kind: type[_TextLoader]) -> Any:
    try:
        loader = kind(text)
        content = loader.get_single_data()
    except yaml.YAMLError as error:
        raise YamlError(_explain(error, text)) from None
    except RecursionError:
        raise YamlError((1, "lists or mappings are nested too deeply.")) from None
    if loader.duplicates:
        raise DuplicateKeyError(*loader.duplicates)
    return content


def _explain(error: yaml.YAMLError, text: str) -> tuple[int, str]:
    if isinstance(error, yaml.reader.ReaderError):
        line = text[: error.position].count("\n") + 1
        return line, f"found the control character U+{error.character:04X}; this is no YAML text."
    assert isinstance(error, yaml.MarkedYAMLError)
    mark, problem = error.problem_mark or error.context_mark, error.problem or str(error)
    line = mark.line + 1 if mark else 1
    message = f"this is not YAML: {f'{error.context}: ' if error.context else ''}{problem}."
    if "'\\t'" in problem:
        return line, f"{message} Replace the tab by spaces."
    if "cannot start any token" in problem or "alias" in (error.context or problem):
        return line, f"{message} Put a text with such a character into quotes."
    if "for the tag" in problem:
        return line, f"{message} Remove the tag."
    for number, near in list(enumerate(text.splitlines(), start=1))[max(0, line - 3) : line][::-1]:
        if hint := full_width_hint(near) or colon_hint(near):
            return line, f"{message} In line {number}:{hint}"
    return line, message


def _note_lines(node: Any, prefix: tuple[str, ...], lines: dict[str, int]) -> None:
    if isinstance(node, yaml.MappingNode) and len(prefix) < 4:  # deeper keys exist only by aliases
        for key, value in node.value:
            path = (*prefix, key.value)
            lines.setdefault(".".join(path), key.start_mark.line + 1)
            _note_lines(value, path, lines)
