"""A job that is planned, computed in shards and joined gives the file of an uninterrupted run."""

from __future__ import annotations

import math
import os
import shutil
import threading
import time
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import filelock
import numpy as np
import pytest
import torch
from clock_videos import make_clip, rewrite
from job_run import audio_packets, frame_hashes, has_same_content, start_process
from numbered_video import make_video
from safetensors.torch import save_file
from steadyscale.core import Encoding, JobPlan, OutputSize, StabilizeSettings, UpscaleSettings
from steadyscale.core.api import enhance_video, join_job, plan_job, run_shard, stabilize_video
from steadyscale.core.api.job_steps.stored_plan import decode_upscaling, encode_upscaling
from steadyscale.core.clip import ClipError
from steadyscale.core.filters.deflicker import MAX_BLEND_WEIGHT
from steadyscale.core.jobs import shard
from steadyscale.core.jobs.claims import MAX_ATTEMPTS, Claims
from steadyscale.core.jobs.shard import PieceError
from steadyscale.core.jobs.state import fingerprint
from steadyscale.core.jobs.state.job_plan import load_plan
from steadyscale.core.jobs.state.layout import JobFolder
from steadyscale.core.upscaling.settings import Alpha, ColorCorrection, Engine, PostProcess, Precision, Reuse, Tiling
from steadyscale.core.video.decode.packets import demux
from steadyscale.core.video.open import open_clip
from steadyscale.core.video.verify.verify import VerificationError
from steadyscale.models import SRVGGConfig, SRVGGNetCompact
from steadyscale.models.zoo.bundled import DEFAULT_2X

COUNT, GOP, PIECE_SECONDS = 28, 6, 4 / 24
DEFLICKER = 0.2
CONTEXT = math.ceil(math.log(1 / 256) / math.log(MAX_BLEND_WEIGHT * DEFLICKER))  # frames that deflickering looks back
COMPARABLE = {"command", "frames_in", "frames_out", "width", "height", "fps", "stabilization", "damage"}


def test_reports_have_the_frame_rate_of_the_source(tmp_path: Path):
    """An edit list skips its first frames and the last one is long, so the average of the result is another."""
    long = make_clip(tmp_path / "long.mp4", 12, options={"bf": "0"}, fps=25, pts=[40 * n for n in range(12)],
                     time_base=Fraction(1, 1000), audio=None, last_duration=60)  # fmt: skip

    def skip_three(packet: av.Packet, _: int) -> None:
        packet.pts = packet.dts = (packet.pts or 0) - round(Fraction(120, 1000) / packet.time_base)

    source, target, folder = rewrite(long, tmp_path / "in.mp4", skip_three), tmp_path / "out.mp4", tmp_path / "job"
    model = StabilizeSettings(seconds=0.5)
    reports = [stabilize_video(source, target, settings=model)]
    reports.append(stabilize_video(source, target, settings=model, resumable=True))
    plan_job(source, target, folder, command="stabilize", stabilization=model)
    run_shard(folder)
    reports.append(join_job(folder))
    assert [(report.info.fps, report.frames_out) for report in reports] == [(24, 9)] * 3
    assert open_clip(target).info.fps == Fraction(9_000, 380)


def draw_shaken(number: int, width: int, height: int) -> np.ndarray:
    """A texture that swings, and flickers."""
    generator = np.random.default_rng(0)
    coarse = torch.from_numpy(generator.random((1, 3, 14, 18))).float()
    scene = torch.nn.functional.interpolate(coarse, scale_factor=6, mode="bicubic", align_corners=False).clamp(0, 1)
    x, y = 20 + round(4 * math.sin(number * 2.1)), 16 + round(3 * math.cos(number * 1.7))
    crop = scene[0, :, y : y + height, x : x + width] * (1 - 0.04 * (number % 2))
    return (crop * 255).byte().permute(1, 2, 0).contiguous().numpy()


@dataclass(frozen=True)
class Job:
    """A planned job: copies of its folder are as good as the first one."""

    source: Path
    folder: Path
    weights: Path
    plan: JobPlan
    result: Path

    def copy(self, folder: Path) -> Path:
        return Path(shutil.copytree(self.folder, folder))


def arguments(weights: Path) -> dict:
    return {
        "model": weights,
        "deflicker": DEFLICKER,
        "stabilization": StabilizeSettings(seconds=0.5, max_zoom=1.5),
        "encoding": Encoding("ffv1"),
        "device": "cpu",
        "segment_seconds": PIECE_SECONDS,
    }


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Enhance with deflickering in 7 pieces, with the result of a run in one process."""
    folder = tmp_path_factory.mktemp("job")
    options = {"g": str(GOP), "keyint_min": str(GOP), "sc_threshold": "0"}
    source = make_video(folder / "in.mp4", COUNT, audio_start=0.25, options=options, draw=draw_shaken)
    torch.manual_seed(0)
    network, weights = SRVGGNetCompact(SRVGGConfig(features=8, convs=1, scale=2)), folder / "net.safetensors"
    save_file(network.state_dict(), weights)
    plan = plan_job(source, folder / "out.mkv", folder / "planned", **arguments(weights))
    whole = enhance_video(source, folder / "whole.mkv", resumable=True, **arguments(weights))
    assert (whole.frames_out, len(plan.pieces)) == (COUNT, 7)
    return Job(source, folder / "planned", weights, plan, folder / "whole.mkv")


def work(folder: Path, index: int, count: int, timeout: float | None = None) -> None:
    """Run a shard in a child process; with a timeout, by claims."""
    torch.set_num_threads(1)
    try:
        run_shard(folder, index, count, claim=timeout is not None, claim_timeout=timeout or 0)
    except ClipError:
        os._exit(1)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_any_number_of_shards_gives_the_result_of_one_process(count: int, job: Job, tmp_path: Path):
    folder, target = job.copy(tmp_path / "job"), tmp_path / "out.mkv"
    for index in reversed(range(count)):
        report = run_shard(folder, index, count)
        assert report.computed == [*range(index, 7, count)]
    assert report.missing == 0
    joined = join_job(folder, target)
    assert has_same_content(target, job.result)
    assert len(audio_packets(target)) > 5
    assert joined.stats is not None
    assert (joined.stats.engine, joined.stats.mode, joined.stats.frames) == ("torch", "fp32", COUNT + CONTEXT_FRAMES)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mkv"], "nothing is left of the job"


CONTEXT_FRAMES = sum(min(start, CONTEXT) for start in range(4, COUNT, 4))


def test_a_shard_decodes_its_frames_their_context_and_one_gop(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog
):
    folder = job.copy(tmp_path / "job")
    decoded, make_decoder = [0], demux.software_decoder

    def counting_decoder(stream):
        decoder = make_decoder(stream)

        def decode(packet):
            frames = decoder.decode(packet)
            decoded[0] += len(frames)
            return frames

        return SimpleNamespace(decode=decode)

    run = shard.compute_pieces

    def count_from_here(*args):
        decoded[0] = 0
        monkeypatch.setattr(demux, "software_decoder", counting_decoder)
        yield from run(*args)
        monkeypatch.setattr(demux, "software_decoder", make_decoder)

    monkeypatch.setattr(shard, "compute_pieces", count_from_here)
    for index in (3, 5):
        run_shard(folder, index, 7)
        assert 4 <= decoded[0] <= 4 + CONTEXT + GOP
    assert "from the start" not in caplog.text


def test_processes_that_claim_pieces_share_the_job(job: Job, tmp_path: Path):
    folder = job.copy(tmp_path / "job")
    processes = [start_process(work, folder, 0, 1, 30.0) for _ in range(2)]
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0]
    claims = sorted(path.name for path in folder.glob("claims/*"))
    assert claims == [f"{index:05d}-1.json" for index in range(7)], "each piece was computed once"
    join_job(folder, tmp_path / "out.mkv")
    assert has_same_content(tmp_path / "out.mkv", job.result)


def test_a_killed_shard_is_run_again(job: Job, tmp_path: Path):
    folder = job.copy(tmp_path / "job")
    start_process(os.getpid).join(120)  # imports everything in the fork server
    for moment in ("parts/00000.json", "parts/.00002.*.partial/*", "parts/00003-*.mkv"):
        process = start_process(work, folder, 0, 1)
        while process.is_alive() and not [*folder.glob(moment)]:
            time.sleep(0.005)
        process.kill()
        process.join()
    report = run_shard(folder)
    assert report.missing == 0
    assert len(report.computed) <= 4, "what was finished is kept"
    join_job(folder, tmp_path / "out.mkv")
    assert has_same_content(tmp_path / "out.mkv", job.result)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mkv"], "nor is a partial file left"


def test_a_piece_that_is_computed_twice_is_one_file(job: Job, tmp_path: Path):
    folder = job.copy(tmp_path / "job")
    for _ in range(2):
        run_shard(folder, 6, 7)
        JobFolder(folder).remove_part(6)
    assert len([*folder.glob("parts/00006-*.mkv")]) == 1


def test_the_piece_of_a_worker_that_vanished_is_taken_over(job: Job, tmp_path: Path, caplog):
    folder = job.copy(tmp_path / "job")
    assert Claims(JobFolder(folder), job.plan).try_claim(2) == 1
    assert run_shard(folder, claim=True, claim_timeout=0.2).missing == 0
    assert "piece 2 is taken over from a process that vanished" in caplog.text
    join_job(folder, tmp_path / "out.mkv")
    assert has_same_content(tmp_path / "out.mkv", job.result)


def test_a_disk_without_locks_is_enough(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_, **__):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    folder = tmp_path / "job"
    plan_job(job.source, tmp_path / "out.mkv", folder, **arguments(job.weights))
    run_shard(folder, claim=True)
    join_job(folder)
    assert has_same_content(tmp_path / "out.mkv", job.result)


def test_a_piece_that_cannot_be_computed_is_named_after_three_attempts(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder, write = job.copy(tmp_path / "job"), shard.write_video
    tried: list[int] = []

    def fail(file: Path, frames, *args, **named):
        if file.parent.name.startswith(".00002"):
            tried.append(2)
            raise RuntimeError("poison")
        return write(file, frames, *args, **named)

    monkeypatch.setattr(shard, "write_video", fail)
    named = r"1 of 7 pieces failed 3 times: piece 2 \(frames 8 to 11\): poison\. .*delete the folder .*claims"
    with pytest.raises(PieceError, match=named):
        run_shard(folder, 0, 2)
    assert len(tried) == MAX_ATTEMPTS
    assert run_shard(folder, 1, 2).missing == 1, "all others are finished"
    with pytest.raises(PieceError, match=named):
        run_shard(folder, claim=True)
    assert len(tried) == MAX_ATTEMPTS, "it is not tried again"
    with pytest.raises(ClipError, match=r"1 of 7 pieces are not finished \(2\); run their shards"):
        join_job(folder, tmp_path / "out.mkv")
    monkeypatch.undo()
    shutil.rmtree(folder / "claims")
    assert run_shard(folder, 0, 2).computed == [2]


def test_claims_that_fail_count_as_attempts(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = job.copy(tmp_path / "job")

    def fail(*_, **__):
        raise RuntimeError("poison")

    monkeypatch.setattr(shard, "write_video", fail)
    with pytest.raises(PieceError, match="7 of 7 pieces failed 3 times"):
        run_shard(folder, claim=True)
    assert len([*folder.glob("claims/*")]) == 7 * MAX_ATTEMPTS


@pytest.mark.parametrize("claim", [False, True])
def test_a_full_disk_or_a_cancel_is_no_attempt(claim: bool, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = job.copy(tmp_path / "job")

    def cancel(progress):
        if progress.done > 2:
            raise ValueError("cancelled")

    def full(*_, **__):
        raise ClipError("cannot be written") from OSError(28, "No space left on device")

    with pytest.raises(ValueError, match="cancelled"):
        run_shard(folder, claim=claim, progress=cancel)
    monkeypatch.setattr(shard, "write_video", full)
    with pytest.raises(ClipError, match="cannot be written"):
        run_shard(folder, claim=claim)
    monkeypatch.undo()
    assert shard.count_failures(JobFolder(folder), 0) == 0
    assert run_shard(folder, 0, 7, claim=False).computed == [0]


def test_what_computes_other_frames_is_refused(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder, other = job.copy(tmp_path / "job"), tmp_path / "other"
    shutil.copyfile(job.source, other)
    with other.open("ab") as file:
        file.write(b"more")
    with pytest.raises(ClipError, match="its content is not that of the plan's source"):
        run_shard(folder, source=other)
    with pytest.raises(ClipError, match="its content is not that of the plan's source"):
        join_job(folder, tmp_path / "out.mkv", source=other)
    save_file(SRVGGNetCompact(SRVGGConfig(features=8, convs=1, scale=2)).state_dict(), other)
    with pytest.raises(ClipError, match="these are not the weights of the plan"):
        run_shard(folder, model=other)
    with monkeypatch.context() as patch:
        patch.setattr(fingerprint, "__version__", "9.9")
        with pytest.raises(ClipError, match=r"planned with steadyscale .*, and this is 9\.9"):
            run_shard(folder)
    planned = load_plan(JobFolder(folder))
    runtime = [{"device": "cuda", "engine": "torch", "modes": ["fp16"]}]
    with monkeypatch.context() as patch:
        elsewhere = replace(planned, settings=planned.settings | {"runtime": runtime})
        patch.setattr("steadyscale.core.jobs.state.job_plan.load_plan", lambda _: elsewhere)
        with pytest.raises(ClipError, match=r"planned for cuda with torch \(fp16\), and here .* on cpu with torch"):
            run_shard(folder)
    with pytest.raises(ClipError, match=r"7/7 is not a shard"):
        run_shard(folder, 7, 7)
    assert [*folder.glob("parts/*")] == []


def test_a_piece_of_another_precision_is_not_kept(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = job.copy(tmp_path / "job")
    planned = replace(load_plan(JobFolder(folder)), computed=[["torch", "fp16"]])
    monkeypatch.setattr("steadyscale.core.jobs.state.job_plan.load_plan", lambda _: planned)
    with pytest.raises(PieceError, match="computed by torch fp32, and the plan is for torch fp16"):
        run_shard(folder, 0, 7)
    assert [*folder.glob("parts/*.json")] == []


@pytest.fixture(scope="module")
def computed(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the job with all parts."""
    folder = job.copy(tmp_path_factory.mktemp("computed") / "job")
    run_shard(folder)
    return folder


def test_a_damaged_part_is_named_and_computed_again(computed: Path, job: Job, tmp_path: Path):
    folder, target = Path(shutil.copytree(computed, tmp_path / "job")), tmp_path / "out.mkv"
    [part] = folder.glob("parts/00003-*.mkv")
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    with pytest.raises(ClipError, match=r"1 of 7 pieces are not finished \(3\)"):
        join_job(folder, target)
    assert run_shard(folder).computed == [3]
    join_job(folder, target)
    assert has_same_content(target, job.result)


def test_a_join_that_fails_leaves_nothing_under_the_name(
    computed: Path, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder, target = Path(shutil.copytree(computed, tmp_path / "job")), tmp_path / "out.mkv"
    monkeypatch.setattr("steadyscale.core.jobs.join.hash_video_packets", lambda _: "other")
    with pytest.raises(VerificationError, match=r"out\.mkv: the result failed verification: its video is not that"):
        join_job(folder, target)
    assert [path.name for path in tmp_path.iterdir()] == ["job"]
    monkeypatch.undo()
    assert join_job(folder, target, keep_files=True).frames_out == COUNT
    join_job(folder, target)
    assert has_same_content(target, job.result)


def test_a_join_that_was_killed_while_it_removed_the_job_is_finished(
    computed: Path, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder, target = Path(shutil.copytree(computed, tmp_path / "job")), tmp_path / "out.mkv"

    def remove_some(self: JobFolder, kept: set[str]) -> None:
        self.remove_part(3)
        raise KeyboardInterrupt

    monkeypatch.setattr(JobFolder, "remove_unused", remove_some)
    with pytest.raises(KeyboardInterrupt):
        join_job(folder, target)
    monkeypatch.undo()
    with pytest.raises(ClipError, match="there is no plan"):
        run_shard(folder)
    report = join_job(folder, target)
    assert (report.frames_out, report.stats and report.stats.frames) == (COUNT, COUNT + CONTEXT_FRAMES)
    assert has_same_content(target, job.result)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mkv"]


def test_two_joins_at_once_do_not_disturb_each_other(
    computed: Path, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder, target = Path(shutil.copytree(computed, tmp_path / "job")), tmp_path / "out.mkv"
    reports, both = [], threading.Barrier(2, timeout=60)
    check = shard.finished_parts

    def meet(*args):
        both.wait()
        return check(*args)

    monkeypatch.setattr("steadyscale.core.jobs.join.finished_parts", meet)
    threads = [threading.Thread(target=lambda: reports.append(join_job(folder, target))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [report.frames_out for report in reports] == [COUNT, COUNT]
    assert has_same_content(target, job.result)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mkv"]


def test_planning_again_changes_nothing_and_other_settings_begin_anew(computed: Path, job: Job, tmp_path: Path, caplog):
    folder = Path(shutil.copytree(computed, tmp_path / "job"))
    plan_file = (folder / "plan.json").read_bytes()
    target = Path(job.plan.target)
    plan_job(job.source, target, folder, **arguments(job.weights))
    assert (folder / "plan.json").read_bytes() == plan_file
    assert run_shard(folder).computed == []
    plan_job(job.source, target, folder, **(arguments(job.weights) | {"deflicker": 0.5}))
    assert "the settings of this run differ (operations)" in caplog.text
    assert [*folder.glob("parts/*")] == []


def test_a_stabilized_clip_needs_no_weights(job: Job, tmp_path: Path):
    options = {"segment_seconds": 0.3, "encoding": Encoding("ffv1")}
    plan = plan_job(job.source, tmp_path / "out.mkv", tmp_path / "job", command="stabilize", **options)
    for index in range(2):
        run_shard(tmp_path / "job", index, 2)
    report = join_job(tmp_path / "job")
    whole = stabilize_video(job.source, tmp_path / "whole.mkv", resumable=True, **options)
    assert frame_hashes(tmp_path / "out.mkv") == frame_hashes(tmp_path / "whole.mkv")
    one, other = report.as_dict(), whole.as_dict()
    assert {name: one[name] for name in COMPARABLE} == {name: other[name] for name in COMPARABLE}
    assert plan.computed == []


def test_a_plan_states_the_strength_that_the_network_chose(job: Job, tmp_path: Path):
    plan = plan_job(job.source, tmp_path / "out.mkv", tmp_path / "job", command="upscale", model=DEFAULT_2X.name)
    assert plan.arguments["deflicker"] == DEFAULT_2X.deflicker > 0


def test_a_folder_without_a_plan_is_an_error(tmp_path: Path):
    with pytest.raises(ClipError, match=r"there is no plan in this folder; plan the job first \(--plan\)"):
        run_shard(tmp_path)
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(ClipError, match="its plan is damaged"):
        join_job(tmp_path)


def test_all_settings_of_upscaling_are_in_the_plan():
    settings = UpscaleSettings(
        OutputSize(size=(640, 360)), Tiling(96, 4), Precision.BF16, Reuse(False, 2.0),
        PostProcess(0.5, ColorCorrection.WAVELET, 0.25, True), Alpha.NETWORK, True, Engine.ONNX,
    )  # fmt: skip
    assert decode_upscaling(encode_upscaling(settings)) == settings
    assert all(getattr(settings, name) != value for name, value in vars(UpscaleSettings()).items())
