"""Jobs and single runs on a server that speaks S3, whose replies fail in all ways."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from job_run import has_same_content
from numbered_video import make_video
from s3_server import BUCKET, ENVIRONMENT, S3Server
from safetensors.torch import save_file
from steadyscale.core import Encoding, StabilizeSettings
from steadyscale.core.api import enhance_video, join_job, measure_job, plan_job, run_shard, stabilize_video
from steadyscale.core.clip import ClipError
from steadyscale.core.storage import copies, object_storage
from steadyscale.core.storage.location import ObjectUrl
from steadyscale.core.storage.object_storage import ObjectStorage, StorageError
from steadyscale.models import SRVGGConfig, SRVGGNetCompact

COUNT, PIECES = 12, 3
OPTIONS = {
    "stabilization": StabilizeSettings(seconds=0.5, max_zoom=1.5),
    "encoding": Encoding("ffv1"),
    "device": "cpu",
    "segment_seconds": 4 / 24,
}


@pytest.fixture(scope="module")
def running() -> Iterator[S3Server]:
    for name in ("s3fs", "moto.moto_server.werkzeug_app"):
        pytest.importorskip(name)
    server = S3Server()
    yield server
    server.stop()


@pytest.fixture
def server(running: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": running.url, "STEADYSCALE_CACHE": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(object_storage, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)  # its own take longer than the tests
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    system = s3_files()
    if not system.exists(BUCKET):
        system.mkdir(BUCKET)
    yield running
    running.clear()
    copies._copies.remove_unused()
    system.rm(BUCKET, recursive=True)
    type(system).clear_instance_cache()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("in") / "shaky.mp4", COUNT, audio_start=0.1, options={"g": "4"})


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = SRVGGNetCompact(SRVGGConfig(features=8, convs=1, scale=2))
    file = tmp_path_factory.mktemp("net") / "net.safetensors"
    save_file(network.state_dict(), file)
    return file


@pytest.fixture(scope="module")
def local_result(source: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a resumable run writes to a disk."""
    target = tmp_path_factory.mktemp("out") / "whole.mkv"
    enhance_video(source, target, model=weights, resumable=True, **OPTIONS)
    return target


def s3_files() -> Any:
    """The file system of s3fs, which takes half a second to import."""
    return fsspec.filesystem("s3")


def url(name: str) -> str:
    return f"s3://{BUCKET}/{name}"


def keys() -> list[str]:
    return ObjectStorage(ObjectUrl(url("")[:-1])).names(recursive=True)


def send(file: Path, name: str) -> None:
    s3_files().put_file(str(file), f"{BUCKET}/{name}")


def fetch(name: str, folder: Path) -> Path:
    s3_files().get_file(f"{BUCKET}/{name}", str(folder / "fetched.mkv"))
    return folder / "fetched.mkv"


def every_third(kinds: list[str]) -> Any:
    """Fail every third request, in turn in each of these ways; the first answer of a server to a body is "lost"."""

    def fault(method: str, path: str, number: int) -> str | None:
        kind = kinds[number // 3 % len(kinds)]
        if number % 3 or (kind == "partial" and method != "GET"):
            return None
        return kind

    return fault


def test_a_job_on_a_faulty_store_gives_the_frames_of_a_local_one(
    server: S3Server, source: Path, weights: Path, local_result: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG, "steadyscale")
    send(source, "in/shaky.mp4")
    faults, written = every_third(["reset", "500", "503", "partial", "lost", "slow"]), list[str]()

    def fault(method: str, path: str, number: int) -> str | None:
        if method == "PUT":
            written.append(path)
        return faults(method, path, number)

    server.fault = fault
    job, target = url("job"), url("out/large.mkv")
    motion = {name: OPTIONS[name] for name in ("stabilization", "segment_seconds")}
    shares = [measure_job(url("in/shaky.mp4"), job, index, 2, **motion) for index in (1, 0)]
    assert [(share.computed, share.missing) for share in shares] == [([1, 2], 1), ([0], 0)]
    assert {Path(path).name for path in written} == {"00000.json", "00001.json", "00002.json"}
    written.clear()
    plan = plan_job(url("in/shaky.mp4"), target, job, model=weights, **OPTIONS)
    assert (plan.source, plan.target, len(plan.pieces)) == (url("in/shaky.mp4"), target, PIECES)
    assert not [path for path in written if "/motion/" in path]  # all of it was measured
    assert run_shard(job, 1, 2).computed == [1]
    report = run_shard(job, claim=True)
    assert (report.computed, report.missing) == ([0, 2], 0)
    joined = join_job(job)
    assert {"reset", "500", "503", "partial", "lost", "slow"} <= {*server.faults}
    server.clear()
    assert (joined.input, joined.output, joined.frames_out) == (url("in/shaky.mp4"), target, COUNT)
    assert has_same_content(fetch("out/large.mkv", tmp_path), local_result)
    assert keys() == ["in/shaky.mp4", "out/large.mkv"]  # nothing of the job is left
    assert ENVIRONMENT["AWS_SECRET_ACCESS_KEY"] not in caplog.text


def test_a_run_in_one_process_resumes_from_the_store(
    server: S3Server, source: Path, weights: Path, local_result: Path, tmp_path: Path
):
    def stop(progress: Any) -> None:
        if progress.stage == "upscaling" and progress.done >= 6:
            raise KeyboardInterrupt

    target = url("large.mkv")
    with pytest.raises(KeyboardInterrupt):
        enhance_video(source, target, model=weights, resumable=True, progress=stop, **OPTIONS)
    assert "large.mkv" not in keys()
    assert "large.mkv.job/parts/00000.json" in keys()
    server.fault = lambda method, path, number: "503" if method == "PUT" and path == f"/{BUCKET}/large.mkv" else None
    with pytest.raises(StorageError, match=rf"^{target}: writing failed"):
        enhance_video(source, target, model=weights, resumable=True, **OPTIONS)
    assert "large.mkv.job/parts/00002.json" in keys()
    server.clear()
    report = enhance_video(source, target, model=weights, resumable=True, **OPTIONS)
    assert (report.output, report.frames_out) == (target, COUNT)
    assert has_same_content(fetch("large.mkv", tmp_path), local_result)
    assert keys() == ["large.mkv"]


def test_one_of_many_claimants_gets_an_object(server: S3Server):
    storage, won = ObjectStorage(ObjectUrl(url("job"))), list[str]()

    def claim(owner: str) -> None:
        if storage.create("claims/1", owner.encode()):
            won.append(owner)

    threads = [threading.Thread(target=claim, args=(f"{index}",)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [storage.read("claims/1").decode()]


def test_a_result_appears_at_the_end_or_not_at_all(server: S3Server, source: Path, tmp_path: Path):
    send(source, "shaky.mp4")

    def check(progress: Any) -> None:
        assert "steady.mkv" not in keys()

    options = {"encoding": Encoding("ffv1"), "settings": OPTIONS["stabilization"]}
    stabilize_video(url("shaky.mp4"), url("steady.mkv"), progress=check, **options)
    stabilize_video(source.as_uri(), (tmp_path / "steady.mkv").as_uri(), **options)
    assert has_same_content(fetch("steady.mkv", tmp_path), tmp_path / "steady.mkv")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("s3://clips/none.mp4", "out.mp4"), r"^s3://clips/none\.mp4: there is no such object"),
        (("in.mp4", "s3://nowhere/out.mp4"), r"^s3://nowhere: there is no such bucket"),
        (("s3://clips/a.mp4", "s3://clips/a.mp4"), r"^s3://clips/a\.mp4: this is the source itself"),
        (("in.mp4", "s3://clips/frames"), r"^s3://clips/frames: only video files are written to a URL"),
        (("s3://clips/text.mp4", "out.mp4"), r"^s3://clips/text\.mp4: cannot be read as video"),
    ],
)
def test_mistakes_name_the_url(names: tuple[str, str], message: str, server: S3Server, tmp_path: Path):
    s3_files().pipe_file(f"{BUCKET}/text.mp4", b"text")
    (tmp_path / "in.mp4").write_bytes(b"text")
    source, target = (name if "://" in name else str(tmp_path / name) for name in names)
    with pytest.raises(ClipError, match=message) as error:
        stabilize_video(source, target)
    assert str(tmp_path / "copies") not in str(error.value)


def test_faults_of_the_store_are_no_attempts_and_damaged_parts_are_computed_again(
    server: S3Server, source: Path, weights: Path, local_result: Path, tmp_path: Path
):
    job = url("job")
    plan_job(source, tmp_path / "large.mkv", job, model=weights, **OPTIONS)
    server.fault = lambda method, path, number: "503" if method == "PUT" and "/parts/" in path else None
    with pytest.raises(StorageError, match=rf"{job}/parts/00000-\w+\.mkv: writing failed .*reduce your request rate"):
        run_shard(job)
    server.clear()
    assert not [key for key in keys() if "/claims/" in key]
    assert run_shard(job).computed == [0, 1, 2]
    (name,) = (key for key in keys() if key.startswith("job/parts/00001-"))
    system = s3_files()
    content = bytearray(system.cat_file(f"{BUCKET}/{name}"))
    content[len(content) // 2] ^= 1
    system.pipe_file(f"{BUCKET}/{name}", bytes(content))
    with pytest.raises(ClipError, match=f"{name}: piece 1 is damaged; run its shard"):
        join_job(job)
    assert run_shard(job).computed == [1]
    join_job(job)
    assert has_same_content(tmp_path / "large.mkv", local_result)
    assert os.listdir(tmp_path / "copies") == []
