"""Files that people bring: every record with its line, every fault in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgellm import records
from edgellm.errors import UsageError
from edgellm.records import Record


def read(folder: Path, name: str, data: bytes | str) -> list[Record]:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return list(records.read(path))


def test_json_lines_know_their_lines(tmp_path: Path) -> None:
    found = read(tmp_path, "x.jsonl", '\ufeff{"a": 1}\n\n{"a": "\u2028"}\r\n{"a": 3}')
    assert found == [Record(1, {"a": 1}), Record(3, {"a": "\u2028"}), Record(4, {"a": 3})]


def test_a_json_list_knows_the_lines_of_its_elements(tmp_path: Path) -> None:
    found = read(tmp_path, "x.json", '[\n {"a": 1},\n {"a":\n 2}, {"a": 3},\n\n 7]')
    assert [record.line for record in found] == [2, 3, 4, 6]
    assert found[-1].fault == "is a number, not an object"


def test_a_json_file_of_lines_is_read_as_lines(tmp_path: Path) -> None:
    assert read(tmp_path, "x.json", '{"a": 1}\n{"a": 2}\n') == [Record(1, {"a": 1}), Record(2, {"a": 2})]


def test_table_rows_with_line_breaks_keep_the_line_they_begin_at(tmp_path: Path) -> None:
    found = read(tmp_path, "x.csv", 'text,n\r\n"two\nlines",1\r\nplain,2\r\n')
    assert found == [Record(2, {"text": "two\nlines", "n": "1"}), Record(4, {"text": "plain", "n": "2"})]
    assert read(tmp_path, "x.tsv", "text\tn\na, b\t1\n") == [Record(2, {"text": "a, b", "n": "1"})]


def test_plain_text_comes_by_paragraphs(tmp_path: Path) -> None:
    found = read(tmp_path, "x.txt", "\none\ntwo\n\n  \nthree\n")
    assert found == [Record(2, {"text": "one\ntwo"}), Record(6, {"text": "three"})]


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"\xff\xfea\0", "UTF-16"), (b"\x1f\x8b\x08\0", "gzip"), (b"PK\3\4", "zip"), (b"BZh9", "bzip2")],
)
def test_what_is_no_text_is_refused_by_name(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read(tmp_path, "x.jsonl", data)


def test_a_monstrous_line_is_a_fault_and_the_next_is_read(tmp_path: Path) -> None:
    found = read(tmp_path, "x.jsonl", b'{"a": "' + b"x" * (70 << 20) + b'"}\n{"a": 1}\n')
    assert [record.fault for record in found] == ["is longer than 32 MiB", ""]


@given(st.binary(max_size=200), st.sampled_from(records.SUFFIXES))
def test_nothing_surprises(tmp_path_factory: pytest.TempPathFactory, data: bytes, suffix: str) -> None:
    try:
        found = read(tmp_path_factory.getbasetemp(), "any" + suffix, data)
    except UsageError:
        return
    assert all(record.line >= 1 and (record.fault == "" or not record.values) for record in found)
