"""Images for compression: split into training and evaluation, sizes of crops, limits of resizing."""

import numpy as np
import pytest
from numbered_video import make_video
from PIL import Image
from steadyscale.core.compress import CompressionError
from steadyscale.core.compress.calibration import load_calibration
from steadyscale.core.training.config.schema import config_from
from steadyscale.core.training.data.dataset import min_image_side


@pytest.fixture
def folder(tmp_path):
    """folder(width, height): five images of that size, the first all 0, the second all 10, and so on."""

    def make(width, height):
        for number in range(5):
            Image.fromarray(np.full((height, width, 3), 10 * number, np.uint8)).save(tmp_path / f"{number}.png")
        return [str(tmp_path)]

    return make


def test_the_last_quarter_is_for_evaluation_only(folder):
    data = load_calibration(folder(200, 160), 2, 1)
    assert [int(data.train_images[number].max()) for number in range(len(data.train_images))] == [0, 10, 20, 30]
    assert [int(image.min()) for image in data.eval_images] == [40]
    assert [round(float(small.mean()) * 255) for small in data.calibration_crops] == [0, 10, 20, 30]
    assert {tuple(small.shape) for small in data.calibration_crops} == {(1, 3, 64, 64)}


@pytest.mark.parametrize(
    ("size", "crop", "min_resize"), [((900, 600), 48, 0.35), ((300, 160), 48, 0.7), ((96, 100), 40, 1.0)]
)
def test_images_are_reduced_at_most_until_crops_fit(folder, size, crop, min_resize):
    data = load_calibration(folder(*size), 2, 1)
    assert data.crop == crop
    assert data.min_resize == pytest.approx(min_resize)
    config = config_from({"network": {"scales": [2]}, "data": {"crop": 2 * crop, "min_resize": data.min_resize}})
    assert min_image_side(config) <= min(size) + 1e-6


def test_images_of_every_folder_and_video_are_evaluated(folder, tmp_path_factory):
    """Those without company count as one folder."""
    few, one, clips = (tmp_path_factory.mktemp(name) for name in ("few", "one", "clips"))
    for number in (100, 110):
        Image.fromarray(np.full((100, 100, 3), number, np.uint8)).save(few / f"{number}.png")
    alone = one / "alone.png"
    Image.fromarray(np.full((100, 100, 3), 200, np.uint8)).save(alone)
    video = make_video(clips / "clip.mp4")
    data = load_calibration([*folder(200, 160), str(few), str(alone), str(video)], 1, 1)
    levels = [int(image.min()) for image in data.eval_images if image.min() == image.max()]
    assert levels == [40, 110, 200]
    assert len(data.eval_images) == 3 + 3, "a quarter of the video's 12 frames"
    assert len(data.train_images) == 4 + 1 + 9


def test_images_that_are_too_small_are_refused(folder):
    with pytest.raises(CompressionError, match="has 40 pixels a side; 2x needs 48"):
        load_calibration(folder(40, 60), 2, 1)
