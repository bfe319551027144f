"""The manifest: what is written is read back, and what Redis refuses is refused in its words."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.persistence.aof_manifest import (
    BASE,
    HISTORY,
    INCREMENTAL,
    AofFile,
    Manifest,
    ManifestError,
    format_manifest,
    manifest_name,
    parse_manifest,
    temporary_incremental_name,
)

NAME = "appendonly.aof"
INVALID = "Invalid AOF manifest file format"
TOO_LONG = "The AOF manifest file contains too long line"


def test_what_redis_writes() -> None:
    content = (
        b"file appendonly.aof.2.base.rdb seq 2 type b\n"
        b"file appendonly.aof.1.incr.aof seq 1 type h\n"
        b"file appendonly.aof.1.base.rdb seq 1 type h\n"
        b"file appendonly.aof.2.incr.aof seq 2 type i\n"
        b"file appendonly.aof.3.incr.aof seq 3 type i\n"
    )
    manifest = parse_manifest(content, NAME)
    assert manifest.base == AofFile("appendonly.aof.2.base.rdb", 2, BASE)
    assert [file.sequence for file in manifest.incremental] == [2, 3]
    assert [file.name for file in manifest.history] == [
        "appendonly.aof.1.incr.aof",
        "appendonly.aof.1.base.rdb",
    ]
    assert [file.name for file in manifest.files] == [
        "appendonly.aof.2.base.rdb",
        "appendonly.aof.2.incr.aof",
        "appendonly.aof.3.incr.aof",
    ]
    assert (manifest.base_sequence, manifest.incremental_sequence) == (2, 3)
    assert format_manifest(manifest) == content


def test_names() -> None:
    assert manifest_name(NAME) == "appendonly.aof.manifest"
    assert temporary_incremental_name(NAME) == "temp-appendonly.aof.incr"


def test_a_log_from_its_first_file_to_its_second_rewrite() -> None:
    manifest = Manifest(NAME)
    assert manifest.is_empty
    assert manifest.add_base(snapshot=True).name == "appendonly.aof.1.base.rdb"
    assert manifest.last_incremental().name == "appendonly.aof.1.incr.aof"
    assert manifest.last_incremental() is manifest.incremental[0]
    before = manifest.copy()
    # A rewrite begins,
    assert manifest.add_incremental().name == "appendonly.aof.2.incr.aof"
    assert [file.name for file in before.incremental] == ["appendonly.aof.1.incr.aof"]
    # and ends.
    assert manifest.add_base(snapshot=False).name == "appendonly.aof.2.base.aof"
    manifest.retire_incremental(keep_last=True)
    assert [file.name for file in manifest.files] == [
        "appendonly.aof.2.base.aof",
        "appendonly.aof.2.incr.aof",
    ]
    assert {file.name for file in manifest.history} == {
        "appendonly.aof.1.base.rdb",
        "appendonly.aof.1.incr.aof",
    }
    assert {file.kind for file in manifest.history} == {HISTORY}
    manifest.retire_incremental(keep_last=False)
    assert not manifest.incremental
    assert manifest.last_incremental().name == "appendonly.aof.3.incr.aof"


def test_fields_in_any_order_and_case_with_others_among_them_and_comments() -> None:
    content = b'# by hand\n  TYPE incr Seq 7x FILE "a b" startoffset 12\t\r\n#\n'
    manifest = parse_manifest(content, NAME)
    assert manifest.incremental == [AofFile("a b", 7, INCREMENTAL)]
    assert parse_manifest(b"# nothing\n", NAME).is_empty


@pytest.mark.parametrize(
    ("content", "reason", "number", "line"),
    [
        (b"", "Found an empty AOF manifest", 0, ""),
        (b"\n", INVALID, 1, ""),
        (b"# c\n \t\r\n", INVALID, 2, ""),
        (b"file a seq 1 type b", TOO_LONG, 1, "file a seq 1 type b"),
        (b"file " + b"a" * 1020 + b" seq 1 type b\n", TOO_LONG, 1, None),
        (b"file a seq 1\n", INVALID, 1, "file a seq 1"),
        (b"file a seq 1 type\n", INVALID, 1, "file a seq 1 type"),
        (b"file a seq 1 type b extra\n", INVALID, 1, None),
        (b'file "a seq 1 type b\n', INVALID, 1, None),
        (b"file a seq 0 type b\n", INVALID, 1, None),
        (b"file a seq x type b\n", INVALID, 1, None),
        (b'file "" seq 1 type b\n', INVALID, 1, None),
        (b'file a seq 1 type ""\n', INVALID, 1, None),
        (b"other a seq 1 type b\n", INVALID, 1, None),
        (b"file a/b seq 1 type b\n", "File can't be a path, just a filename", 1, None),
        (b"file a\\\\b seq 1 type b\n", "File can't be a path, just a filename", 1, None),
        (b"file a seq 1 type x\n", "Unknown AOF file type", 1, "file a seq 1 type x"),
        (
            b"file a seq 1 type b\nfile b seq 2 type b\n",
            "Found duplicate base file information",
            2,
            "file b seq 2 type b",
        ),
        (
            b"file a seq 2 type i\nfile b seq 2 type i\n",
            "Found a non-monotonic sequence number",
            2,
            "file b seq 2 type i",
        ),
        (b"file a seq -1 type i\n", "Found a non-monotonic sequence number", 1, None),
    ],
)
def test_what_is_refused(content: bytes, reason: str, number: int, line: str | None) -> None:
    with pytest.raises(ManifestError) as refusal:
        parse_manifest(content, NAME)
    assert (refusal.value.reason, refusal.value.number) == (reason, number)
    if line is not None:
        assert refusal.value.line == line


file_names = st.text(
    st.characters(exclude_characters="/\\\0", exclude_categories=["Cs"]), min_size=1
).filter(lambda name: len(name.encode()) < 200)


@given(base=file_names, others=st.lists(file_names, max_size=5), old=st.lists(file_names))
def test_any_names_survive(base: str, others: list[str], old: list[str]) -> None:
    manifest = Manifest(NAME)
    manifest.adopt_base(base)
    manifest.incremental = [AofFile(name, i, INCREMENTAL) for i, name in enumerate(others, 1)]
    manifest.history = [AofFile(name, i, HISTORY) for i, name in enumerate(old, 1)]
    again = parse_manifest(format_manifest(manifest), NAME)
    assert again.base == manifest.base
    assert again.incremental == manifest.incremental
    assert again.history == manifest.history


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    with contextlib.suppress(ManifestError):
        manifest = parse_manifest(content, NAME)
        assert all(file.name and file.sequence for file in manifest.files)
