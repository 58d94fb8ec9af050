"""Discriminators: shapes, normalisation, and that they learn."""

import math

import pytest
import torch
import torch.nn.functional as F
from steadyscale.models.arch.discriminator import UNetDiscriminator, VGGDiscriminator


@pytest.fixture(autouse=True)
def one_thread():
    """Avoid thread synchronisation, which takes most of the time of tiny networks."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("crop", [16, 32, 64])
def test_vgg_returns_one_logit_per_image_of_its_size(crop):
    torch.manual_seed(0)
    network = VGGDiscriminator(crop, features=4)
    assert network(torch.rand(2, 3, crop, crop)).shape == (2, 1)
    with pytest.raises(ValueError, match=f"{crop}x{crop} pixels, got"):
        network(torch.rand(2, 3, crop, crop + 8))


@pytest.mark.parametrize("crop", [0, 8, 48, 100])
def test_vgg_rejects_sizes_that_do_not_halve_to_four(crop):
    with pytest.raises(ValueError, match=f"not {crop}"):
        VGGDiscriminator(crop)


def test_vgg_has_the_published_layers_at_crop_128():
    network = VGGDiscriminator(128)
    convs = [(m.in_channels, m.out_channels, m.stride[0]) for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    first = [(3, 64, 1), (64, 64, 2), (64, 128, 1), (128, 128, 2), (128, 256, 1), (256, 256, 2)]
    assert convs == [*first, (256, 512, 1), (512, 512, 2), (512, 512, 1), (512, 512, 2)]
    assert (network.hidden.in_features, network.hidden.out_features) == (512 * 16, 100)
    assert not any("running" in key for key in network.state_dict())


def test_vgg_logits_depend_on_their_batch_only():
    """Batch normalisation keeps no running statistics of earlier batches."""
    torch.manual_seed(0)
    network = VGGDiscriminator(16, features=4)
    batch, other = torch.rand(4, 3, 16, 16), torch.rand(4, 3, 16, 16)
    before = network(batch)
    network(other * 100)
    assert torch.equal(network(batch), before)
    assert not torch.allclose(network(torch.cat([batch, other]))[:4], before, atol=1e-4)


def test_unet_logits_lie_where_the_image_changes():
    torch.manual_seed(0)
    network = UNetDiscriminator(features=4).eval()
    image = torch.rand(1, 3, 32, 48)
    changed = image.clone()
    changed[..., 4:6, 40:42] = 1 - changed[..., 4:6, 40:42]
    with torch.no_grad():
        difference = (network(changed) - network(image)).abs()[0, 0]
    assert difference.shape == (32, 48)
    y, x = divmod(int(difference.argmax()), 48)
    assert abs(y - 5) <= 4
    assert abs(x - 41) <= 4
    with pytest.raises(ValueError, match=r"multiples of 8, got \(36, 32\)"):
        network(torch.rand(1, 3, 36, 32))


def test_unet_has_the_published_weight_names():
    keys = set(UNetDiscriminator(features=4).state_dict())
    plain = {f"conv{i}.{part}" for i in (0, 9) for part in ("weight", "bias")}
    normed = {f"conv{i}.{part}" for i in range(1, 9) for part in ("weight_orig", "weight_u", "weight_v")}
    assert keys == plain | normed
    shapes = [tuple(v.shape) for k, v in UNetDiscriminator().state_dict().items() if k.endswith(("weight", "_orig"))]
    assert shapes[:5] == [(64, 3, 3, 3), (128, 64, 4, 4), (256, 128, 4, 4), (512, 256, 4, 4), (256, 512, 3, 3)]


def test_unet_convolutions_have_spectral_norm_one():
    torch.manual_seed(0)
    network = UNetDiscriminator(features=4)
    with torch.no_grad():
        network.conv4.weight_orig.mul_(50)
        for _ in range(30):  # each pass brings the estimate of the largest singular value closer
            network(torch.rand(1, 3, 16, 16))
    largest = torch.linalg.matrix_norm(network.conv4.weight.flatten(1), ord=2)
    assert largest == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("make", [lambda: VGGDiscriminator(16, 4), lambda: UNetDiscriminator(4)], ids=["vgg", "unet"])
def test_learns_to_separate_sharp_from_blurred(make):
    """The loss on unseen images falls from 2 ln 2 to below ln 2.

    At some step, not at a given one: the path depends on rounding, and is not monotonic.
    """
    torch.manual_seed(1)
    network = make()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(300):  # 10 to 80 are usual
        sharp = torch.rand(8, 3, 16, 16)
        blurred = F.avg_pool2d(sharp, 3, 1, 1)
        loss = F.softplus(-network(sharp)).mean() + F.softplus(network(blurred)).mean()
        if loss < math.log(2):
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < math.log(2)


@pytest.mark.parametrize("make", [lambda: VGGDiscriminator(16, 4), lambda: UNetDiscriminator(4)], ids=["vgg", "unet"])
def test_logits_are_float32_under_autocast(make):
    torch.manual_seed(0)
    network, image = make(), torch.rand(2, 3, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(image)
    assert logits.dtype == torch.float32
    assert (logits - network(image)).abs().max() < 0.1
    assert network.double()(image.double()).dtype == torch.float64
