"""Objects through fsspec: what fails for a while is repeated, and nothing is half written."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from steadyscale.core.clip import ClipError
from steadyscale.core.storage import copies, object_storage
from steadyscale.core.storage.copies import local_source, local_target, work_folder
from steadyscale.core.storage.local_storage import LocalStorage
from steadyscale.core.storage.location import ObjectUrl, parse_location
from steadyscale.core.storage.object_storage import ATTEMPTS, ObjectStorage, StorageError
from steadyscale.core.storage.open import Storage, open_storage

ROOT = "memory://bucket/folder"


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """fsspec's memory, empty before and after, and a cache folder of the test."""
    monkeypatch.setenv("STEADYSCALE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(object_storage, "FIRST_PAUSE", 0.0)
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    copies._copies.remove_unused()
    system.store.clear()


@pytest.fixture
def storage() -> ObjectStorage:
    return ObjectStorage(ObjectUrl(ROOT))


@pytest.mark.parametrize("kind", ["folder", "objects"])
def test_documents_and_files(kind: str, tmp_path: Path):
    location = tmp_path / "folder" if kind == "folder" else ObjectUrl(ROOT)
    if isinstance(location, Path):
        location.mkdir()
    opened: Storage = open_storage(location)
    assert isinstance(opened, LocalStorage if kind == "folder" else ObjectStorage)
    with pytest.raises(FileNotFoundError):
        opened.read("plan.json")
    assert (opened.size("plan.json"), opened.names(), opened.names("parts")) == (None, [], [])
    opened.write("plan.json", b"old")
    opened.write("plan.json", b"new!")
    assert (opened.read("plan.json"), opened.size("plan.json")) == (b"new!", 4)
    assert [opened.create("claims/1", b"me"), opened.create("claims/1", b"you")] == [True, False]
    assert opened.read("claims/1") == b"me"
    file = tmp_path / "part.mkv"
    file.write_bytes(b"frames")
    opened.add_file(file, "parts/1.mkv")
    assert not file.exists()
    assert (opened.names(), opened.names("parts"), opened.names("claims")) == (
        ["plan.json"],
        ["parts/1.mkv"],
        ["claims/1"],
    )
    assert opened.size("parts") is None  # a folder is no file
    opened.remove("claims/1")
    opened.remove("claims/1")
    assert opened.names("claims") == []


def fail(system: Any, method: str, errors: list[Exception], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the first calls of a method raise; the list gets an entry for each call."""
    calls, original = list[int](), getattr(system, method)

    def call(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) <= len(errors):
            raise errors[len(calls) - 1]
        return original(*arguments, **options)

    monkeypatch.setattr(system, method, call)
    return calls


PASSING = [
    ConnectionResetError(errno.ECONNRESET, "reset"),
    TimeoutError("timed out"),
    OSError(errno.EBUSY, "slow down"),
]


@pytest.mark.parametrize(
    ("method", "use"),
    [
        ("pipe_file", lambda storage: storage.write("a", b"x")),
        ("pipe_file", lambda storage: storage.create("b", b"x")),
        ("cat_file", lambda storage: storage.read("kept")),
        ("info", lambda storage: storage.size("kept")),
        ("ls", lambda storage: storage.names()),
        ("rm_file", lambda storage: storage.remove("kept")),
    ],
)
def test_a_request_is_repeated(
    method: str, use: Callable[[ObjectStorage], object], storage: ObjectStorage, memory: Any, monkeypatch: Any
):
    storage.write("kept", b"content")
    expected = use(storage)
    storage.write("kept", b"content")
    storage.remove("b")
    calls = fail(memory, method, PASSING, monkeypatch)
    assert use(storage) == expected
    assert len(calls) == len(PASSING) + 1


def test_a_request_that_always_fails_names_url_reason_and_fix(storage: ObjectStorage, memory: Any, monkeypatch: Any):
    calls = fail(memory, "cat_file", [OSError("reduce your request rate")] * 99, monkeypatch)
    message = rf"^{ROOT}/a: reading failed \(OSError: reduce your request rate\); check the network and the store"
    with pytest.raises(StorageError, match=message):
        storage.read("a")
    assert len(calls) == ATTEMPTS


class NoCredentialsError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "hint"),
    [(PermissionError("Access Denied"), "check the credentials"), (NoCredentialsError("none"), "set the credentials")],
)
def test_missing_rights_are_reported_at_once(
    error: Exception, hint: str, storage: ObjectStorage, memory: Any, monkeypatch: pytest.MonkeyPatch
):
    calls = fail(memory, "pipe_file", [error], monkeypatch)
    with pytest.raises(StorageError, match=hint):
        storage.write("a", b"")
    assert len(calls) == 1


def test_a_claim_without_rights_is_reported_at_once(storage: ObjectStorage, memory: Any, monkeypatch: Any):
    writes = fail(memory, "pipe_file", [PermissionError("Access Denied")] * 99, monkeypatch)
    reads = fail(memory, "cat_file", [PermissionError("Access Denied")] * 99, monkeypatch)
    with pytest.raises(StorageError, match="check the credentials"):
        storage.create("a", b"")
    assert (len(writes), len(reads)) == (1, 1)


def test_a_created_object_whose_reply_was_lost_is_ours(storage: ObjectStorage, memory: Any, monkeypatch: Any):
    original = memory.pipe_file

    def lose_reply(*arguments: Any, **options: Any) -> None:
        original(*arguments, **options)
        raise ConnectionResetError

    monkeypatch.setattr(memory, "pipe_file", lose_reply)
    assert storage.create("claim", b"me")
    assert not storage.create("claim", b"you")


@pytest.mark.parametrize("size", [0, 1, 10, 11, 25])
def test_a_download_is_complete_where_blocks_end_early(
    size: int, tmp_path: Path, storage: ObjectStorage, memory: Any, monkeypatch: pytest.MonkeyPatch
):
    content = bytes(range(size))
    storage.write("a", content)
    monkeypatch.setattr(object_storage, "BLOCK_BYTES", 10)
    calls, original = list[int](), memory.cat_file

    def cut(path: str, start: int, end: int) -> bytes:
        calls.append(1)
        return original(path, start=start, end=end)[: None if len(calls) % 3 == 0 else -1]

    monkeypatch.setattr(memory, "cat_file", cut)
    storage.download("a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == content
    assert len(calls) == 3 * -(-size // 10)


def test_an_object_that_changes_during_a_download_is_refused(
    tmp_path: Path, storage: ObjectStorage, memory: Any, monkeypatch: Any
):
    storage.write("a", b"0123456789")
    original = memory.cat_file

    def change(*arguments: Any, **options: Any) -> bytes:
        content = original(*arguments, **options)
        memory.pipe_file("/bucket/folder/a", b"9876543210")
        return content

    monkeypatch.setattr(memory, "cat_file", change)
    with pytest.raises(StorageError, match=r"folder/a: the object was changed while it was read"):
        storage.download("a", tmp_path / "a")


def test_an_upload_that_arrives_in_part_is_sent_again(
    tmp_path: Path, storage: ObjectStorage, memory: Any, monkeypatch: Any
):
    (tmp_path / "a").write_bytes(b"frames")
    original, calls = memory.put_file, list[int]()

    def cut(source: str, target: str) -> None:
        calls.append(1)
        original(source, target)
        if len(calls) == 1:
            memory.pipe_file(target, b"fra")

    monkeypatch.setattr(memory, "put_file", cut)
    storage.add_file(tmp_path / "a", "b")
    assert (storage.read("b"), len(calls)) == (b"frames", 2)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(
        StorageError, match=r"^gs://bucket/a: gs:// needs gcsfs .*; pip install steadyscale\[cloud\] gcsfs$"
    ):
        ObjectStorage(ObjectUrl("gs://bucket/a"))
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(StorageError, match=r"^s3://bucket/a: s3:// needs s3fs .*; pip install steadyscale\[cloud\]$"):
        ObjectStorage(ObjectUrl("s3://bucket/a"))


def test_a_source_is_copied_once_until_it_changes(memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    memory.pipe_file("/bucket/in.mp4", b"first")
    reads = fail(memory, "cat_file", [], monkeypatch)
    url = "memory://bucket/in.mp4"
    with local_source(url) as path, local_source(url) as same:
        assert (path.name, path.read_bytes()) == ("in.mp4", b"first")
        assert same == path
    with local_source(url) as path:
        assert path == same
    assert len(reads) == 1
    memory.pipe_file("/bucket/in.mp4", b"second")
    with local_source(url) as path:
        assert path.read_bytes() == b"second"
        assert not same.exists()
    copies._copies.remove_unused()
    assert [*(tmp_path / "cache" / "copies").iterdir()] == []
    assert parse_location("in.mp4") == Path("in.mp4")


def test_copies_stay_while_they_are_read(memory: Any):
    for name in ("a", "b", "c"):
        memory.pipe_file(f"/bucket/{name}.mp4", name.encode())
    with local_source("memory://bucket/a.mp4") as first, local_source("memory://bucket/b.mp4") as second:
        assert (first.read_bytes(), second.read_bytes()) == (b"a", b"b")
    with local_source("memory://bucket/c.mp4"):
        assert not first.exists()
        assert not second.exists()


def test_a_missing_source_and_a_folder_are_named(memory: Any):
    memory.pipe_file("/bucket/folder/a.png", b"x")
    for name in ("none.mp4", "folder"):
        with (
            pytest.raises(ClipError, match=rf"^memory://bucket/{name}: there is no such object"),
            local_source(f"memory://bucket/{name}"),
        ):
            pass


def test_a_result_is_sent_when_the_block_ends(memory: Any):
    with local_target("memory://bucket/out.mp4") as path:
        path.write_bytes(b"result")
        assert not memory.exists("/bucket/out.mp4")
    assert memory.cat("/bucket/out.mp4") == b"result"
    assert not path.exists()


def test_a_failed_result_leaves_the_earlier_one(memory: Any):
    memory.pipe_file("/bucket/out.mp4", b"earlier")

    def write_half() -> None:
        with local_target("memory://bucket/out.mp4") as path:
            path.write_bytes(b"half")
            raise ClipError(f"{path}: broken")

    with pytest.raises(ClipError, match=r"^memory://bucket/out\.mp4: broken$"):
        write_half()
    assert memory.cat("/bucket/out.mp4") == b"earlier"


def test_a_result_that_cannot_be_sent_is_kept(memory: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    fail(memory, "put_file", [OSError("no route to host")] * 99, monkeypatch)
    with (
        pytest.raises(StorageError, match="The result is complete: copy it from"),
        local_target("memory://bucket/out.mp4") as path,
    ):
        path.write_bytes(b"result")
    (kept,) = (tmp_path / "cache" / "unsent").iterdir()
    assert kept.read_bytes() == b"result"
    with (
        pytest.raises(StorageError, match="no route to host"),
        local_target("memory://bucket/out.mp4", keep_unsent=False) as path,
    ):
        path.write_bytes(b"result")
    assert [*(tmp_path / "cache" / "unsent").iterdir()] == [kept]


def test_a_copy_without_space_is_refused(memory: Any, monkeypatch: pytest.MonkeyPatch):
    memory.pipe_file("/bucket/in.mp4", b"0123456789")
    monkeypatch.setattr(copies.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 9}))
    with (
        pytest.raises(ClipError, match=r"memory://bucket/in\.mp4: a local copy needs .* STEADYSCALE_CACHE"),
        local_source("memory://bucket/in.mp4"),
    ):
        pass


def test_names_of_objects_become_names_of_files(memory: Any):
    memory.pipe_file('/bucket/a:b|c" .mp4', b"x")
    memory.pipe_file(f"/bucket/{'n' * 400}.mp4", b"x")
    with local_source('memory://bucket/a:b|c" .mp4') as path:
        assert path.name == "a_b_c_ .mp4"
    with local_source(f"memory://bucket/{'n' * 400}.mp4") as path:
        assert path.name == f"{'n' * 60}.mp4"


def test_the_work_folder_of_a_dead_process_is_removed(tmp_path: Path):
    from steadyscale.core.runtime.files import atomic_write

    dead = tmp_path / "cache" / "copies" / f".copy.{atomic_write._machine_id()}-999999999-1-00000000.partial"
    dead.mkdir(parents=True)
    with work_folder() as folder:
        assert not dead.exists()
        assert folder.is_dir()
    assert not folder.exists()
