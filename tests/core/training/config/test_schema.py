"""Settings: typed, unknown keys refused, unchanged by a round trip through TOML."""

import pytest
from steadyscale.core.training import TrainConfig, TrainingError, config_from, read_config
from steadyscale.core.training.config.choices import DiscriminatorKind, NetworkKind
from steadyscale.core.training.config.degradation import SECOND_STAGE
from steadyscale.core.training.config.toml_dataclass import to_toml


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(
        'name = "small"\nsteps = 500\n[network]\nkind = "rrdb"\nscales = [2, 4]\n'
        '[data]\ntrain = ["photos"]\n[degrade.second]\nblur_prob = 0.5\n[losses.layer_weights]\nconv1_2 = 1\n'
    )
    return path


def test_a_file_changes_only_the_settings_that_it_names(file):
    config = read_config(file)
    assert (config.name, config.steps, config.network.kind, config.network.scales) == (
        "small",
        500,
        NetworkKind.RRDB,
        (2, 4),
    )
    assert config.data.train == ("photos",)
    assert config.losses.layer_weights == {"conv1_2": 1.0}
    assert (config.degrade.second.blur_prob, config.degrade.second.blur_sigma) == (0.5, SECOND_STAGE.blur_sigma)
    assert config.optim == TrainConfig().optim
    assert str(config.folder) == "runs/small"


def test_overrides_from_the_command_line(file):
    overrides = [
        *("data.crop=96", "optim.learning_rate=1", "losses.adversarial = 0.1", "name=a b"),
        *('data.validate=["x", "y"]', "discriminator.kind=unet", "degrade.enabled=true"),
        "degrade.second.blur_sigma=[1, 2]",
    ]
    config = read_config(file, overrides)
    assert (config.data.crop, config.optim.learning_rate, config.losses.adversarial) == (96, 1.0, 0.1)
    assert (config.name, config.data.validate, config.data.train) == ("a b", ("x", "y"), ("photos",))
    assert config.discriminator.kind is DiscriminatorKind.UNET
    assert read_config(file, ["network.separable=true"]).network.separable
    assert not config.network.separable
    second = config.degrade.second
    assert (config.degrade.enabled, second.blur_prob, second.blur_sigma) == (True, 0.5, (1.0, 2.0))


def test_the_last_override_of_a_setting_applies(file):
    assert read_config(file, ["data.crop=96", "data.crop=64"]).data.crop == 64


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.corp=96", r"data\.corp is not a setting; did you mean crop\?"),
        ("degrade.first.blur_sigm=[1, 2]", r"degrade\.first\.blur_sigm is not a setting; did you mean blur_sigma\?"),
        ("zzz=1", r"zzz is not a setting; the settings are name, run, seed"),
        ("network.kind=unet", "network.kind must be one of compact, rrdb, span, not 'unet'"),
        ("steps=many", "steps must be an integer, not 'many'"),
        ("steps=1.5", "steps must be an integer, not 1.5"),
        ("batch=true", "batch must be an integer, not True"),
        ("optim.learning_rate=true", "optim.learning_rate must be a number, not True"),
        ("name=3", "name must be text, not 3"),
        ("degrade.enabled=1", "degrade.enabled must be true or false, not 1"),
        ("data=3", "data is a section of settings, not 3"),
        ("degrade.first=3", "degrade.first is a section of settings, not 3"),
        ("data.train=photos", r"data.train must be a list, not 'photos'; write it as \[\"photos\"\]"),
        ("data.train=[1]", "data.train must be text, not 1"),
        ("optim.betas=[0.9]", "optim.betas must have 2 values, not 1"),
        ("losses.layer_weights=3", "losses.layer_weights must be a table of numbers, not 3"),
        ("losses.layer_weights.conv1_2=x", "losses.layer_weights.conv1_2 must be a number, not 'x'"),
        ("degrade.first.blur_sigma=[3, 1]", "blur_sigma must be two values, 0 or above, in ascending order, not 3.0"),
        ("degrade.first.blur_prob=2", "blur_prob must be a probability between 0 and 1, not 2"),
        ("losses.pixel=-1", "losses.pixel must be at least 0, not -1"),
        ("losses.temporal=-1", "losses.temporal must be at least 0, not -1"),
        ("losses.temporal=1", "losses.temporal compares neighboring frames; set data.clip_frames to 2 or more"),
        ("losses.deflicker=0.5", "losses.deflicker compares neighboring frames; set data.clip_frames to 2 or more"),
        ("losses.deflicker=2", "losses.deflicker must be at most 1, not 2"),
        ("data.clip_frames=0", "data.clip_frames must be at least 1, not 0"),
        ("data.clip_frames=3", "data.clip_frames is 3, but a step computes 16 crops at a time; choose a batch that is"),
        ("losses.shift_consistency=-1", "losses.shift_consistency must be at least 0, not -1"),
        ("data.crop=90", "data.crop 90 is not a multiple of 4, which scale 4 needs"),
        ("accumulate=3", "batch 16 cannot be divided into 3 equal parts"),
        ("network.scales=[]", "network.scales is empty"),
        ("network.scales=[3]", "rrdb does not support scale 3; use 1, 2, 4, 8"),
        ("network.scales=[2, 2]", "network.scales names a scale twice"),
        ("network.unshuffle=2", "must be 1"),
        ("network.separable=1", "network.separable must be true or false, not 1"),
        ("output.checkpoint_every=0", "output.checkpoint_every must be at least 1"),
        ("data.crop", "write it as data.crop=128"),
        ("data.crop=0", "data.crop must be at least 1, not 0"),
        ("data.min_resize=0", "data.min_resize must be a factor above 0 and at most 1, not 0"),
        ("data.max_saturation=0.5", "data.max_saturation must be at least 1, not 0.5"),
        ("data.permute_colors=2", "data.permute_colors must be a probability from 0 to 1, not 2"),
        ("data.cache_gb=-1", "data.cache_gb must be at least 0, not -1"),
        ("network.features=0", "network.features must be at least 1, not 0"),
        ("network.convs=-1", "network.convs must be at least 0, not -1"),
        ("network.blocks=0", "network.blocks must be at least 1, not 0"),
        ("network.unshuffle=3", "network.unshuffle must be 1, 2 or 4, not 3"),
        ("discriminator.features=0", "discriminator.features must be at least 1, not 0"),
        ("optim.learning_rate=-1", "optim.learning_rate must be above 0, not -1"),
        ("optim.discriminator_learning_rate=0", "optim.discriminator_learning_rate must be above 0, not 0"),
        ("optim.min_learning_rate=1", "optim.min_learning_rate must be above 0 and at most learning_rate"),
        ("optim.betas=[0.9, 1]", "optim.betas must be at least 0 and below 1"),
        ("optim.ema_decay=1", "optim.ema_decay must be at least 0 and below 1"),
        ("optim.warmup_steps=-1", "optim.warmup_steps must be at least 0, not -1"),
        ("runtime.num_workers=-1", "runtime.num_workers must be at least 0, not -1"),
        ("output.samples=-1", "output.samples must be at least 0, not -1"),
        ("output.patience=-1", "output.patience must be at least 0, not -1"),
        ("seed=-1", "seed must be at least 0, not -1"),
        ("batch=0", "batch must be at least 1, not 0"),
        ("accumulate=0", "accumulate must be at least 1, not 0"),
        ("name=a/b", "name must be a file name, not 'a/b'"),
        ("name=", "name must be a file name, not ''"),
    ],
)
def test_invalid_settings_raise_one_line_with_key_and_value(file, override, message):
    with pytest.raises(TrainingError, match=message) as caught:
        read_config(file, [override])
    assert "\n" not in str(caught.value)


def test_crops_that_the_discriminator_does_not_support_are_refused(file):
    with pytest.raises(TrainingError, match=r"data\.crop is 96; discriminator\.kind vgg needs 16, 32"):
        read_config(file, ["losses.adversarial=0.1", "discriminator.kind=vgg", "data.crop=96"])
    with pytest.raises(TrainingError, match="needs a multiple of 8"):
        read_config(file, ["losses.adversarial=0.1", "data.crop=100"])


def test_a_first_step_without_any_loss_is_refused(file):
    message = r"no loss has a weight in the first step; set losses\.pixel above 0$"
    with pytest.raises(TrainingError, match=message):
        read_config(file, ["losses.pixel=0"])
    late = ["losses.pixel=0", "losses.adversarial=0.1", "data.crop=64"]
    with pytest.raises(TrainingError, match=r"or optim\.gan_start_step to 0"):
        read_config(file, [*late, "optim.gan_start_step=10"])
    assert read_config(file, late).losses.adversarial == 0.1


def test_parts_of_a_batch_must_hold_pairs_for_shift_consistency(file):
    with pytest.raises(TrainingError, match=r"shift_consistency needs pairs of crops; batch 16 in 16 parts"):
        read_config(file, ["losses.shift_consistency=10", "accumulate=16"])


def test_settings_survive_a_round_trip_through_toml(file, tmp_path):
    config = read_config(file, ['name="quoted \\"é\\" \\\\ name"', "optim.min_learning_rate=1e-9"])
    (tmp_path / "again.toml").write_text(to_toml(config), encoding="utf-8")
    assert read_config(tmp_path / "again.toml") == config
    assert config_from({}) == TrainConfig()


def test_files_that_are_not_toml_are_refused(tmp_path):
    with pytest.raises(TrainingError, match="No such file"):
        read_config(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("steps = = 3")
    with pytest.raises(TrainingError, match="is not valid TOML"):
        read_config(tmp_path / "bad.toml")
