"""Settings: typed, strict about names, and the same after writing and reading."""

import pytest
from steadyscale.core.training import TrainConfig, TrainingError, config_from, read_config
from steadyscale.core.training.config.degradation import SECOND_STAGE
from steadyscale.core.training.config.schema import DiscriminatorKind, NetworkKind
from steadyscale.core.training.config.toml_dataclass import to_toml


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(
        'name = "small"\nsteps = 500\n[network]\nkind = "rrdb"\nscales = [2, 4]\n'
        '[data]\ntrain = ["photos"]\n[degrade.second]\nblur = 0.5\n[losses.layers]\nconv1_2 = 1\n'
    )
    return path


def test_a_file_changes_what_it_names_and_nothing_else(file):
    config = read_config(file)
    assert (config.name, config.steps, config.network.kind, config.network.scales) == (
        "small",
        500,
        NetworkKind.RRDB,
        (2, 4),
    )
    assert config.data.train == ("photos",)
    assert config.losses.layers == {"conv1_2": 1.0}
    assert (config.degrade.second.blur, config.degrade.second.sigma) == (0.5, SECOND_STAGE.sigma)
    assert config.learning == TrainConfig().learning
    assert str(config.folder) == "runs/small"


def test_changes_from_the_command_line(file):
    changes = ["data.crop=96", "learning.rate=1", "losses.adversarial = 0.1", "name=a b", 'data.validate=["x", "y"]']
    config = read_config(file, [*changes, "discriminator.kind=unet", "degrade.on=true", "degrade.second.sigma=[1, 2]"])
    assert (config.data.crop, config.learning.rate, config.losses.adversarial) == (96, 1.0, 0.1)
    assert (config.name, config.data.validate, config.data.train) == ("a b", ("x", "y"), ("photos",))
    assert config.discriminator.kind is DiscriminatorKind.UNET
    assert read_config(file, ["network.separable=true"]).network.separable
    assert not config.network.separable
    assert (config.degrade.on, config.degrade.second.blur, config.degrade.second.sigma) == (True, 0.5, (1.0, 2.0))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("data.corp=96", r"data\.corp is no setting; did you mean crop\?"),
        ("zzz=1", r"zzz is no setting; here are name, run, seed"),
        ("network.kind=unet", "network.kind is one of compact, rrdb, not 'unet'"),
        ("steps=many", "steps is a whole number, not 'many'"),
        ("steps=1.5", "steps is a whole number, not 1.5"),
        ("batch=true", "batch is a whole number, not True"),
        ("degrade.on=1", "degrade.on is true or false, not 1"),
        ("data=3", "data is a group of settings, not 3"),
        ("data.train=photos", r"data.train is a list, not 'photos'; write it as \[\"photos\"\]"),
        ("learning.betas=[0.9]", "learning.betas has 2 values, not 1"),
        ("degrade.first.sigma=[3, 1]", "sigma goes from the lesser"),
        ("degrade.first.blur=2", "blur is a probability"),
        ("losses.pixel=-1", "losses.pixel is a weight"),
        ("losses.steady=-1", "losses.steady is a weight"),
        ("data.crop=90", "data.crop 90 is no multiple of scale 4"),
        ("accumulate=3", "batch 16 cannot be taken in 3 equal parts"),
        ("network.scales=[]", "network.scales is empty"),
        ("network.scales=[3]", "rrdb has no scale 3"),
        ("network.unshuffle=2", "must be 1"),
        ("network.separable=1", "network.separable is true or false, not 1"),
        ("keeping.checkpoint_every=0", "keeping.checkpoint_every is at least 1"),
        ("data.crop", "write it as data.crop=128"),
        ("data.crop=0", "data.crop is at least 1, not 0"),
        ("data.memory_gb=-1", "data.memory_gb is at least 0, not -1"),
        ("network.features=0", "network.features is at least 1, not 0"),
        ("network.convs=-1", "network.convs is at least 0, not -1"),
        ("network.blocks=0", "network.blocks is at least 1, not 0"),
        ("network.unshuffle=3", "network.unshuffle is 1, 2 or 4, not 3"),
        ("discriminator.features=0", "discriminator.features is at least 1, not 0"),
        ("learning.rate=-1", "learning.rate is above 0, not -1"),
        ("learning.discriminator_rate=0", "learning.discriminator_rate is above 0, not 0"),
        ("learning.betas=[0.9, 1]", "learning.betas are at least 0 and below 1"),
        ("learning.warm_up=-1", "learning.warm_up is at least 0, not -1"),
        ("machine.loaders=-1", "machine.loaders is at least 0, not -1"),
        ("keeping.samples=-1", "keeping.samples is at least 0, not -1"),
        ("keeping.patience=-1", "keeping.patience is at least 0, not -1"),
        ("seed=-1", "seed is at least 0, not -1"),
        ("batch=0", "batch is at least 1, not 0"),
        ("accumulate=0", "accumulate is at least 1, not 0"),
        ("name=a/b", "name is that of a file, not 'a/b'"),
        ("name=", "name is that of a file, not ''"),
    ],
)
def test_what_is_wrong_is_named(file, change, complaint):
    with pytest.raises(TrainingError, match=complaint):
        read_config(file, [change])


def test_a_crop_that_the_discriminator_cannot_see(file):
    with pytest.raises(TrainingError, match=r"data\.crop is 96; discriminator\.kind vgg sees 16, 32"):
        read_config(file, ["losses.adversarial=0.1", "discriminator.kind=vgg", "data.crop=96"])
    with pytest.raises(TrainingError, match="sees multiples of 8"):
        read_config(file, ["losses.adversarial=0.1", "data.crop=100"])


def test_a_step_without_any_loss(file):
    with pytest.raises(TrainingError, match=r"no loss has a weight in the first step; give losses\.pixel one above 0$"):
        read_config(file, ["losses.pixel=0"])
    late = ["losses.pixel=0", "losses.adversarial=0.1", "data.crop=64"]
    with pytest.raises(TrainingError, match=r"or set learning\.gan_from to 0"):
        read_config(file, [*late, "learning.gan_from=10"])
    assert read_config(file, late).losses.adversarial == 0.1


def test_a_pair_of_views_stays_together(file):
    with pytest.raises(TrainingError, match=r"steady sees crops in pairs; batch 16 in 16 parts"):
        read_config(file, ["losses.steady=10", "accumulate=16"])


def test_settings_survive_writing(file, tmp_path):
    config = read_config(file, ['name="quoted \\"é\\" \\\\ name"', "learning.last_rate=1e-9"])
    (tmp_path / "again.toml").write_text(to_toml(config), encoding="utf-8")
    assert read_config(tmp_path / "again.toml") == config
    assert config_from({}) == TrainConfig()


def test_files_that_are_no_settings(tmp_path):
    with pytest.raises(TrainingError, match="No such file"):
        read_config(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("steps = = 3")
    with pytest.raises(TrainingError, match="is no TOML"):
        read_config(tmp_path / "bad.toml")
