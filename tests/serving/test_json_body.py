"""Bodies in JSON are parsed as usual, and never deeply, slowly or into values that JSON does not have."""

import base64
import json

import pytest

from paddlex_seg.serving.json_body import parse_json
from paddlex_seg.serving.problems import RequestProblem

MILLION = 1_000_000


@pytest.mark.parametrize(
    "text",
    [
        '{"image": "aGVsbG8=", "threshold": 0.5, "visualize": false, "logId": null}',
        "[1, -2, 3.5, -1e-7, 1E+20, 18446744073709551615, -9223372036854775808]",
        '"a text with [ { \\" \\\\ and \\u00e9 é 😀 \\ud83d\\ude00"',
        '{"\\\\": ["\\\\\\"", "]]]]"], "": {}}',
        " \n\t[ ]\r\n",
        "true",
        "[[[[[]]]]]",
    ],
)
def test_json_is_parsed(text: str) -> None:
    assert parse_json(text.encode(), 5) == json.loads(text)


def test_a_byte_order_mark_is_allowed_and_the_last_of_equal_keys_counts() -> None:
    assert parse_json(b'\xef\xbb\xbf{"a": 1, "a": 2}', 5) == {"a": 2}


def test_quotes_and_brackets_in_texts_do_not_count() -> None:
    assert parse_json(json.dumps({"a": '["{' * 500_000}).encode(), 1)["a"].startswith('["{["{')


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "line 1, column 1: expecting value"),
        (b'{"a": }', "line 1, column 7"),
        (b'{"a": 1,\n "b" 2}', "line 2, column 6"),
        (b"{'a': 1}", "column 2"),
        (b'["\n"]', "invalid control character"),
        (b'["open', "unterminated string"),
        (b"[1] x", "extra data"),
        (b'"\xff"', "byte 2 is not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "byte 1 is not UTF-8"),
        (b"[NaN]", "NaN is not a number"),
        (b"[Infinity]", "Infinity is not a number"),
        (b"[-Infinity]", "-Infinity is not a number"),
        (b"[1e999]", "1e999 is not a finite number"),
        (b"[-1e999]", "not a finite number"),
        (b"[0." + b"1" * 5000 + b"]", "not a finite number"),
        (b"[18446744073709551616]", "18446744073709551616 has more than 64 bits"),
        (b"[-9223372036854775809]", "more than 64 bits"),
        (b"[" + b"9" * 5000 + b"]", "99999999999999999999... has more than 64 bits"),
        (b'"\\ud800"', "half of a surrogate pair"),
        (b'{"\\uDFFF": 1}', "half of a surrogate pair"),
        (b"[[[[[[1]]]]]]", "nested deeper than 5"),
        (b'{"a":{"a":{"a":{"a":{"a":{}}}}}}', "nested deeper than 5"),
        (b'["\\\\",[[[[[1]]]]]]', "nested deeper than 5"),
        (b"]" * 100 + b"[" * 100, "expecting value"),
    ],
)
def test_what_is_no_usable_json_is_an_error_with_its_place(body: bytes, words: str) -> None:
    with pytest.raises(RequestProblem) as caught:
        parse_json(body, 5)
    assert caught.value.status == 400 and words in caught.value.message
    assert len(caught.value.message) < 300


HOSTILE = {
    "brackets": b"[" * 30 * MILLION,
    "objects": b'{"a":' * 6 * MILLION,
    "lists": b"[" + b"[],[]," * 5 * MILLION + b"1]",
    "numbers": b"[" + b"1," * 15 * MILLION + b"1]",
    "texts": b"[" + b'"",' * 10 * MILLION + b"1]",
    "quotes": b'"' * 30 * MILLION,
    "backslashes": b"\\" * 30 * MILLION,
    "escaped quotes": b'"' + b'\\"' * 15 * MILLION,
    "open text of backslashes": b'"' + b"\\\\" * 15 * MILLION,
    "digits": b"9" * 30 * MILLION,
    "digits of a fraction": b"0." + b"1" * 30 * MILLION,
    "spaces": b" " * 30 * MILLION,
    "zero bytes": bytes(30 * MILLION),
    "wrong UTF-8": b'"' + b"\xc3\x28" * 15 * MILLION,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bodies_of_30_mb_are_refused(name: str) -> None:
    with pytest.raises(RequestProblem) as caught:
        parse_json(HOSTILE[name], 64)
    assert caught.value.status == 400


def test_a_large_image_in_base64_is_parsed() -> None:
    text = base64.b64encode(bytes(20 * MILLION)).decode()
    assert parse_json(json.dumps({"image": text}).encode(), 5) == {"image": text}
