"""What all commands from clip to clip have in common: input, output, reports, errors."""

from __future__ import annotations

import inspect
import json
from importlib import import_module
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from corrupt_videos import GOP_SIZE, corrupt_packet, make_moving_video
from numbered_video import numbered_frames, read_numbers
from steadyscale.core.video.images.image_clip import ImageClip
from steadyscale.core.video.images.png_writer import write_images
from steadyscale.core.video.open import open_clip
from video_file_checks import list_files
from yuv_frames import write_ten_bit_ramp


def test_images_in_and_out(tmp_path: Path, weights: Path, run_cli):
    write_images(tmp_path / "in", iter([numbered_frames(3)]))
    code, stdout, _ = run_cli(
        "upscale",
        tmp_path / "in" / "frame_%06d.png",
        tmp_path / "out",
        "--model",
        weights,
        "--fps",
        "30000/1001",
        "--json",
    )
    report = json.loads(stdout)
    assert (code, report["frames_out"], report["width"], report["fps"]) == (0, 3, 128, 29.97003)
    assert read_numbers(open_clip(tmp_path / "out")) == [0, 1, 2]
    code, _, _ = run_cli("upscale", tmp_path / "in" / "frame_000002.png", tmp_path / "one.png", "--model", weights)
    assert code == 0
    assert read_numbers(open_clip(tmp_path / "one.png")) == [1]


def test_the_report_is_on_the_written_files_only(tmp_path: Path, weights: Path, run_cli):
    write_images(tmp_path / "in", iter([numbered_frames(2)]))
    write_images(tmp_path / "out" / "a.png", iter([numbered_frames(1, 40, 40)]))
    (tmp_path / "out" / "b.jpg").touch()
    for out in ("out", "out/f_%02d.png"):
        code, stdout, stderr = run_cli(
            "upscale", tmp_path / "in", tmp_path / out, "--model", weights, "--fps", "25", "--json"
        )
        assert code == 0, stderr
        report = json.loads(stdout)
        assert (report["frames_out"], report["width"], report["height"], report["fps"]) == (2, 128, 96, 25)


def test_large_images_are_read_where_they_are_allowed(tmp_path: Path, weights: Path, run_cli, monkeypatch):
    write_images(tmp_path / "in", iter([numbered_frames(2)]))
    defaults = inspect.unwrap(ImageClip.__init__).__kwdefaults__
    monkeypatch.setitem(defaults, "max_pixels", 1000)  # rather than an image of 50 million
    words = ("upscale", tmp_path / "in", "--model", weights)
    stderr = run_cli(*words, tmp_path / "out", "--max-pixels", "1000")[2]
    assert "exceed the limit of 1,000 pixels; raise max_pixels (--max-pixels)" in stderr
    for out in ((tmp_path / "out",), (tmp_path / "out.mkv", "--resumable")):
        code, _, stderr = run_cli(*words, *out, "--max-pixels", "10000")
        assert code == 0, stderr


def test_a_gap_in_the_numbers_is_logged_once(tmp_path: Path, weights: Path, run_cli):
    write_images(tmp_path / "in", iter([numbered_frames(3)]))
    (tmp_path / "in" / "frame_000002.png").unlink()
    for out in ((tmp_path / "out",), (tmp_path / "out.mkv", "--resumable")):
        code, _, stderr = run_cli("upscale", tmp_path / "in", "--model", weights, *out)
        assert (code, stderr.count("an image may be missing")) == (0, 1)


@pytest.mark.parametrize("words", [(), ("--resumable",)])
@pytest.mark.parametrize(
    "name", ["movie [1080p].mp4", "what?.mkv", "100%d.mp4", "take2:x.mp4", "\u7535" * 80 + ".mp4", "shots [1]"]
)
def test_a_name_for_writing_means_what_it_says(
    tmp_path: Path, clip_file: Path, weights, run_cli, monkeypatch, name, words
):
    if words and not Path(name).suffix:
        return  # a job writes no images
    monkeypatch.chdir(tmp_path)
    code, _, stderr = run_cli("upscale", clip_file.name, name, "--model", weights, *words)
    assert code == 0, stderr
    assert list_files(tmp_path) == sorted([clip_file.name, name])
    assert read_numbers(open_clip(name)) == list(range(12))


def test_more_than_256_levels_survive(tmp_path: Path, weights: Path, run_cli):
    """16 bits in and out: the network of the tests repeats pixels, so each of 6144 levels must come out as it was."""
    levels = torch.arange(48 * 128).reshape(1, 1, 48, 128) * 10 + 99
    write_images(tmp_path / "in", iter([(levels / 65535).expand(1, 3, 48, 128)]), bits=16)
    words = ("upscale", tmp_path / "in", tmp_path / "out", "--model", weights)
    for bits, distinct in (("16", 6144), ("8", 240)):
        assert run_cli(*words, "--bits", bits)[0] == 0
        result = (torch.cat(list(open_clip(tmp_path / "out").frames())) * 65535).round().long()
        assert len(result.unique()) == distinct
        if bits == "16":
            assert torch.equal(result[:, :1], levels.repeat_interleave(2, -1).repeat_interleave(2, -2))


def test_without_json_the_report_is_one_line(tmp_path: Path, clip_file: Path, weights: Path, run_cli):
    code, stdout, _ = run_cli("upscale", clip_file, tmp_path / "o.mp4", "--model", weights)
    assert code == 0
    assert stdout.count("\n") == 1
    assert "12 frames, 128x96 at 24 fps" in stdout
    code, stdout, stderr = run_cli("upscale", clip_file, tmp_path / "o.mp4", "--model", weights, "--quiet")
    assert (code, stdout, stderr) == (0, "", "")


def test_a_resumable_run_is_continued(tmp_path: Path, clip_file: Path, weights: Path, run_cli, monkeypatch):
    words = ["upscale", clip_file, tmp_path / "out.mp4", "--model", weights, "--device", "cpu", "--grain", "0.5"]
    job = ["--resumable", "--segment-seconds", "0.25"]  # 6 of its 12 frames
    module = import_module("steadyscale.core.pipeline.upscale_op")
    upscale, seen = module.upscale, []

    def interrupted(frames, *settings, **more):
        for n, frame in enumerate(upscale(frames, *settings, **more)):
            if more["first_frame"] + n == 8 and not seen:
                seen.append(n)
                raise KeyboardInterrupt
            yield frame

    monkeypatch.setattr(module, "upscale", interrupted)
    code, _, stderr = run_cli(*words, *job)
    assert code == 130
    assert "run the same command again to resume" in stderr
    assert list_files(tmp_path) == ["out.mp4.job", "source.mp4"]
    code, stdout, stderr = run_cli(*words, *job, "--json")
    assert code == 0
    assert "1 of 2 segments are finished" in stderr
    assert json.loads(stdout)["frames_out"] == 12
    assert list_files(tmp_path) == ["out.mp4", "source.mp4"]
    assert read_numbers(open_clip(tmp_path / "out.mp4")) == list(range(12))
    resumed = torch.cat(list(open_clip(tmp_path / "out.mp4").frames()))
    assert run_cli(*words, *job)[0] == 0
    assert torch.equal(resumed, torch.cat(list(open_clip(tmp_path / "out.mp4").frames())))


@pytest.mark.parametrize("command", ["upscale", "stabilize", "enhance"])
def test_damage_stops_it_or_is_counted(tmp_path: Path, weights: Path, run_cli, command: str):
    count, out = 2 * GOP_SIZE + 4, tmp_path / "out.mp4"
    source = make_moving_video(tmp_path / "in.mp4", count=count, with_audio=True)
    broken = corrupt_packet(source, 2 * GOP_SIZE, 0.5)
    words = [command, broken, out, "--device", "cpu", *([] if command == "stabilize" else ["--model", weights])]
    code, stdout, stderr = run_cli(*words)
    assert (code, stdout) == (1, "")
    assert stderr.count("\n") == 1
    assert f"{broken}: frame 24 (1.000 s) is damaged" in stderr
    assert "--on-damage keep" in stderr
    assert not out.exists()
    code, stdout, stderr = run_cli(*words, "--on-damage", "keep", "--json")
    assert code == 0
    assert "1 damaged frame: 24 concealed (1.000 s)" in stderr
    report = json.loads(stdout)
    assert (report["frames_in"], report["frames_out"], report["damaged_frames"]) == (count, count, 1)
    assert report["damage"] == [{"first": 24, "last": 24, "seconds": 1.0, "kind": "concealed"}]
    code, stdout, _ = run_cli(*words, "--on-damage", "keep", "--resumable")
    assert code == 0
    assert "1 damaged frame: 24 concealed (1.000 s)" in stdout


def a_zero_byte_file(folder: Path) -> Path:
    (folder / "in.mp4").touch()
    return folder / "in.mp4"


def a_text(folder: Path) -> Path:
    (folder / "in.mp4").write_text("hello")
    return folder / "in.mp4"


def a_playlist(folder: Path) -> Path:
    (folder / "in.mp4").write_text("ffconcat version 1.0\nfile other.mp4\n")
    return folder / "in.mp4"


@pytest.mark.parametrize("make", [a_zero_byte_file, a_text, a_playlist, lambda folder: folder / "missing.mp4"])
@pytest.mark.parametrize("command", ["upscale", "stabilize"])
def test_a_bad_source_is_1_and_one_line(tmp_path: Path, weights: Path, run_cli, make, command: str):
    source = make(tmp_path)
    before = list_files(tmp_path)
    model = ("--model", weights) if command == "upscale" else ()
    code, stdout, stderr = run_cli(command, source, tmp_path / "out.mp4", *model)
    assert (code, stdout) == (1, "")
    assert stderr.startswith(f"steadyscale: {source}: ")
    assert stderr.count("\n") == 1
    assert list_files(tmp_path) == before


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("source.mp4", [], "source itself"),
        ("out.xyz", [], "not as '.xyz'"),
        ("nowhere/out.mp4", [], "does not exist"),
        ("out.mp4", ["--codec", "ffv1"], "not ffv1; write .mkv"),
        ("out.mp4", ["--crf", "99"], "crf 99"),
    ],
)
def test_a_bad_target_is_reported_before_the_work(
    tmp_path: Path, clip_file: Path, run_cli, monkeypatch, out, options, message
):
    def never(*_, **__):
        raise AssertionError("the work has started")

    monkeypatch.setattr(import_module("steadyscale.core.stabilize.motion_estimator"), "estimate_motion", never)
    code, _, stderr = run_cli("stabilize", clip_file, tmp_path / out, *options)
    assert code == 1
    assert message in stderr
    assert list_files(tmp_path) == [clip_file.name]


def test_an_earlier_result_survives_a_failure(tmp_path: Path, clip_file: Path, weights: Path, run_cli, monkeypatch):
    (tmp_path / "out.mp4").write_bytes(b"earlier")

    def broken(frames, *_, **__):
        yield next(frames)
        raise RuntimeError("the network\nburst")

    monkeypatch.setattr(import_module("steadyscale.core.pipeline.upscale_op"), "upscale", broken)
    code, stdout, stderr = run_cli("upscale", clip_file, tmp_path / "out.mp4", "--model", weights)
    assert (code, stdout) == (1, "")
    assert stderr == "steadyscale: RuntimeError: the network burst (--debug shows where)\n"
    assert (tmp_path / "out.mp4").read_bytes() == b"earlier"
    code, _, stderr = run_cli("upscale", clip_file, tmp_path / "out.mp4", "--model", weights, "--debug")
    assert "Traceback" in stderr
    assert list_files(tmp_path) == ["out.mp4", clip_file.name]


def test_a_resumable_run_into_images_is_refused_before_anything_is_read(tmp_path: Path, clip_file: Path, run_cli):
    code, _, stderr = run_cli("stabilize", clip_file, tmp_path / "out", "--resumable")
    message = "resumable runs (--resumable, --job) write a video file; write images without them"
    assert (code, stderr) == (1, f"steadyscale: {tmp_path / 'out'}: {message}\n")
    assert "out" not in " ".join(list_files(tmp_path))


@pytest.mark.parametrize("choice", ["none", "auto", "cuda"])
def test_video_codecs_of_a_gpu_are_used_or_replaced(tmp_path: Path, clip_file: Path, run_cli, choice: str):
    """Of each one line states why it is not used, unless it was only a wish."""
    encoder = {"none": "software", "cuda": "nvenc"}.get(choice, choice)
    words = ("stabilize", clip_file, tmp_path / "out.mp4", "--device", "cpu")
    code, _, stderr = run_cli(*words, "--hwaccel", choice, "--encoder", encoder)
    assert code == 0, stderr
    assert len(list(open_clip(tmp_path / "out.mp4").frames())) == 12
    lines = [line for line in stderr.splitlines() if "coded " in line]
    assert len(lines) <= (2 if choice == "cuda" else 0), stderr
    assert all(" is decoded in software (cuda: " in line or " (h264_nvenc: " in line for line in lines)


def test_a_live_source_is_decoded_in_software(tmp_path: Path, clip_file: Path, run_cli):
    words = ("stabilize", clip_file, tmp_path / "out.mp4", "--live", "--device", "cpu")
    code, _, stderr = run_cli(*words, "--hwaccel", "auto")
    assert (code, stderr) == (1, "steadyscale: --live decodes on the CPU, without delay; leave out --hwaccel\n")
    assert run_cli(*words)[0] == 0


@pytest.mark.parametrize(
    ("options", "suffix", "expected"),
    [
        ((), ".mp4", "yuv420p10le"),
        (("--codec", "hevc"), ".mp4", "yuv420p10le"),
        (("--codec", "ffv1"), ".mkv", "yuv420p10le"),
        (("--pixel-format", "yuv420p"), ".mp4", "yuv420p"),
    ],
)
def test_ten_bits_are_kept_by_default(options, suffix: str, expected: str, tmp_path: Path, weights: Path, run_cli):
    write_ten_bit_ramp(tmp_path / "ramp.mkv")
    out = tmp_path / f"out{suffix}"
    code, _, stderr = run_cli("upscale", tmp_path / "ramp.mkv", out, "--model", weights, *options)
    assert code == 0, stderr
    assert ("--pixel-format yuv420p" in stderr) == (options == ()), "a hint about players"
    with av.open(str(out)) as made:
        frame = next(made.decode(video=0))
    assert frame.format.name == expected
    codes = np.frombuffer(memoryview(frame.planes[0]), np.uint16 if expected != "yuv420p" else np.uint8)
    levels = len(np.unique(codes.reshape(frame.height, -1)[:, : frame.width]))
    assert levels >= 800 if expected != "yuv420p" else levels <= 256


def test_sixteen_bit_images_stay_so_by_default(tmp_path: Path, weights: Path, run_cli):
    levels = torch.arange(48 * 128).reshape(1, 1, 48, 128) * 10 + 99
    write_images(tmp_path / "in", iter([(levels / 65535).expand(1, 3, 48, 128)]), bits=16)
    assert run_cli("upscale", tmp_path / "in", tmp_path / "out", "--model", weights)[0] == 0
    result = (torch.cat(list(open_clip(tmp_path / "out").frames())) * 65535).round().long()
    assert len(result.unique()) == 6144
