"""Test LazyVideo on a fake host: what is rendered, when, and how often."""

from __future__ import annotations

import gc
import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from node_calls import CountingUpscaler, identity_correction, run_upscale, run_warp
from numbered_video import make_video, numbered_frames, read_number, read_numbers
from steadyscale.core.clip import ClipError, ClipInfo
from steadyscale.core.path.trajectory import Correction
from steadyscale.core.pipeline.upscale_op import UpscaleOp
from steadyscale.core.pipeline.warp_op import WarpOp
from steadyscale.core.video.decode.packets import demux
from steadyscale.core.video.decode.timestamps import read_timestamps
from steadyscale.core.video.decode.video_clip import VideoClip
from steadyscale.core.video.encode.codecs import Encoding
from steadyscale.core.video.encode.writer import write_video
from steadyscale.core.video.format.stream_format import HLG
from video_file_checks import read_packet_times
from yuv_frames import write_ten_bit_ramp


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """File names of decoded frames, from here on, including reads of a first frame."""
    names: list[str] = []
    original = demux.decode_frames

    def counted(container, stream, *watch):
        for frame in original(container, stream, *watch):
            names.append(Path(container.name.removeprefix("file:")).name)
            yield frame

    monkeypatch.setattr(demux, "decode_frames", counted)
    return names


def test_nothing_runs_before_pixels_are_needed(fake_host, clip_file: Path):
    network = CountingUpscaler()
    video = run_upscale(fake_host, fake_host.VideoFromFile(str(clip_file)), network)
    assert isinstance(video, fake_host.VideoInput)
    assert video.get_dimensions() == (128, 96)
    assert video.get_frame_rate() == 24
    assert video.get_frame_count() == 12
    assert video.get_duration() == pytest.approx(0.5)
    assert (video.get_bit_depth(), video.get_color_space()) == (8, "sRGB")
    assert "mp4" in video.get_container_format()
    part = video.as_trimmed(0.25, 0.125)
    assert (part.get_frame_count(), part.get_duration(), part.get_dimensions()) == (3, 0.125, (128, 96))
    assert video.as_trimmed(0.6) is None
    assert network.frame_count == 0
    assert fake_host.files() == []
    assert fake_host.progress == []


def test_saving_keeps_frames_audio_timestamps_and_metadata(fake_host, clip_file: Path, tmp_path: Path):
    video = run_upscale(fake_host, fake_host.VideoFromFile(str(clip_file)))
    target = tmp_path / "out.mp4"
    video.save_to(str(target), format="mp4", codec="h264", metadata={"prompt": {"1": "x"}, "note": "y"}, preset=None)
    clip = VideoClip(target)
    assert (clip.info.width, clip.info.height) == (128, 96)
    assert read_numbers(clip) == list(range(12))
    old, new = read_timestamps(clip_file), read_timestamps(target)
    assert [s * new.time_base for s in new.starts] == [s * old.time_base for s in old.starts]
    with av.open(str(clip_file)) as source, av.open(str(target)) as made:
        assert made.metadata["prompt"] == '{"1": "x"}'
        assert (made.metadata["note"], made.metadata["title"]) == ("y", "twelve bars")
        packets = [[bytes(p) for p in c.demux(c.streams.audio[0]) if p.size] for c in (source, made)]
        assert packets[0] == packets[1]
    with av.open(str(clip_file)) as source, av.open(str(target)) as made:
        first = [c.streams.audio[0].start_time * c.streams.audio[0].time_base for c in (source, made)]
        assert first[0] == first[1] > Fraction(4, 10)
    done = [(value, total) for value, total, _ in fake_host.progress]
    assert (done[0], done[-1]) == ((1, 12), (12, 12))
    assert done == sorted(set(done))


def test_chain_of_three_nodes_decodes_once(fake_host, clip_file: Path, tmp_path: Path, decoded: list[str]):
    network = CountingUpscaler()
    video = fake_host.VideoFromFile(str(clip_file))
    first, mask = run_warp(fake_host, video, identity_correction(clip_file), "mirror")
    second = run_upscale(fake_host, first, network)
    third = run_upscale(fake_host, second, resize_to="factor", factor=0.5)
    assert [type(o) for o in third.plan.pipeline.operations] == [UpscaleOp, UpscaleOp, WarpOp], "the warp comes last"
    decoded.clear()
    third.save_to(str(tmp_path / "one.mp4"))
    looks = 2  # at the first frame for its color tags: by the writer and by the verification
    assert decoded.count("source.mp4") == 12 + looks
    assert len(decoded) == 12 + looks + 13, "and the result once, to be checked, after a look at its first frame"
    assert network.frame_count == 12
    decoded.clear()
    third.save_to(str(tmp_path / "two.mp4"), codec="h264")
    buffer = io.BytesIO()
    third.save_to(buffer)
    source = third.get_stream_source()
    assert decoded == []
    assert network.frame_count == 12
    assert read_numbers(VideoClip(tmp_path / "two.mp4")) == read_numbers(VideoClip(source)) == list(range(12))
    (tmp_path / "three.mp4").write_bytes(buffer.getvalue())
    assert read_numbers(VideoClip(tmp_path / "three.mp4")) == list(range(12))
    assert mask.shape == (1, 48, 64)
    assert not mask.any()


def test_temporary_file_is_deleted_with_the_video(fake_host, clip_file: Path):
    video = run_upscale(fake_host, fake_host.VideoFromFile(str(clip_file)))
    assert Path(video.get_stream_source()).exists()
    assert len(fake_host.files()) == 1
    part = video.as_trimmed(0.25, 0.25)
    del video
    gc.collect()
    assert fake_host.files() == [], "its part is rendered on its own"
    cropped = part.as_cropped(0, 0, 64, 48)
    del part
    gc.collect()
    assert len(fake_host.files()) == 1
    assert len(cropped.get_components().images) == 6
    del cropped
    gc.collect()
    assert fake_host.files() == []


def test_deleted_temporary_file_is_rendered_again(fake_host, clip_file: Path):
    network = CountingUpscaler()
    video = run_upscale(fake_host, fake_host.VideoFromFile(str(clip_file)), network)
    Path(video.get_stream_source()).unlink()
    assert read_numbers(VideoClip(video.get_stream_source())) == list(range(12))
    assert network.frame_count == 24


def test_second_format_does_not_derive_from_the_first(fake_host, clip_file: Path, tmp_path: Path):
    network = CountingUpscaler()
    video = run_upscale(fake_host, fake_host.VideoFromFile(str(clip_file)), network)
    video.get_stream_source()
    video.save_to(str(tmp_path / "deep.mkv"), codec="h265", bit_depth=10)
    clip = VideoClip(tmp_path / "deep.mkv")
    assert (clip.stream_format.codec, clip.stream_format.pixel_format) == ("hevc", "yuv420p10le")
    assert read_numbers(clip) == list(range(12))
    assert network.frame_count == 24


@pytest.fixture
def noisy_clip(tmp_path: Path) -> Path:
    """A clip that a fast encoder spoils."""
    noise = torch.rand(8, 3, 48, 64, generator=torch.Generator().manual_seed(3))
    file = tmp_path / "noise.mkv"
    write_video(file, iter(noise.split(1)), ClipInfo(64, 48, Fraction(24)), encoding=Encoding("ffv1"))
    return file


@pytest.mark.parametrize("settings", [{}, {"codec": "h265"}, {"format": "mkv", "codec": "h264", "crf": 20.0}])
def test_a_preview_does_not_become_the_master(fake_host, noisy_clip: Path, tmp_path: Path, settings):
    """Hosts from 0.35 on save a preview first, then ask the same object again."""
    network, suffix = CountingUpscaler(), settings.get("format", "mp4")
    direct = run_upscale(fake_host, fake_host.VideoFromFile(str(noisy_clip)), network)
    direct.save_to(str(tmp_path / f"direct.{suffix}"), **settings)
    video = run_upscale(fake_host, fake_host.VideoFromFile(str(noisy_clip)), network)
    network.frame_count = 0
    video.save_to(str(tmp_path / "preview.mp4"), preset="ultrafast", crf=35.0)
    video.save_to(str(tmp_path / f"later.{suffix}"), **settings)
    assert network.frame_count == 8, "the lossless master is shared"
    files = [tmp_path / name for name in (f"direct.{suffix}", f"later.{suffix}", "preview.mp4")]
    assert read_packet_times(files[0], "video") == read_packet_times(files[1], "video")
    expected, later, preview = (torch.cat(list(VideoClip(file).frames())) for file in files)
    # The same frames are encoded, but x264 does not always write the same bytes for them.
    assert (later - expected).abs().mean() < 1e-3
    assert (preview - expected).abs().mean() > 1e-2


def test_the_master_has_the_frames_that_an_encoder_gets(fake_host, noisy_clip: Path, tmp_path: Path):
    frames = {}
    for preset in (None, "ultrafast"):
        video = run_upscale(fake_host, fake_host.VideoFromFile(str(noisy_clip)))
        video.save_to(str(tmp_path / "first.mp4"), preset=preset, crf=0.0)
        frames[preset] = torch.cat(list(VideoClip(tmp_path / "first.mp4").frames()))
    assert torch.equal(frames[None], frames["ultrafast"]), "crf 0 is lossless"


@pytest.mark.parametrize("preview", [True, False])
def test_parts_and_components_do_not_derive_from_another_encode(fake_host, clip_file: Path, tmp_path: Path, preview):
    video = run_upscale(fake_host, fake_host.VideoFromFile(str(clip_file)))
    expected = torch.cat(list(video.plan.pipeline.frames())).movedim(1, -1)
    video.save_to(str(tmp_path / "first.mp4"), crf=40.0, preset="ultrafast" if preview else None)
    images = video.get_components().images
    assert (images - expected).abs().mean() < 0.004, "only chroma subsampling"
    part = video.as_trimmed(0.25, 0.25)
    part.save_to(str(tmp_path / "part.mp4"), crf=1.0)
    part_frames = torch.cat(list(VideoClip(tmp_path / "part.mp4").frames())).movedim(1, -1)
    assert (part_frames - expected[6:]).abs().mean() < 0.006
    assert (video.as_cropped(0, 0, 64, 48).get_components().images.shape[1:3]) == (48, 64)


def test_ten_bits_are_kept_by_default(fake_host, tmp_path: Path):
    write_ten_bit_ramp(tmp_path / "ramp.mkv")
    video = run_upscale(fake_host, fake_host.VideoFromFile(str(tmp_path / "ramp.mkv")))
    assert video.get_bit_depth() == 10
    for settings, codec in (({}, "h264"), ({"bit_depth": 10}, "hevc")):
        video.save_to(str(tmp_path / "out.mp4"), **settings)
        with av.open(str(tmp_path / "out.mp4")) as made:
            assert made.streams.video[0].codec_context.name == codec
            frame = next(made.decode(video=0))
        assert frame.format.name == "yuv420p10le"
        codes = np.frombuffer(memoryview(frame.planes[0]), np.uint16).reshape(frame.height, -1)[:, : frame.width]
        assert len(np.unique(codes)) >= 800
    assert len(video.get_components().images.unique()) >= 800
    video.save_to(str(tmp_path / "flat.mp4"), bit_depth=8)
    assert VideoClip(tmp_path / "flat.mp4").stream_format.pixel_format == "yuv420p"


def test_frames_in_memory_have_the_depth_that_the_host_states(fake_host, tmp_path: Path):
    """Create Video with bit depth 10."""
    ramp = torch.linspace(0, 1, 1024).expand(2, 64, 1024)[..., None].expand(-1, -1, -1, 3)
    source = fake_host.VideoFromComponents(fake_host.Components(ramp, Fraction(24)))
    source.get_bit_depth = lambda: 10
    video = run_upscale(fake_host, source)
    assert video.get_bit_depth() == 10
    video.save_to(str(tmp_path / "out.mp4"))
    clip = VideoClip(tmp_path / "out.mp4")
    assert clip.stream_format.pixel_format == "yuv420p10le"
    assert len(next(clip.frames())[0, 1].unique()) >= 800


@pytest.mark.parametrize(
    ("settings", "codec", "pixels"),
    [
        ({"crf": 30.0, "preset": "ultrafast"}, "h264", "yuv420p"),
        ({"bit_depth": 8, "color_space": "sRGB"}, "h264", "yuv420p"),
        ({"bit_depth": 10}, "hevc", "yuv420p10le"),
        ({"format": "webm", "codec": "vp9"}, "vp9", "yuv420p"),
        ({"format": "webm", "codec": "auto"}, "av1", "yuv420p10le"),
        ({"format": "mkv", "codec": "av1"}, "av1", "yuv420p10le"),
    ],
)
def test_settings_of_newer_hosts_are_applied(fake_host, clip_file, tmp_path, settings, codec, pixels):
    video = run_upscale(fake_host, fake_host.VideoFromFile(str(clip_file)))
    target = tmp_path / f"out.{settings.get('format', 'mp4')}"
    video.save_to(str(target), **settings)
    stored = VideoClip(target).stream_format
    assert (stored.codec.replace("libdav1d", "av1"), stored.pixel_format) == (codec, pixels)
    assert len(fake_host.files()) == (2 if "preset" in settings else 1), "a preview leaves a lossless master"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sharpness": 3}, "sharpness cannot be set"),
        ({"color_space": "HDR"}, "is sRGB and is not converted to HDR"),
        ({"bit_depth": 12}, "8 or 10 bits, not 12"),
        ({"codec": "theora"}, "theora"),
        ({"format": "avi"}, "avi"),
        ({"crf": 99}, "crf 99"),
    ],
)
def test_unsupported_settings_are_refused_before_rendering(fake_host, clip_file, tmp_path, settings, words):
    network = CountingUpscaler()
    video = run_upscale(fake_host, fake_host.VideoFromFile(str(clip_file)), network)
    with pytest.raises(ClipError, match=words) as error:
        video.save_to(str(tmp_path / "out.mp4"), **settings)
    assert "Upscale Frames" in str(error.value), "the message appears on another node"
    assert network.frame_count == 0
    assert not (tmp_path / "out.mp4").exists()
    video.save_to(str(tmp_path / "out.mp4"), sharpness=None)


def test_cancel_stops_rendering_and_leaves_no_file(fake_host, clip_file: Path, tmp_path: Path):
    network = CountingUpscaler()
    video = run_upscale(fake_host, fake_host.VideoFromFile(str(clip_file)), network)
    fake_host.cancel_after = 7
    with pytest.raises(fake_host.Interrupted):
        video.save_to(str(tmp_path / "out.mp4"))
    assert network.frame_count < 6
    assert fake_host.files() == []
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["source.mp4"]
    fake_host.cancel_after = None
    video.save_to(str(tmp_path / "out.mp4"))
    assert read_numbers(VideoClip(tmp_path / "out.mp4")) == list(range(12)), "and it runs when it is asked again"


def test_render_error_names_the_planning_nodes_and_leaves_no_file(fake_host, clip_file: Path, tmp_path: Path):
    correction = identity_correction(clip_file)
    longer = Correction(np.tile(np.eye(3), (20, 1, 1)), [slice(0, 20)], correction.info)
    video = run_upscale(fake_host, run_warp(fake_host, fake_host.VideoFromFile(str(clip_file)), longer)[0])
    with pytest.raises(ClipError, match=r"\(Warp/Pad Frames, Upscale Frames\): the clip ended after 12 frames"):
        video.save_to(str(tmp_path / "out.mp4"))
    assert fake_host.files() == []
    assert not (tmp_path / "out.mp4").exists()


def test_components_have_all_frames_and_audio(fake_host, tmp_path: Path):
    source = make_video(tmp_path / "source.mp4", audio_start=0.0)
    video = run_upscale(fake_host, fake_host.VideoFromFile(str(source)), resize_to="size", width=99, height=75)
    parts = video.get_components()
    assert parts.images.shape == (12, 75, 99, 3)
    assert [read_number(frame.permute(2, 0, 1)) for frame in parts.images] == list(range(12))
    assert parts.frame_rate == 24
    assert parts.audio["sample_rate"] == 48_000
    waveform = parts.audio["waveform"][0]
    assert waveform.shape[0] == 2
    assert waveform.shape[1] == pytest.approx(20 * 1024, abs=2048)
    assert waveform.abs().max() == pytest.approx(0.5, abs=0.1)


def test_components_keep_a_late_audio_start(fake_host, clip_file: Path):
    waveform = run_upscale(fake_host, fake_host.VideoFromFile(str(clip_file))).get_components().audio["waveform"][0, 0]
    assert waveform[:22_000].abs().max() < 1e-3
    assert waveform[26_000:40_000].abs().max() > 0.4


@pytest.mark.parametrize("audio_start", [0.1, 0.6])
def test_components_keep_the_audio_offset_of_a_late_first_frame(fake_host, tmp_path: Path, audio_start: float):
    """The first frame is at 0.4 s: earlier audio is cut off, later audio starts later."""
    starts = [9600 + 1000 * n for n in range(12)]
    source = make_video(tmp_path / "late.mp4", starts=starts, audio_start=audio_start)
    waveform = (
        run_upscale(fake_host, fake_host.VideoFromFile(str(source))).get_components().audio["waveform"][0, 0].abs()
    )
    length = round((audio_start + 20 * 1024 / 48000 - 0.4) * 48000)
    assert len(waveform) == pytest.approx(length, abs=2048)
    first = round(max(0.0, audio_start - 0.4) * 48000)
    assert waveform[: max(1, first - 1100)].max() < (0.1 if first else 0.6)
    assert waveform[first + 1100 : first + 3000].max() > 0.4


def test_components_that_do_not_fit_in_memory_are_refused_before_rendering(fake_host, clip_file: Path):
    network = CountingUpscaler()
    video = run_upscale(fake_host, fake_host.VideoFromFile(str(clip_file)), network)
    fake_host.management.get_free_memory.return_value = 1000
    with pytest.raises(ClipError, match=r"Upscale Frames.*12 frames of 128x96 need .* GiB .*keep it a VIDEO"):
        video.get_components()
    assert network.frame_count == 0


def test_hdr_is_written_with_its_tags(fake_host, tmp_path: Path):
    source = tmp_path / "hdr.mp4"
    with av.open(str(source), "w") as sink:
        stream = sink.add_stream("libx265", rate=24, options={"x265-params": "log-level=error"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 9, 9, HLG, 1
        for i in range(3):
            pixels = np.full((48, 64, 3), 20_000 + 1000 * i, np.uint16)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb48le").reformat(format="yuv420p10le")
            frame.colorspace, frame.color_primaries, frame.color_trc = 9, 9, HLG
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    video = run_upscale(fake_host, fake_host.VideoFromFile(str(source)))
    assert (video.get_color_space(), video.get_bit_depth()) == ("HDR", 10)
    video.save_to(str(tmp_path / "out.mp4"), color_space="HDR")
    stored = VideoClip(tmp_path / "out.mp4").stream_format
    assert (stored.codec, stored.pixel_format, stored.transfer) == ("hevc", "yuv420p10le", HLG)


def test_memory_is_reserved_when_rendering_starts(fake_host, clip_file: Path):
    video = run_upscale(fake_host, fake_host.VideoFromFile(str(clip_file)))
    assert fake_host.reserved == []
    video.get_stream_source()
    assert len(fake_host.reserved) == 1
    assert fake_host.reserved[0][0] > 64 * 48


@pytest.mark.parametrize("kind", ["VIDEO", "IMAGE"])
def test_warps_reserve_memory(fake_host, clip_file: Path, kind: str):
    frames = fake_host.VideoFromFile(str(clip_file)) if kind == "VIDEO" else numbered_frames(12).permute(0, 2, 3, 1)
    made = run_warp(fake_host, frames, identity_correction(clip_file))[0]
    if kind == "VIDEO":
        assert fake_host.reserved == []
        made.get_stream_source()
    [(size, device)] = fake_host.reserved
    assert size >= 3 * 4 * 3 * 64 * 48, "the frame, what it becomes, and where from"
    assert device == torch.device("cpu")


def test_masks_count_in_the_memory_check(fake_host, clip_file: Path):
    images = numbered_frames(12).permute(0, 2, 3, 1)
    fake_host.management.get_free_memory.return_value = images.numel() * 4 + 1000
    with pytest.raises(ClipError, match="GiB are free"):
        run_warp(fake_host, images, identity_correction(clip_file))


def test_reading_a_pipeline_reserves_memory_and_its_info_does_not(fake_host, clip_file: Path):
    clips = fake_host.import_("_video.inputs")
    video = run_upscale(fake_host, fake_host.VideoFromFile(str(clip_file)))
    assert (clips.info_from_input(video).width, fake_host.reserved) == (video.get_dimensions()[0], [])
    assert clips.clip_from_input(video).info.length == 12
    assert len(fake_host.reserved) == 1
    fake_host.import_("estimate_flow").EstimateFlow.execute(video, "farneback", 24.0, 64, pictures=0)
    assert len(fake_host.reserved) == 1, "motion is measured before the network, which does not run for it"


def test_settings_of_saving_reach_the_encoder(fake_host, clip_file: Path):
    video = run_upscale(fake_host, fake_host.VideoFromFile(str(clip_file)))
    assert video._choose_format(".mp4", "h264", 10, 20.4, "fast").encoding == Encoding(
        "h264", 20, "fast", "yuv420p10le"
    )
    assert video._choose_format(".mp4", "auto", None, 20.6, "fast").encoding == Encoding("h264", 21, "fast")
    assert video._choose_format(".mkv", "hevc", 8, None, "fast").encoding == Encoding("hevc"), "presets are for H.264"


def test_no_method_of_the_newest_host_holds_all_frames(fake_host):
    """Those of the base class would."""
    lazy_video, base = fake_host.import_("_video.lazy_video").LazyVideo, fake_host.VideoInput
    slow = {name for name in dir(base) if getattr(base, name) is base._everything} - {"_everything"}
    assert len(slow) >= 8
    assert {name for name in slow if getattr(lazy_video, name) is base._everything} == set()


def test_a_resized_video_is_made_from_the_lossless_master(fake_host, clip_file: Path):
    network = CountingUpscaler()
    video = run_upscale(fake_host, fake_host.VideoFromFile(str(clip_file)), network)
    resized = video.as_resized(64, 48, "area", crop="center")
    assert resized.get_dimensions() == (64, 48)
    assert Path(resized.get_stream_source()).suffix == ".mkv"
    images = resized.get_components().images
    assert images.shape == (12, 48, 64, 3)
    source = fake_host.VideoFromFile(str(clip_file)).get_components().images
    assert (images - source).abs().mean() < 0.02, "doubled and halved"
    assert network.frame_count == 12


def test_an_open_file_gets_the_video(fake_host, clip_file: Path, tmp_path: Path):
    video = run_upscale(fake_host, fake_host.VideoFromFile(str(clip_file)))
    with (tmp_path / "out").open("wb") as file:
        video.save_to(file)
    assert VideoClip(tmp_path / "out").info.width == 128
