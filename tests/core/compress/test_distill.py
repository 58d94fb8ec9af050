"""Training with a teacher: what is asked for, and that it is learnt."""

import pytest
import torch
from steadyscale.core.compress import CompressionError
from steadyscale.core.compress.distill import FinetuneSettings, distill, finetune
from steadyscale.core.training.data.dataset import Batch, CachedImageDataset
from steadyscale.models.arch.separable import to_separable

CPU = torch.device("cpu")


def learnt(stream):
    losses = []
    while True:
        try:
            losses.append(next(stream))
        except StopIteration as end:
            return losses, end.value


def test_half_of_what_is_asked_for_is_the_teachers():
    small, large = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 8, 8)
    pairs = iter([Batch(0, 2, small, large)])
    [batch] = distill(pairs, torch.nn.Upsample(scale_factor=2), CPU)
    repeated = small.repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert torch.allclose(batch.large, (large + repeated) / 2)
    assert torch.equal(batch.small, small)
    assert torch.is_grad_enabled()


def test_a_separated_network_learns_from_its_teacher(network_factory, texture_folder, small_images):
    teacher = network_factory(16)
    student = to_separable(teacher)

    def miss(made):
        with torch.no_grad():
            return sum(float((made(x) - teacher(x)).abs().mean()) for x in small_images)

    before = miss(student)
    pictures = CachedImageDataset([str(texture_folder)], min_side=96)
    losses, student = learnt(
        finetune(student, teacher, 2, pictures, FinetuneSettings(60, batch=4, crop=24, learning_rate=3e-3), CPU)
    )
    assert len(losses) == 60
    assert miss(student) < 0.6 * before
    assert not any(parameter.requires_grad for parameter in student.parameters())


def test_the_seed_decides(network_factory, texture_folder):
    pictures = CachedImageDataset([str(texture_folder)], min_side=96)

    def run(seed):
        tuning = FinetuneSettings(3, batch=2, crop=16, seed=seed)
        return learnt(finetune(to_separable(network_factory(8)), network_factory(8), 2, pictures, tuning, CPU))[0]

    assert run(1) == run(1) != run(2)


def test_a_run_that_only_gives_nan_is_given_up(network_factory, texture_folder):
    student = network_factory(8)
    student.body[0].weight[0, 0, 0, 0] = float("nan")
    pictures = CachedImageDataset([str(texture_folder)], min_side=96)
    with pytest.raises(CompressionError, match="20 steps in a row"):
        learnt(finetune(student, network_factory(8), 2, pictures, FinetuneSettings(100, batch=2, crop=16), CPU))
