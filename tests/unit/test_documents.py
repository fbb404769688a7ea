"""JSON of users: letters of every kind, and keys that stand twice."""

import json
import math

import pytest

from kdpose_jax.untrusted import documents

VALUE = {"S1": [{"name": "Hüfte", "x": 0.5}], "n": 2**60}


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
def test_letters_of_every_kind(tmp_path, encoding):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(VALUE, ensure_ascii=False), encoding=encoding)
    assert documents.load_json(path) == VALUE == documents.parse_json(path.read_bytes())


def test_a_text_with_its_mark():
    assert documents.parse_json("\ufeff[1]") == [1]


@pytest.mark.parametrize(("content", "message"), [
    (b'{"S1": [1], "S2": [], "S1": [2]}', "the key 'S1' stands twice in one object"),
    (b'[{"a": {"id": 1, "\\u0069d": 1}}]', "the key 'id' stands twice"),
    (b'{"name": "H\xfcfte"}', "can't decode byte 0xfc"),
    (b"[" * 100_000, "nested too deeply"),
    (b"1" * 5000, "4300 digits"),
    (b"", "Expecting value"),
    ("[1".encode("utf-16"), "Expecting"),
])  # fmt: skip
def test_what_is_not_json(content, message):
    with pytest.raises(ValueError, match=message):
        documents.parse_json(content)


def test_the_same_key_in_two_objects_and_numbers_of_a_run_that_diverged():
    found = documents.parse_json('[{"a": NaN}, {"a": -Infinity}]')
    assert math.isnan(found[0]["a"]) and found[1]["a"] == -math.inf
