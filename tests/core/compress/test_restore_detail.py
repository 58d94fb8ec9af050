"""Detail that a smaller network lost is amplified to the energy of the teacher's, without new errors."""

import pytest
from steadyscale.core.compress.fidelity import TeacherComparison
from steadyscale.core.compress.restore_detail import MAX_GAIN, restore_detail
from steadyscale.core.training.config.sections import NetworkConfig
from steadyscale.core.training.loop.networks import make_generator


def make_network(strength):
    """A network that adds something random to bicubic interpolation, in proportion to `strength`."""
    network = make_generator(NetworkConfig(scales=(2,), features=16, convs=2), 0).for_scale(2)
    network.eval().requires_grad_(False)
    network.body[-1].weight[:, 3:] *= strength
    return network


@pytest.fixture
def gray_images(small_images):
    """Images without black and white, where results would be clamped."""
    return [0.35 + 0.3 * image for image in small_images]


def test_a_softened_network_gets_the_detail_of_its_teacher(gray_images, textures):
    teacher, soft = make_network(10), make_network(10 * 0.85)
    comparison = TeacherComparison(teacher, [(90 + 0.3 * texture).byte() for texture in textures], 2)
    before = comparison.measure(soft)
    assert 1.05 < restore_detail(soft, teacher, gray_images) < 1 / 0.85 + 0.02
    after = comparison.measure(soft)
    assert before.detail < 0.9
    assert after.detail == pytest.approx(1, abs=0.04)
    assert after.kept > before.kept


def test_the_gain_is_limited_and_never_softens(gray_images):
    assert restore_detail(make_network(1), make_network(5), gray_images) == MAX_GAIN
    sharper = make_network(6)
    before = sharper.body[-1].weight.clone()
    assert restore_detail(sharper, make_network(5), gray_images) == 1
    assert sharper.body[-1].weight.equal(before)
