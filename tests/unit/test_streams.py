"""JSON read piece by piece: the same values as `json`, in bounded memory."""

import json
import random

import pytest

from kdpose_jax.untrusted import bounds, streams


def written(tmp_path, content, encoding="utf-8"):
    path = tmp_path / "a.json"
    path.write_bytes(content.encode(encoding))
    return str(path)


def as_document(pieces):
    """Puts the pieces together again."""
    if len(pieces) == 1 and pieces[0].key is None and not pieces[0].in_list:
        return pieces[0].value
    if all(piece.key is None for piece in pieces) and pieces:
        return [piece.value for piece in pieces]
    document = {}
    for piece in pieces:
        if piece.in_list:
            document.setdefault(piece.key, []).append(piece.value)
        else:
            document[piece.key] = piece.value
    return document


DOCUMENTS = [
    [1, 2.5, -3e7, "x", None, True, [], {}, [[1], {"a": [2]}]],
    {"a": [1, 2, {"b": 3}], "c": {"d": []}, "e": [], "f": "ü\u2028", "g": 1},
    [{"keypoints": [0.125] * 51, "image_id": "0.jpg"}] * 50,
    7,
    "text",
    [123456789],
]


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64, 2**20])
@pytest.mark.parametrize("document", DOCUMENTS)
def test_values_are_those_of_json(document, chunk, tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "_CHUNK", chunk)
    for indent in (None, 2):
        path = written(tmp_path, json.dumps(document, indent=indent))
        assert as_document(list(streams.pieces(path))) == document


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings(encoding, tmp_path):
    path = written(tmp_path, json.dumps([{"ä": 1}], ensure_ascii=False), encoding)
    assert streams.starts_like_json(path)
    assert [piece.value for piece in streams.pieces(path)] == [{"ä": 1}]


@pytest.mark.parametrize("chunk", [1, 5, 2**20])
@pytest.mark.parametrize(
    "text",
    ["", "[", "[1", "[1,", "[1 2]", "[1,]", "{", '{"a"', '{"a":', '{"a": 1', '{"a": 1,}', "{1: 2}",
     '{"a": 1} {}', "[1] 2", '{"a": 1, "a": 2}', '[{"a": 1, "a": 2}]', "nul", "[tru]", '["x]',
     "[01]", "[1.]", '{"a" 1}', '{"a": [1, }', "]"],
)  # fmt: skip
def test_what_is_not_json(text, chunk, tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "_CHUNK", chunk)
    with pytest.raises(ValueError):
        list(streams.pieces(written(tmp_path, text)))


def test_nan_and_infinity_are_read(tmp_path):
    values = [piece.value for piece in streams.pieces(written(tmp_path, "[NaN, -Infinity]"))]
    assert str(values) == "[nan, -inf]"


def test_parts_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "JSON_PART", 1000)
    monkeypatch.setattr(streams, "_CHUNK", 100)
    path = written(tmp_path, json.dumps([[1] * 5000]))
    with pytest.raises(ValueError, match="no value ends within 1,000 characters from character 1"):
        list(streams.pieces(path))
    path = written(tmp_path, json.dumps([1] * 5000))
    assert len(list(streams.pieces(path))) == 5000


def test_deep_nesting_is_refused(tmp_path):
    with pytest.raises(ValueError):
        list(streams.pieces(written(tmp_path, "[" * 200_000)))


def test_random_documents(tmp_path, monkeypatch):
    generator = random.Random(5)

    def value(depth):
        kind = generator.randrange(7 if depth else 4)
        if kind < 4:
            return (None, generator.random() * 1e3, generator.randrange(-(10**9), 10**9), 'a"\\,]')[
                kind
            ]
        if kind == 4:
            return {f"k{n}": value(depth - 1) for n in range(generator.randrange(4))}
        return [value(depth - 1) for _ in range(generator.randrange(4))]

    for _ in range(200):
        monkeypatch.setattr(streams, "_CHUNK", generator.randrange(1, 30))
        document = value(3)
        found = as_document(list(streams.pieces(written(tmp_path, json.dumps(document)))))
        assert found == document or (not document and not found)
