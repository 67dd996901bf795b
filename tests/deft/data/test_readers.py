import datetime as dt
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from deft.data.blocks import array_elements
from deft.data.readers import open_source
from deft.data.row_checks import BadRow
from deft.errors import DeftError, InvalidRows, TooLarge
from deft.strict_json import parse

ROWS = [{"prompt": 'a "quoted"\n\u2028 [line], {x}', "n": 1}, {"prompt": "ü\\", "n": None}]
LINES = [json.dumps(row, ensure_ascii=False).encode() for row in ROWS]
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def read(path: Path, **caps: int) -> list[tuple[int, Any]]:
    return list(open_source(path, **caps).records)


def write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "data", "container", "lines"),
    [
        ("a.jsonl", b"\n".join(LINES) + b"\n", "jsonl", [1, 2]),
        ("a.jsonl", b"\n".join(LINES), "jsonl", [1, 2]),
        ("a.jsonl", b"\r\n".join(LINES) + b"\r\n", "jsonl", [1, 2]),
        ("a.jsonl", b"\xef\xbb\xbf" + b"\n".join(LINES), "jsonl", [1, 2]),
        ("a.jsonl", b"\n" + LINES[0] + b"\n  \n\n" + LINES[1], "jsonl", [2, 5]),
        ("a.json", b"\n".join(LINES), "jsonl", [1, 2]),
        ("A.csv.JSONL", b"\n".join(LINES), "jsonl", [1, 2]),
        ("upload", b"\n".join(LINES), "jsonl", [1, 2]),
        ("a.jsonl", b"[" + b",".join(LINES) + b"]", "json", [1, 2]),
        ("a.json", b"\xef\xbb\xbf [\r\n" + b" ,\r\n".join(LINES) + b"\r\n]\r\n", "json", [1, 2]),
        ("a.jsonl.gz", gzip.compress(b"\n".join(LINES), mtime=0), "jsonl", [1, 2]),
        ("a.jsonl.gz", gzip.compress(LINES[0] + b"\n", mtime=0) + gzip.compress(LINES[1], mtime=0), "jsonl", [1, 2]),
        ("a.json.gz", gzip.compress(b"[" + b",".join(LINES) + b"]", mtime=0), "json", [1, 2]),
        ("a.jsonl.zst", zstandard.compress(b"\n".join(LINES)), "jsonl", [1, 2]),
        ("named_otherwise", zstandard.compress(b"\n".join(LINES)), "jsonl", [1, 2]),
    ],
)
def test_text_files_give_their_rows(tmp_path: Path, name: str, data: bytes, container: str, lines: list[int]) -> None:
    source = open_source(write(tmp_path, name, data))
    assert (source.container, source.is_typed) == (container, True)
    assert list(source.records) == list(zip(lines, ROWS, strict=True))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.tsv", "\t"), ("a.csv.gz", ",")])
def test_csv_keeps_quoted_newlines_and_says_the_line_on_which_a_row_begins(
    tmp_path: Path, name: str, delimiter: str, end: str
) -> None:
    rows = [["prompt", "chosen"], ['"two' + end + 'lines"', '"a ""quote"" ' + delimiter + '"'], ["x", ""]]
    data = ("\ufeff" + end.join(delimiter.join(row) for row in rows)).encode()
    source = open_source(write(tmp_path, name, gzip.compress(data) if name.endswith("gz") else data))
    assert source.container == name[2:5]
    assert source.is_typed is False
    expected = {"prompt": f"two{end}lines", "chosen": f'a "quote" {delimiter}'}
    assert list(source.records) == [(2, expected), (4, {"prompt": "x", "chosen": ""})]


def test_long_cells_are_read(tmp_path: Path) -> None:
    text = "x" * 200_000
    assert read(write(tmp_path, "a.csv", f"prompt\n{text}\n".encode())) == [(2, {"prompt": text})]


def test_parquet_and_both_kinds_of_arrow(tmp_path: Path) -> None:
    rows = [{"prompt": [{"role": "user", "content": "x"}], "n": row} for row in range(3000)]
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=700)
    with pa.ipc.new_stream(str(tmp_path / "stream.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=900)
    with pa.ipc.new_file(str(tmp_path / "file.arrow"), table.schema) as writer:
        writer.write_table(table)
    for name in ("a.parquet", "stream.arrow", "file.arrow"):
        assert read(tmp_path / name) == list(enumerate(rows, start=1))


@pytest.mark.parametrize(
    ("data", "code", "found"),
    [
        (b'{"a": NaN}', "number_range", "NaN"),
        (b'{"a": -Infinity}', "number_range", "-Infinity"),
        (b'{"a": 1e999}', "number_range", "too large"),
        (b'{"a": [1, -1e999]}', "number_range", "too large"),
        (b'{"a": -1.5e-400}', "number_range", "too small"),
        (b'{"a": 0.%s1}' % (b"0" * 330), "number_range", "too small"),
        (b'{"a": 1, "a": 2}', "duplicate_key", "the key a twice"),
        (b'{"a":1,"a":2}', "duplicate_key", "the key a twice"),
        (b'{"a" :1,"a":2}', "duplicate_key", "the key a twice"),
        (b'{"a":1,"\\u0061":2}', "duplicate_key", "the key a twice"),
        (b'{"a":"\\u0022\\u0022","a":"\\u0022\\u0022"}', "duplicate_key", "the key a twice"),
        (b'{"a":"","b":"\\u0022\\u0022","a":0}', "duplicate_key", "the key a twice"),
        (b'{"x": [{"b\\n":1, "b\\n":2}]}', "duplicate_key", "the key b\\n twice"),
        (b'{"a": "\\ud800"}', "lone_surrogate", "character"),
        (b'{"a": "\xe9"}', "wrong_encoding", "0xe9 at byte 8"),
        (b'{"a": "\xed\xa0\x80"}', "wrong_encoding", "0xed"),
        (b'{"a": 1', "malformed_json", "at character"),
        (b'{"a": "\t"}', "malformed_json", "control character"),
        (b"{'a': 1}", "malformed_json", "at character 2"),
        (b'{"a": 1} trailing', "malformed_json", "at character 10"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "too_deep", "32"),
        (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", "too_deep", "1,024"),
    ],
)
def test_a_bad_line_stands_as_its_trouble_between_good_ones(tmp_path: Path, data: bytes, code: str, found: str) -> None:
    good = b'{"a": 1}'
    for name, joined, numbers in (
        ("a.jsonl", b"\n".join([good, data, good]), [1, 2, 3]),
        ("a.json", b"[" + b",".join([good, data, good]) + b"]", [1, 2, 3]),
    ):
        if name == "a.json" and data.count(b"{") != data.count(b"}"):
            continue  # then the array itself has no end: another test
        records = read(write(tmp_path, name, joined))
        assert [line for line, _ in records] == numbers
        assert [value for _, value in records[::2]] == [{"a": 1}] * 2
        bad = records[1][1]
        assert isinstance(bad, BadRow)
        assert bad.code == code
        assert found in bad.found
        assert len(bad.found) < 200


@pytest.mark.parametrize(
    "text",
    [
        b'{"\\"a": "\\u0022", "b": "\\\\\\""}',
        b'{"a": ":", "b" : "\\":"}',
        b'{"a":{"a":[{"a":1}]},"b":" :"}',
        b'{"":""}',
    ],
)
def test_colons_and_quotes_within_texts_are_no_duplicate_keys(tmp_path: Path, text: bytes) -> None:
    assert read(write(tmp_path, "a.jsonl", text)) == [(1, json.loads(text))]


GZ = gzip.compress(b"\n".join(LINES * 400), mtime=0)  # the same bytes, and so test names, in every process
ZST = zstandard.compress(b"\n".join(LINES * 400))


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("a.jsonl.gz", GZ[:-9], "damaged_compression"),
        ("a.jsonl.gz", GZ[:40] + b"\0\0\0\0" + GZ[44:], "damaged_compression"),
        ("a.jsonl.gz", GZ[:-8] + b"\0" * 8, "damaged_compression"),
        ("a.jsonl.gz", b"\n".join(LINES), "unknown_compression"),
        ("a.jsonl.gz", b"", "unknown_compression"),
        ("a.jsonl.zst", ZST[:-5], "damaged_compression"),
        ("a.zip", b"PK\x03\x04 and more", "unknown_compression"),
        ("a.jsonl", LINES[1].decode().encode("utf-16"), "wrong_encoding"),
        ("a.jsonl", LINES[1].decode().encode("utf-16-le"), "wrong_encoding"),
        ("a.csv", "prompt\nü".encode("utf-16"), "wrong_encoding"),
        ("a.csv", "prümpt\nx\n".encode("latin-1"), "wrong_encoding"),
        ("a.csv", b'prompt\n"x\n', "malformed_csv"),
        ("a.csv", b"prompt,prompt\nx,y\n", "duplicate_key"),
        ("a.csv", b"prompt\n" + b"x" * 3000 + b"\n", "malformed_csv"),
        ("a.json", b'[{"a": 1}, {"a"', "truncated"),
        ("a.json", b'[{"a": 1}', "truncated"),
        ("a.json", b'[{"a": 1}] [', "malformed_json"),
        ("a.json", b'[{"a": 1}}', "malformed_json"),
        ("a.jsonl.gz", gzip.compress(GZ, mtime=0), "compressed_twice"),
        ("a.parquet.gz", gzip.compress(b"PAR1 and more", mtime=0), "compressed_twice"),
        ("a.json", b'{\n "a": 1\n}', "unknown_container"),
        ("a.txt", b"some prose", "unknown_container"),
        ("a.jsonl", b'{"a": "' + b"x" * 3000 + b'"}', "record_too_long"),
        ("a.jsonl", b'{"a": 1}\n{"a": "' + b"x" * 3000 + b'"}\n{"a": 1}', "record_too_long"),
        ("a.json", b'[{"a": 1}, "' + b"x" * 3000 + b'"]', "record_too_long"),
        ("a.parquet", b"PAR1 and no more", "damaged_file"),
        ("a.arrow", b"no arrow file at all", "damaged_file"),
        ("a.arrow", b"", "damaged_file"),
    ],
)
def test_an_unreadable_file_is_refused_with_the_fix(tmp_path: Path, name: str, data: bytes, code: str) -> None:
    with pytest.raises(InvalidRows) as refusal:
        read(write(tmp_path, name, data), max_record_bytes=2000)
    (finding,) = refusal.value.findings
    assert (finding.code, refusal.value.error_code) == (code, code)
    assert finding.found
    assert finding.fix


@pytest.mark.parametrize(
    ("line", "code", "found", "number_of_lines"),
    [
        ("fünf,u".encode("latin-1"), "wrong_encoding", "the byte 0xfc", 1),
        (b'"x"y,u', "malformed_csv", "',' expected after '\"'", 1),
        (b'"x,u\n"v",w', "malformed_csv", "',' expected after '\"' in lines 3 to 4, all left out", 2),
        (b"x", "cell_count", "1 cells", 1),
    ],
)
def test_a_bad_line_of_a_csv_spoils_only_itself(
    tmp_path: Path, line: bytes, code: str, found: str, number_of_lines: int
) -> None:
    data = b"prompt,chosen\na,b\n" + line + b"\n" + "ü,d\n".encode() * 2
    (first, good), (second, bad), *rest = read(write(tmp_path, "a.csv", data))
    assert (first, good) == (2, {"prompt": "a", "chosen": "b"})
    assert isinstance(bad, BadRow)
    assert (second, bad.code, bad.found) == (3, code, found)
    assert rest == [(3 + number_of_lines + more, {"prompt": "ü", "chosen": "d"}) for more in range(2)]


def test_a_table_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([text]) for text in "pabc"], ["prompt", "chosen", "rejected", "chosen"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.ipc.new_stream(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    with pa.ipc.new_file(str(tmp_path / "b.arrow"), table.schema) as writer:
        writer.write_table(table)
    for name in ("a.parquet", "a.arrow", "b.arrow"):
        with pytest.raises(InvalidRows) as refusal:
            read(tmp_path / name)
        assert (refusal.value.error_code, refusal.value.findings[0].found) == (
            "duplicate_key",
            "the column chosen twice",
        )


@pytest.mark.parametrize(
    "column", [pa.array([2**30], pa.int32()).cast(pa.date32()), pa.array([2**62], pa.int64()).cast(pa.duration("s"))]
)
def test_values_that_python_cannot_hold_are_refused_with_their_column(tmp_path: Path, column: pa.Array) -> None:
    fine = pa.array([1] * 1500, pa.int32()).cast(pa.date32()) if pa.types.is_date(column.type) else None
    fine = pa.array([1] * 1500, pa.duration("s")) if fine is None else fine
    pq.write_table(pa.table({"when": pa.concat_arrays([fine, column])}), tmp_path / "a.parquet")
    *_, (before, good), (number, bad) = read(tmp_path / "a.parquet")
    assert (before, list(good), number) == (1500, ["when"], 1501)
    assert isinstance(bad, BadRow)
    assert (bad.code, bad.column) == ("value_range", "when")


def test_an_arrow_stream_without_its_end_is_refused(tmp_path: Path) -> None:
    table = pa.table({"prompt": ["x", "y"]})
    with pa.ipc.new_stream(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=1)
    whole = (tmp_path / "a.arrow").read_bytes()
    (tmp_path / "a.arrow").write_bytes(whole[:-8])
    with pytest.raises(InvalidRows, match="without its end"):
        read(tmp_path / "a.arrow")


def _nested(kind: pa.DataType, times: int) -> pa.DataType:
    return kind if times == 0 else pa.list_(_nested(kind, times - 1))


@pytest.mark.parametrize(
    "kind",
    [
        pa.map_(pa.string(), pa.binary()),
        pa.list_(pa.time64("ns")),
        pa.list_(pa.time64("us"), 1),
        pa.struct([("at", pa.timestamp("ns"))]),
        pa.list_(pa.dictionary(pa.int32(), pa.string())),
        pa.list_view(pa.string()),
        _nested(pa.int64(), 60),
    ],
    ids=lambda kind: str(kind)[:20],
)
def test_a_column_whose_values_could_change_is_refused(tmp_path: Path, kind: pa.DataType) -> None:
    table = pa.schema([("prompt", pa.string()), ("x", kind)]).empty_table()
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(InvalidRows, match="the column x of type") as refusal:
        read(tmp_path / "a.arrow")
    assert refusal.value.error_code == "unreadable_type"


def test_a_union_is_refused(tmp_path: Path) -> None:
    union = pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array(["a", "b"]), pa.array([b"c", b"d"])])
    table = pa.table({"x": union})
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(InvalidRows, match="the column x of type"):
        read(tmp_path / "a.arrow")


def test_two_arrow_streams_in_one_file_are_refused(tmp_path: Path) -> None:
    table = pa.table({"prompt": ["x", "y"]})
    with pa.ipc.new_stream(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    whole = (tmp_path / "a.arrow").read_bytes()
    assert len(read(tmp_path / "a.arrow")) == 2
    (tmp_path / "a.arrow").write_bytes(whole * 2)
    with pytest.raises(InvalidRows, match="after the end of an Arrow stream"):
        read(tmp_path / "a.arrow")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda a: a.dictionary_encode(),
        pc.run_end_encode,
        lambda a: pa.ExtensionArray.from_storage(pa.opaque(a.type, "t", "v"), a),
    ],
)
def test_nanoseconds_within_an_encoding_are_kept(tmp_path: Path, wrap: Any) -> None:
    column = wrap(pa.array([1_600_000_000_000_000_001], pa.timestamp("ns")))
    table = pa.table({"at": column})
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    assert read(tmp_path / "a.arrow")[0][1]["at"].endswith("40.000000001")


def test_times_finer_than_microseconds_lose_nothing(tmp_path: Path) -> None:
    fine, coarse = 1_600_000_000_000_000_001, 1_600_000_000_000_001_000
    for values, whole in (([fine, coarse], False), ([coarse], True)):
        columns = {
            "at": pa.array(values, pa.timestamp("ns")),
            "of": pa.array([value % 10**12 for value in values], pa.time64("ns")),
            "took": pa.array(values, pa.duration("ns")),
        }
        with pa.ipc.new_file(str(tmp_path / "a.arrow"), pa.table(columns).schema) as writer:
            writer.write_table(pa.table(columns))
        (_, row), *_ = read(tmp_path / "a.arrow")
        if whole:
            assert row["at"] == dt.datetime(2020, 9, 13, 12, 26, 40, 1)
            assert row["took"] == dt.timedelta(microseconds=coarse // 1000)
        else:
            assert row["at"].endswith("40.000000001")
            assert row["of"].endswith(".000000001")
            assert row["took"] == str(fine)


def test_numbers_next_to_zero_are_read(tmp_path: Path) -> None:
    data = b'{"a": [5e-324, 1e-300, 0e-400, -0.0E-999, 1e-00005], "b": "1e-400"}'
    assert read(write(tmp_path, "a.jsonl", data)) == [(1, {"a": [5e-324, 1e-300, 0.0, 0.0, 1e-5], "b": "1e-400"})]


def test_whole_numbers_keep_every_digit(tmp_path: Path) -> None:
    for number in (2**53 + 1, 2**63, 2**64, 123456789012345678901, -(2**70)):
        assert read(write(tmp_path, "a.jsonl", b'{"id": %d}' % number)) == [(1, {"id": number})]


def test_a_record_that_is_too_long_is_named_by_its_line(tmp_path: Path) -> None:
    data = b'{"a": 1}\n' * 4 + b'{"a": "' + b"x" * 3000
    with pytest.raises(InvalidRows) as refusal:
        read(write(tmp_path, "a.jsonl", data), max_record_bytes=2000)
    assert refusal.value.findings[0].line == 5


def test_cells_that_do_not_fit_the_header_are_that_rows_trouble(tmp_path: Path) -> None:
    records = read(write(tmp_path, "a.csv", b"a,b\n1,2\n1\n1,2,3\n3,4\n"))
    assert [getattr(value, "code", value) for _, value in records] == [
        {"a": "1", "b": "2"}, "cell_count", "cell_count", {"a": "3", "b": "4"},
    ]  # fmt: skip


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_a_decompression_bomb_stops_at_the_cap(tmp_path: Path, pack: Any) -> None:
    path = write(tmp_path, "a.jsonl.x", pack(b'{"a": 1}\n' * 1_000_000))
    with pytest.raises(TooLarge, match="more than 1,000,000 bytes"):
        read(path, max_bytes=1_000_000)


@pytest.mark.parametrize(
    ("encode", "entries"),
    [
        (lambda a: a.dictionary_encode(), 4000),
        (lambda a: a.cast(pa.string_view()), 4000),
        (lambda a: a.cast(pa.string_view()).dictionary_encode(), 4000),
        (lambda a: a.dictionary_encode(), 1),
        (pc.run_end_encode, 1),
    ],
    ids=["dictionary", "views", "dictionary of views", "one entry", "one run"],
)
def test_values_are_counted_once_however_they_are_stored(tmp_path: Path, encode: Any, entries: int) -> None:
    texts = [f"{row % entries:0500d}" for row in range(4000)]
    table = pa.table({"a": encode(pa.array(texts)).slice(0)})
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    assert [row["a"] for _, row in read(tmp_path / "a.arrow", max_bytes=2_200_000)] == texts
    with pytest.raises(TooLarge):
        read(tmp_path / "a.arrow", max_bytes=1_900_000)


def test_a_parquet_file_of_too_many_levels_is_not_called_damaged(tmp_path: Path) -> None:
    deep = pa.table({"prompt": pa.nulls(1, _nested(pa.string(), 50))})
    pq.write_table(deep, tmp_path / "a.parquet")
    with pytest.raises(InvalidRows) as refusal:
        read(tmp_path / "a.parquet")
    assert refusal.value.error_code == "unreadable_type"


def test_a_parquet_bomb_stops_at_the_cap(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": ["x" * 1000] * 20_000}), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 50_000
    with pytest.raises(TooLarge):
        read(tmp_path / "a.parquet", max_bytes=1_000_000)


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", 'c"', "d\\"]), JSON_VALUES), max_size=4), st.booleans(), st.booleans()
)
def test_duplicate_keys_are_found_whatever_the_values(
    pairs: list[tuple[str, Any]], is_hidden: bool, is_deep: bool
) -> None:
    cells = ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in pairs)
    document = f'[{{"x": {{{cells}}}}}]' if is_deep else f"{{{cells}}}"
    document = document.replace('\\"', "\\u0022") if is_hidden and "\\\\" not in document else document
    if len({key for key, _ in pairs}) == len(pairs):
        assert parse(document.encode()) == json.loads(document)
    else:
        with pytest.raises(BadRow, match="duplicate_key"):
            parse(document.encode())


@given(st.lists(JSON_VALUES, max_size=5), st.integers(1, 12), st.booleans())
def test_an_array_is_cut_into_its_elements_wherever_the_blocks_end(
    values: list[Any], size: int, is_ascii: bool
) -> None:
    data = json.dumps(values, ensure_ascii=is_ascii, indent=size % 3 or None).encode("utf-8", "surrogatepass")
    blocks = (data[start : start + size] for start in range(0, len(data), size))
    elements = [element for _, element in array_elements(blocks, 10**6)]
    assert [json.loads(element.decode("utf-8", "surrogatepass")) for element in elements] == values


@given(st.binary(max_size=200), st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.jsonl.gz", "a.parquet", "a.arrow"]))
def test_any_bytes_give_records_or_an_error_of_ours(tmp_path_factory: Any, data: bytes, name: str) -> None:
    path = write(tmp_path_factory.mktemp("fuzz"), name, data)
    try:
        records = read(path)
    except DeftError:
        return
    assert all(line >= 1 for line, _ in records)


def test_an_arrow_file_with_a_wrong_offset_is_refused_and_does_not_crash(tmp_path: Path) -> None:
    table = pa.table({"prompt": ["p"] * 30, "chosen": ["a chosen one"] * 30, "rejected": ["another"] * 30})
    path = tmp_path / "pairs.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    document = path.read_bytes()
    offsets = b"".join((12 * n).to_bytes(4, "little") for n in range(31))
    at = document.index(offsets) + 8
    path.write_bytes(document[:at] + (0x7FFFFFF0).to_bytes(4, "little") + document[at + 4 :])

    with pytest.raises(InvalidRows) as error:
        list(open_source(path).records)
    assert error.value.findings[0].code == "damaged_file"
