"""The first writer wins, a reader sees a whole file or none, and nothing else lies about in the folder."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from streaming.runtime.files import Folder, LocalFolder, folder, is_local, local_path, write_whole


def check_folder(fresh: Folder) -> None:
    """What every kind of folder promises."""
    assert fresh.names() == []
    assert fresh.read("a") is None
    fresh.delete("a")
    assert fresh.create("b", b"one")
    assert not fresh.create("b", b"two")
    assert fresh.read("b") == b"one"
    fresh.replace("b", b"three")
    assert fresh.read("b") == b"three"
    fresh.replace("a", b"")
    assert fresh.read("a") == b""
    assert fresh.names() == ["a", "b"]
    inner = fresh.below("in side").below("deep")
    every_byte = bytes(range(256)) * 5_000
    assert inner.create("x%20y.npz", every_byte)
    assert inner.read("x%20y.npz") == every_byte
    assert fresh.below("in side").below("deep").names() == ["x%20y.npz"]
    assert fresh.names() == ["a", "b"], "a folder is not a file"
    fresh.delete("b")
    assert fresh.names() == ["a"]
    assert fresh.create("b", b"four"), "a name is free again after delete"


class Careless(LocalFolder):
    """A folder whose last writer wins."""

    def create(self, name: str, data: bytes) -> bool:
        self.replace(name, data)
        return True


def test_a_local_folder_keeps_its_promises(tmp_path: Path) -> None:
    check_folder(LocalFolder(tmp_path / "made when needed"))


def test_the_check_catches_a_folder_whose_last_writer_wins(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        check_folder(Careless(tmp_path / "x"))


def test_of_many_writers_one_wins_and_its_bytes_stand(tmp_path: Path) -> None:
    there = LocalFolder(tmp_path)
    for i in range(20):
        contents = [bytes([k]) * 10_000 for k in range(8)]
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda data, name=f"f{i}": there.create(name, data), contents))
        assert sum(won) == 1
        assert there.read(f"f{i}") == contents[won.index(True)]


def test_a_reader_of_a_file_that_is_replaced_sees_the_old_or_the_new(tmp_path: Path) -> None:
    there = LocalFolder(tmp_path)
    versions = [bytes([k]) * 100_000 for k in range(20)]
    there.replace("w", versions[0])
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(lambda: [there.replace("w", data) for data in versions])
        while not writing.done():
            assert there.read("w") in versions


def test_nothing_temporary_stays_behind(tmp_path: Path) -> None:
    there = LocalFolder(tmp_path)
    there.create("a", b"1")
    there.create("a", b"2")
    there.replace("a", b"3")
    assert os.listdir(tmp_path) == ["a"]  # noqa: PTH208  hidden files count


def test_what_a_crash_left_behind_is_no_file(tmp_path: Path) -> None:
    (tmp_path / ".0123abc").write_bytes(b"half a fi")
    assert LocalFolder(tmp_path).names() == []


@pytest.mark.parametrize(
    ("uri", "path"),
    [("state/churn", "state/churn"), ("/a b/c%20d", "/a b/c%20d"), ("file:/a/b", "/a/b"), ("file:///a%20b", "/a b"), ("a#b?c", "a#b?c")],
)
def test_local_uris(uri: str, path: str) -> None:
    assert is_local(uri)
    assert local_path(uri) == Path(path)


def test_other_uris_ask_for_a_session_and_local_ones_do_not() -> None:
    class Asked(Exception):
        pass

    def spark() -> None:
        raise Asked

    assert folder("file:///x", spark) == LocalFolder(Path("/x"))  # type: ignore[arg-type]
    for uri in ("hdfs://h/x", "s3a://b/x"):
        assert not is_local(uri)
        with pytest.raises(Asked):
            folder(uri, spark)  # type: ignore[arg-type]


def test_what_is_written_whole_appears_at_the_end_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "new" / "model.onnx"
    with write_whole(target) as partial:
        partial.write_bytes(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    with pytest.raises(OSError, match="disk full"):
        _fail_halfway(target)
    assert target.read_bytes() == b"whole"
    assert [path.name for path in target.parent.iterdir()] == ["model.onnx"]


def _fail_halfway(target: Path) -> None:
    with write_whole(target) as partial:
        partial.write_bytes(b"hal")
        raise OSError("disk full")


def test_a_folder_written_whole_does_not_replace_a_folder(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "kept").touch()
    with pytest.raises(OSError, match="not empty"), write_whole(tmp_path / "package") as partial:
        partial.mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["package"]
