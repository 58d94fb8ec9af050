"""VIDEO in, VIDEO out, on a stand-in for the newest host: what runs, how often, when, and what is left when it ends."""

from __future__ import annotations

import gc
import io
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from broken import moving, with_noise
from counting import make_video, number_of, numbered, numbers_of
from steadyscale.core.clip import ClipError, TensorClip
from steadyscale.core.path.trajectory import Correction
from steadyscale.core.recipe import Enlarge, Steady
from steadyscale.core.video import media
from steadyscale.core.video.reader import VideoClip
from steadyscale.core.video.stored import HLG
from steadyscale.core.video.timing import timing

SETTINGS = {"resize_to": "model scale", "factor": 2.0, "width": 1, "height": 1, "tile": 0, "precision": "auto"}


class Network:
    """Doubles the size by repetition, and counts the frames that it is given."""

    scale, halo = 2, 2

    def __init__(self) -> None:
        self.frames = 0

    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        self.frames += len(frames)
        return F.interpolate(frames, scale_factor=2, mode="nearest")


def upscaled(newest, frames, network=None, **settings):
    node = newest.import_("upscale").UpscaleFrames
    return node.execute(network or Network(), frames, **{**SETTINGS, **settings}).result[0]


def still(clip_file: Path) -> Correction:
    info = VideoClip(clip_file).info
    return Correction(np.tile(np.eye(3), (info.length, 1, 1)), [slice(0, info.length)], info)


def warped(newest, frames, correction, border="crop", pad=0):
    return newest.import_("warp").WarpFrames.execute(frames, correction, border, pad).result


@pytest.fixture
def clip_file(tmp_path: Path) -> Path:
    return make_video(tmp_path / "source.mp4", audio_at=0.5, metadata={"title": "twelve bars"})


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pictures that were decoded, by file name, from here on; a look at a first frame counts as one."""
    names: list[str] = []
    original = media.decoded

    def counted(container, stream, *watch):
        for frame in original(container, stream, *watch):
            names.append(Path(container.name.removeprefix("file:")).name)
            yield frame

    monkeypatch.setattr(media, "decoded", counted)
    return names


def test_nothing_runs_before_somebody_needs_pixels(newest, clip_file: Path):
    network = Network()
    video = upscaled(newest, newest.VideoFromFile(str(clip_file)), network)
    assert isinstance(video, newest.VideoInput)
    assert video.get_dimensions() == (128, 96)
    assert video.get_frame_rate() == 24
    assert video.get_frame_count() == 12
    assert video.get_duration() == pytest.approx(0.5)
    assert (video.get_bit_depth(), video.get_color_space()) == (8, "sRGB")
    assert "mp4" in video.get_container_format()
    part = video.as_trimmed(0.25, 0.125)
    assert (part.get_frame_count(), part.get_duration(), part.get_dimensions()) == (3, 0.125, (128, 96))
    assert video.as_trimmed(0.6) is None
    assert network.frames == 0
    assert newest.files() == []
    assert newest.progress == []


def test_saving_keeps_frames_sound_times_and_names(newest, clip_file: Path, tmp_path: Path):
    video = upscaled(newest, newest.VideoFromFile(str(clip_file)))
    target = tmp_path / "out.mp4"
    video.save_to(str(target), format="mp4", codec="h264", metadata={"prompt": {"1": "x"}, "note": "y"}, preset=None)
    clip = VideoClip(target)
    assert (clip.info.width, clip.info.height) == (128, 96)
    assert numbers_of(clip) == list(range(12))
    old, new = timing(clip_file), timing(target)
    assert [s * new.base for s in new.starts] == [s * old.base for s in old.starts]
    with av.open(str(clip_file)) as source, av.open(str(target)) as made:
        assert made.metadata["prompt"] == '{"1": "x"}'
        assert (made.metadata["note"], made.metadata["title"]) == ("y", "twelve bars")
        sounds = [[bytes(p) for p in c.demux(c.streams.audio[0]) if p.size] for c in (source, made)]
        assert sounds[0] == sounds[1]
    with av.open(str(clip_file)) as source, av.open(str(target)) as made:
        first = [c.streams.audio[0].start_time * c.streams.audio[0].time_base for c in (source, made)]
        assert first[0] == first[1] > Fraction(4, 10)
    done = [(value, total) for value, total, _ in newest.progress]
    assert (done[0], done[-1]) == ((1, 12), (12, 12))
    assert done == sorted(set(done))


def test_a_chain_of_three_decodes_once_and_later_consumers_decode_nothing(
    newest, clip_file: Path, tmp_path: Path, decoded: list[str]
):
    network = Network()
    video = newest.VideoFromFile(str(clip_file))
    first, mask = warped(newest, video, still(clip_file), "mirror")
    second = upscaled(newest, first, network)
    third = upscaled(newest, second, resize_to="factor", factor=0.5)
    assert [type(o) for o in third.plan.recipe.operations] == [Enlarge, Enlarge, Steady], "the warp comes last"
    decoded.clear()
    third.save_to(str(tmp_path / "one.mp4"))
    looks = 2  # at the first frame for its colours: by the writer, and by who checks the result
    assert decoded.count("source.mp4") == 12 + looks
    assert len(decoded) == 12 + looks + 13, "and the result once, to be checked, after a look at its first frame"
    assert network.frames == 12
    decoded.clear()
    third.save_to(str(tmp_path / "two.mp4"), codec="h264")
    buffer = io.BytesIO()
    third.save_to(buffer)
    source = third.get_stream_source()
    assert decoded == []
    assert network.frames == 12
    assert numbers_of(VideoClip(tmp_path / "two.mp4")) == numbers_of(VideoClip(source)) == list(range(12))
    (tmp_path / "three.mp4").write_bytes(buffer.getvalue())
    assert numbers_of(VideoClip(tmp_path / "three.mp4")) == list(range(12))
    assert mask.shape == (1, 48, 64)
    assert not mask.any()


def test_the_temporary_file_goes_with_the_video(newest, clip_file: Path):
    video = upscaled(newest, newest.VideoFromFile(str(clip_file)))
    assert Path(video.get_stream_source()).exists()
    assert len(newest.files()) == 1
    part = video.as_trimmed(0.25, 0.25)
    del video
    gc.collect()
    assert len(newest.files()) == 1, "its part still needs it"
    cropped = part.as_cropped(0, 0, 64, 48)
    del part
    gc.collect()
    assert len(newest.files()) == 1
    assert len(cropped.get_components().images) == 6
    del cropped
    gc.collect()
    assert newest.files() == []


def test_what_somebody_deleted_is_made_again(newest, clip_file: Path):
    network = Network()
    video = upscaled(newest, newest.VideoFromFile(str(clip_file)), network)
    Path(video.get_stream_source()).unlink()
    assert numbers_of(VideoClip(video.get_stream_source())) == list(range(12))
    assert network.frames == 24


def test_another_form_is_made_of_the_first(newest, clip_file: Path, tmp_path: Path, decoded: list[str]):
    network = Network()
    video = upscaled(newest, newest.VideoFromFile(str(clip_file)), network)
    video.get_stream_source()
    video.save_to(str(tmp_path / "deep.mkv"), codec="h265", bit_depth=10)
    clip = VideoClip(tmp_path / "deep.mkv")
    assert (clip.stored.codec, clip.stored.pixel_format) == ("hevc", "yuv420p10le")
    assert numbers_of(clip) == list(range(12))
    assert network.frames == 12


@pytest.mark.parametrize(
    ("settings", "codec", "pixels"),
    [
        ({"crf": 30.0, "preset": "ultrafast"}, "h264", "yuv420p"),
        ({"bit_depth": 8, "color_space": "sRGB"}, "h264", "yuv420p"),
        ({"bit_depth": 10}, "hevc", "yuv420p10le"),
        ({"format": "webm", "codec": "vp9"}, "vp9", "yuv420p"),
        ({"format": "mkv", "codec": "av1"}, "av1", "yuv420p10le"),
    ],
)
def test_the_settings_of_newer_hosts_are_honoured(newest, clip_file, tmp_path, settings, codec, pixels):
    video = upscaled(newest, newest.VideoFromFile(str(clip_file)))
    target = tmp_path / f"out.{settings.get('format', 'mp4')}"
    video.save_to(str(target), **settings)
    stored = VideoClip(target).stored
    assert (stored.codec.replace("libdav1d", "av1"), stored.pixel_format) == (codec, pixels)
    assert len(newest.files()) == 1


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
def test_what_cannot_be_done_is_refused_in_words_before_it_runs(newest, clip_file, tmp_path, settings, words):
    network = Network()
    video = upscaled(newest, newest.VideoFromFile(str(clip_file)), network)
    with pytest.raises(ClipError, match=words) as error:
        video.save_to(str(tmp_path / "out.mp4"), **settings)
    assert "Upscale Frames" in str(error.value), "the message appears on another node"
    assert network.frames == 0
    assert not (tmp_path / "out.mp4").exists()
    video.save_to(str(tmp_path / "out.mp4"), sharpness=None)


def test_a_cancel_stops_it_and_leaves_no_file(newest, clip_file: Path, tmp_path: Path):
    network = Network()
    video = upscaled(newest, newest.VideoFromFile(str(clip_file)), network)
    newest.cancel_after = 7
    with pytest.raises(newest.Interrupted):
        video.save_to(str(tmp_path / "out.mp4"))
    assert network.frames < 6
    assert newest.files() == []
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["source.mp4"]
    newest.cancel_after = None
    video.save_to(str(tmp_path / "out.mp4"))
    assert numbers_of(VideoClip(tmp_path / "out.mp4")) == list(range(12)), "and it runs when it is asked again"


def test_what_fails_while_it_runs_names_our_node_and_leaves_no_file(newest, clip_file: Path, tmp_path: Path):
    correction = still(clip_file)
    longer = Correction(np.tile(np.eye(3), (20, 1, 1)), [slice(0, 20)], correction.info)
    video = upscaled(newest, warped(newest, newest.VideoFromFile(str(clip_file)), longer)[0])
    with pytest.raises(ClipError, match=r"\(Warp/Pad Frames, Upscale Frames\): the clip ended after 12 frames"):
        video.save_to(str(tmp_path / "out.mp4"))
    assert newest.files() == []
    assert not (tmp_path / "out.mp4").exists()


def test_components_are_all_frames_in_their_size_and_the_sound(newest, tmp_path: Path):
    source = make_video(tmp_path / "source.mp4", audio_at=0.0)
    video = upscaled(newest, newest.VideoFromFile(str(source)), resize_to="size", width=99, height=75)
    parts = video.get_components()
    assert parts.images.shape == (12, 75, 99, 3)
    assert [number_of(frame.permute(2, 0, 1)) for frame in parts.images] == list(range(12))
    assert parts.frame_rate == 24
    assert parts.audio["sample_rate"] == 48_000
    waveform = parts.audio["waveform"][0]
    assert waveform.shape[0] == 2
    assert waveform.shape[1] == pytest.approx(20 * 1024, abs=2048)
    assert waveform.abs().max() == pytest.approx(0.5, abs=0.1)


def test_sound_that_begins_late_begins_late_in_components(newest, clip_file: Path):
    waveform = upscaled(newest, newest.VideoFromFile(str(clip_file))).get_components().audio["waveform"][0, 0]
    assert waveform[:22_000].abs().max() < 1e-3
    assert waveform[26_000:40_000].abs().max() > 0.4


def test_components_that_do_not_fit_are_refused_before_anything_runs(newest, clip_file: Path):
    network = Network()
    video = upscaled(newest, newest.VideoFromFile(str(clip_file)), network)
    newest.management.get_free_memory.return_value = 1000
    with pytest.raises(ClipError, match=r"Upscale Frames.*12 frames of 128x96 need .* GiB .*keep it a VIDEO"):
        video.get_components()
    assert network.frames == 0


def test_tensors_keep_their_rate_and_their_sound(newest, tmp_path: Path):
    tone = torch.sin(torch.arange(48_000) * 0.05)[None, None].expand(1, 2, -1) * 0.5
    images = numbered(12).permute(0, 2, 3, 1)
    audio = {"waveform": tone, "sample_rate": 48_000}
    given = newest.VideoFromComponents(newest.Components(images, Fraction(30_000, 1001), audio))
    video = upscaled(newest, given)
    assert video.get_frame_rate() == Fraction(30_000, 1001)
    video.save_to(str(tmp_path / "out.mp4"))
    assert numbers_of(VideoClip(tmp_path / "out.mp4")) == list(range(12))
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.audio[0]
        heard = np.concatenate([f.to_ndarray() for f in container.decode(stream)], axis=1)
    assert heard.shape[1] / 48_000 == pytest.approx(12 * 1001 / 30_000, abs=0.05), "it ends with the picture"
    assert np.abs(heard).max() == pytest.approx(0.5, abs=0.05)
    assert len(newest.files()) == 1, "the picture without sound is gone"


def test_alpha_is_kept_or_refused(newest, tmp_path: Path):
    images = numbered(12).permute(0, 2, 3, 1)
    alpha = torch.ones(12, 48, 64)
    alpha[3:, :24] = 0
    video = upscaled(newest, newest.VideoFromComponents(newest.Components(images, Fraction(24), alpha=alpha)))
    with pytest.raises(ClipError, match="transparency"):
        video.save_to(str(tmp_path / "out.mp4"))
    parts = video.get_components()
    assert parts.images.shape == (12, 96, 128, 4)
    assert [float(frame[..., 3].mean()) for frame in parts.images[2:4]] == [1.0, 0.5]


def test_a_trim_that_the_host_has_not_carried_out_is_honoured(newest, clip_file: Path, tmp_path: Path):
    video = newest.VideoFromFile(str(clip_file), window=(0.125, 0.25))
    result = upscaled(newest, video)
    assert result.get_frame_count() == 6
    result.save_to(str(tmp_path / "out.mp4"))
    assert numbers_of(VideoClip(tmp_path / "out.mp4")) == [3, 4, 5, 6, 7, 8]
    assert video.saved == [], "the file itself was read, and the host wrote nothing"
    assert len(newest.files()) == 1


@pytest.mark.parametrize("window", [(0.125, 0.25), (0.1, 0.0), (0.0, 0.2), (0.26, 0.09)])
def test_a_trim_shows_the_frames_of_the_hosts_own(newest, clip_file: Path, tmp_path: Path, window):
    video = newest.VideoFromFile(str(clip_file), window=window)
    video.save_to(str(tmp_path / "host.mp4"), crf=1)
    result = upscaled(newest, newest.VideoFromFile(io.BytesIO(clip_file.read_bytes()), window=window))
    assert numbers_of(VideoClip(result.get_stream_source())) == numbers_of(VideoClip(tmp_path / "host.mp4"))


def test_a_trim_and_a_crop_are_carried_out_by_the_host(newest, clip_file: Path):
    video = newest.VideoFromFile(str(clip_file), window=(0.125, 0.25), crop=(32, 24))
    result = upscaled(newest, video)
    assert (result.get_dimensions(), result.get_frame_count()) == ((64, 48), 6)
    assert video.saved[0]["crf"] <= 10, "and nothing shows of the file between"


def test_damaged_frames_are_kept_as_the_host_keeps_them(newest, tmp_path: Path, caplog):
    broken = with_noise(moving(tmp_path / "source.mp4"), 24, 0.5)
    video = upscaled(newest, newest.VideoFromFile(str(broken)))
    assert sum(1 for _ in VideoClip(video.get_stream_source()).frames()) == 48
    assert f"{broken}: 1 damaged frame: 24 concealed" in caplog.text


def test_a_crop_that_the_host_has_not_carried_out_is_honoured(newest, clip_file: Path):
    video = upscaled(newest, newest.VideoFromFile(str(clip_file), crop=(32, 24)))
    assert video.get_dimensions() == (64, 48)
    assert VideoClip(video.get_stream_source()).info.width == 64
    kept = newest.files()
    del video
    gc.collect()
    assert len(kept) == 2
    assert newest.files() == []


def test_a_part_of_ours_is_all_that_runs(newest, clip_file: Path, tmp_path: Path):
    network = Network()
    whole = upscaled(newest, newest.VideoFromFile(str(clip_file)), network)
    part = whole.as_trimmed(0.125, 0.25).as_trimmed(-0.125, 0)
    assert (part.get_frame_count(), part.get_duration()) == (3, 0.125)
    assert network.frames == 0
    part.save_to(str(tmp_path / "out.mp4"))
    assert numbers_of(VideoClip(tmp_path / "out.mp4")) == [6, 7, 8]
    assert network.frames == 3
    twice = upscaled(newest, part, resize_to="factor", factor=0.5)
    assert [type(o) for o in twice.plan.recipe.operations] == [Enlarge, Enlarge], "still one plan"
    assert numbers_of(VideoClip(twice.get_stream_source())) == [6, 7, 8]
    assert whole.as_trimmed(0.6) is None
    assert whole.as_trimmed(0.25, 0.5, strict_duration=True) is None


def test_a_part_of_what_is_steadied_moves_and_zooms_as_the_whole_does(newest, clip_file: Path):
    info = VideoClip(clip_file).info
    matrices = np.tile(np.eye(3), (12, 1, 1))
    matrices[:, 0, 2] = np.arange(12) % 5 - 2
    moves = Correction(matrices, [slice(0, 5), slice(5, 12)], info)
    whole = warped(newest, newest.VideoFromFile(str(clip_file)), moves, "crop")[0]
    part = whole.as_trimmed(0.125, 0.25)
    frames = list(whole.plan.recipe.frames())
    assert len(frames) == 12
    pairs = zip(part.plan.recipe.frames(), frames[3:9], strict=True)
    assert all((ours - theirs).abs().max() < 1e-4 for ours, theirs in pairs)


def test_a_part_of_what_was_made_is_read_from_there(newest, clip_file: Path, tmp_path: Path):
    network = Network()
    whole = upscaled(newest, newest.VideoFromFile(str(clip_file)), network)
    whole.get_stream_source()
    part = whole.as_trimmed(0.125, 0.25).as_trimmed(-0.125, 0)
    assert part.get_active_trim_window() == (0.25, 0.125)
    part.save_to(str(tmp_path / "out.mp4"))
    assert numbers_of(VideoClip(tmp_path / "out.mp4")) == [6, 7, 8]
    again = upscaled(newest, part, resize_to="factor", factor=0.5)
    del part, whole
    gc.collect()
    assert numbers_of(VideoClip(again.get_stream_source())) == [6, 7, 8]
    assert network.frames == 12


def test_a_file_in_memory_is_taken_too(newest, clip_file: Path):
    video = upscaled(newest, newest.VideoFromFile(io.BytesIO(clip_file.read_bytes())))
    assert numbers_of(VideoClip(video.get_stream_source())) == list(range(12))


def test_hdr_is_written_as_what_it_is(newest, tmp_path: Path):
    source = tmp_path / "hdr.mp4"
    with av.open(str(source), "w") as sink:
        stream = sink.add_stream("libx265", rate=24, options={"x265-params": "log-level=error"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 9, 9, HLG, 1
        for i in range(3):
            picture = np.full((48, 64, 3), 20_000 + 1000 * i, np.uint16)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb48le").reformat(format="yuv420p10le")
            frame.colorspace, frame.color_primaries, frame.color_trc = 9, 9, HLG
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    video = upscaled(newest, newest.VideoFromFile(str(source)))
    assert (video.get_color_space(), video.get_bit_depth()) == ("HDR", 10)
    video.save_to(str(tmp_path / "out.mp4"), color_space="HDR")
    stored = VideoClip(tmp_path / "out.mp4").stored
    assert (stored.codec, stored.pixel_format, stored.transfer) == ("hevc", "yuv420p10le", HLG)


def test_room_is_asked_for_when_it_runs_and_not_before(newest, clip_file: Path):
    video = upscaled(newest, newest.VideoFromFile(str(clip_file)))
    assert newest.room == []
    video.get_stream_source()
    assert len(newest.room) == 1
    assert newest.room[0][0] > 64 * 48


@pytest.mark.parametrize("kind", ["VIDEO", "IMAGE"])
def test_a_warp_asks_for_room_as_a_network_does(newest, clip_file: Path, kind: str):
    frames = newest.VideoFromFile(str(clip_file)) if kind == "VIDEO" else numbered(12).permute(0, 2, 3, 1)
    made = warped(newest, frames, still(clip_file))[0]
    if kind == "VIDEO":
        assert newest.room == []
        made.get_stream_source()
    [(size, device)] = newest.room
    assert size >= 3 * 4 * 3 * 64 * 48, "the frame, what it becomes, and where from"
    assert device == torch.device("cpu")


def test_the_masks_of_images_count_where_memory_is_scarce(newest, clip_file: Path):
    images = numbered(12).permute(0, 2, 3, 1)
    newest.management.get_free_memory.return_value = images.numel() * 4 + 1000
    with pytest.raises(ClipError, match="GiB are free"):
        warped(newest, images, still(clip_file))


def test_who_reads_what_is_planned_asks_for_room_and_who_looks_does_not(newest, clip_file: Path):
    clips = newest.import_("_clips")
    video = upscaled(newest, newest.VideoFromFile(str(clip_file)))
    assert (clips.info_of(video).width, newest.room) == (video.get_dimensions()[0], [])
    assert clips.clip_of(video).info.length == 12
    assert len(newest.room) == 1
    newest.import_("flow").EstimateFlow.execute(video, "farneback", 24.0, 64, pictures=0)
    assert len(newest.room) == 1, "motion is measured before the network, which does not run for it"


def test_images_still_come_back_as_images(newest, clip_file: Path):
    images = numbered(3).permute(0, 2, 3, 1)
    made = upscaled(newest, images)
    assert [number_of(frame.permute(2, 0, 1)) for frame in made] == [0, 1, 2]
    info = TensorClip(numbered(3)).info
    identity = Correction(np.tile(np.eye(3), (3, 1, 1)), [slice(0, 3)], info)
    steady, masks = warped(newest, images, identity)
    assert torch.allclose(steady, images, atol=1e-5)
    assert masks.shape == (3, 48, 64)


def test_flow_is_measured_at_the_rate_of_the_video_and_before_upscaling(newest, clip_file: Path):
    network = Network()
    video = upscaled(newest, newest.VideoFromFile(str(clip_file)), network)
    node = newest.import_("flow").EstimateFlow
    flow, picture = node.execute(video, "farneback", 1.0, 64, 3).result
    assert flow.info.fps == 24, "not the 1.0 of the setting"
    assert (flow.info.width, len(flow.steps)) == (128, 12)
    assert network.frames == 0
    assert picture.shape[0] == 3


def test_the_mask_of_a_video_is_where_any_frame_has_nothing(newest, clip_file: Path):
    info = VideoClip(clip_file).info
    matrices = np.tile(np.eye(3), (12, 1, 1))
    matrices[5, 0, 2], matrices[9, 1, 2] = 10, -6  # right, and up
    moved = Correction(matrices, [slice(0, 12)], info)
    mask = warped(newest, newest.VideoFromFile(str(clip_file)), moved, "edge")[1]
    assert mask.shape == (1, 48, 64)
    assert mask[0, :, :10].all()
    assert mask[0, -6:].all()
    assert not mask[0, :-8, 12:].any()
    padded = warped(newest, newest.VideoFromFile(str(clip_file)), moved, "edge", pad=4)[1]
    assert padded.shape == (1, 56, 72)
    assert padded[0, :4].all()
    with pytest.raises(ClipError, match="padded frame cannot be cropped"):
        warped(newest, newest.VideoFromFile(str(clip_file)), moved, "crop", pad=4)


def test_what_is_no_video_is_refused_where_it_comes_in(newest, tmp_path: Path):
    (tmp_path / "page.mp4").write_text("ffconcat version 1.0\nfile other.mp4\n")
    with pytest.raises(ClipError, match=r"page\.mp4: not a video"):
        upscaled(newest, newest.VideoFromFile(str(tmp_path / "page.mp4")))


def _hurried(newest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds pass between any two looks at the clock."""
    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr(newest.import_("_comfy").time, "monotonic", lambda: next(clock))


def test_a_long_run_on_images_shows_the_frame_in_work(newest, monkeypatch: pytest.MonkeyPatch):
    frames = numbered(4, 1200, 64)
    _hurried(newest, monkeypatch)
    upscaled(newest, frames.movedim(1, -1))
    kind, picture, side = newest.progress[2][2]
    assert (kind, side) == ("JPEG", 512)
    assert picture.size == (512, 27)
    assert number_of(torch.from_numpy(np.array(picture)).float().permute(2, 0, 1) / 255) == 2


@pytest.mark.parametrize("kind", ["SteadyScale_UpscaleFrames", "SteadyScale_EnhanceVideo"])
def test_a_video_shows_the_frame_in_work_where_nothing_else_is_shown(
    newest, clip_file: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    """Frontends go on showing it: on Save Video in place of the saved video, on Enhance Video in place of its plot."""
    graph = {"7": {"class_type": kind}, "9": {"class_type": "SaveVideo"}}
    running, ended = ["7"], []
    prompt = SimpleNamespace(get_node=graph.__getitem__, has_node=graph.__contains__)
    state = SimpleNamespace(dynprompt=prompt, finish_progress=ended.append)
    modules = {
        "comfy_execution": ModuleType("comfy_execution"),
        "comfy_execution.utils": SimpleNamespace(get_executing_context=lambda: SimpleNamespace(node_id=running[0])),
        "comfy_execution.progress": SimpleNamespace(get_progress_state=lambda: state),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    video = upscaled(newest, newest.VideoFromFile(str(clip_file)))
    _hurried(newest, monkeypatch)
    running[0] = "9"
    video.get_stream_source()
    assert [preview for _, _, preview in newest.progress] == [None] * 12, "nothing on the node that waits"
    shown = [(node, number_of(_picture(preview))) for node, _, preview in newest.elsewhere]
    bare = kind == "SteadyScale_UpscaleFrames"
    assert shown == ([("7", number) for number in range(12)] if bare else [])
    assert ended == (["7"] if bare else [])


def test_a_video_whose_planner_is_unknown_shows_no_frame(newest, clip_file: Path, monkeypatch: pytest.MonkeyPatch):
    video = upscaled(newest, newest.VideoFromFile(str(clip_file)))
    _hurried(newest, monkeypatch)
    video.get_stream_source()
    assert [preview for _, _, preview in newest.progress] == [None] * 12


def _picture(preview: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(preview[1])).float().permute(2, 0, 1) / 255
