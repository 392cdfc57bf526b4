"""A file is there whole or not at all."""

import os
import pathlib

import pytest

from keras_ats import files


def test_a_whole_file_takes_the_place_of_another(tmp_path):
    path = tmp_path / "folder" / "a.txt"
    for text in ("old", "new"):
        with files.whole_file(path) as unfinished:
            unfinished.write_text(text)
            assert unfinished.parent == path.parent
            assert unfinished.suffix == path.suffix
            assert not path.exists() or path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(path.parent) == ["a.txt"]


def test_content_is_on_disk_before_its_name_and_the_name_before_more_happens(tmp_path, monkeypatch):
    calls = []
    synchronise, replace = os.fsync, pathlib.Path.replace
    monkeypatch.setattr(os, "fsync", lambda number: calls.append("fsync") or synchronise(number))
    monkeypatch.setattr(
        pathlib.Path, "replace", lambda *paths: calls.append("rename") or replace(*paths)
    )
    with files.whole_file(tmp_path / "a") as unfinished:
        unfinished.write_text("content")
    assert calls == ["fsync", "rename", "fsync"]


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (RuntimeError("Can't decrement id ref count\n (file write failed)"), r"count \(file write"),
    ],
)
def test_what_fails_leaves_what_was_there(tmp_path, failure, said):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write():
        with files.whole_file(path) as unfinished:
            unfinished.write_text("half of the n")
            raise failure

    with pytest.raises(OSError, match=rf"a\.txt could not be written: .*{said}.*disk has room"):
        write()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("value", [None, 5, True, b"bytes", ["a"]])
def test_no_path(value):
    with pytest.raises(TypeError, match="`backup_dir` must be a path"):
        files.local_path(value, "backup_dir")


@pytest.mark.parametrize("value", ["", "gs://bucket/folder"])
def test_no_path_of_this_machine(value):
    with pytest.raises(ValueError, match="on this machine"):
        files.local_path(value, "backup_dir")


def test_checksum(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    # The first digits of SHA-256 of "abc", as FIPS 180-2 gives them.
    assert files.checksum(tmp_path / "a") == "ba7816bf8f01cfea"
