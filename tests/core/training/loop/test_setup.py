"""What a run needs before its first step."""

from steadyscale.core.training.loop.setup import load_validation_images


def test_pictures_that_are_both_learnt_and_measured_on_are_told_of(make_config, texture_folder, caplog):
    one = str(texture_folder / "train" / "0.png")
    assert load_validation_images(make_config()) is not None
    assert not caplog.messages
    found = load_validation_images(make_config(data={"validate": [str(texture_folder / "validate"), one]}))
    assert found is not None
    (told,) = caplog.messages
    assert told.startswith(f"1 of the {len(found)} files in data.validate are in data.train too, such as {one}:")
