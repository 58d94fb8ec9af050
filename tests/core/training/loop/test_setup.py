"""Preparation of a run."""

from steadyscale.core.training.loop.setup import load_validation_images


def test_images_in_both_training_and_validation_are_logged(make_config, texture_folder, caplog):
    one = str(texture_folder / "train" / "0.png")
    assert load_validation_images(make_config()) is not None
    assert not caplog.messages
    images = load_validation_images(make_config(data={"validate": [str(texture_folder / "validate"), one]}))
    assert images is not None
    (message,) = caplog.messages
    assert message.startswith(f"1 of the {len(images)} files in data.validate are in data.train too, such as {one}:")
