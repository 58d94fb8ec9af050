"""Fine-tuning with a teacher: targets, decreasing loss, reproducibility, and errors."""

import pytest
import torch
from steadyscale.core.compress import CompressionError
from steadyscale.core.compress.distill import FinetuneSettings, distill, finetune
from steadyscale.core.training.data.dataset import Batch
from steadyscale.core.training.data.image_files import CachedImageDataset
from steadyscale.models.arch.separable import to_separable

CPU = torch.device("cpu")


def run_to_end(stream):
    losses = []
    while True:
        try:
            losses.append(next(stream))
        except StopIteration as end:
            return losses, end.value


def test_the_target_is_the_output_of_the_teacher_alone():
    small, large = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 8, 8)
    pairs = iter([Batch(0, 2, small, large)])
    [batch] = distill(pairs, torch.nn.Upsample(scale_factor=2), CPU)
    upsampled = small.repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert torch.equal(batch.large, upsampled)
    assert torch.equal(batch.small, small)
    assert torch.is_grad_enabled()


def test_a_separable_network_approaches_its_teacher(network_factory, texture_folder, small_images):
    teacher = network_factory(16)
    student = to_separable(teacher)

    def error(network):
        with torch.no_grad():
            return sum(float((network(x) - teacher(x)).abs().mean()) for x in small_images)

    before = error(student)
    images = CachedImageDataset([str(texture_folder)], min_side=96)
    losses, student = run_to_end(
        finetune(student, teacher, 2, images, FinetuneSettings(60, batch=4, crop=24, learning_rate=3e-3), CPU)
    )
    assert len(losses) == 60
    assert error(student) < 0.6 * before
    assert not any(parameter.requires_grad for parameter in student.parameters())


def test_the_seed_determines_the_losses(network_factory, texture_folder):
    images = CachedImageDataset([str(texture_folder)], min_side=96)

    def run(seed):
        settings = FinetuneSettings(3, batch=2, crop=16, seed=seed)
        return run_to_end(finetune(to_separable(network_factory(8)), network_factory(8), 2, images, settings, CPU))[0]

    assert run(1) == run(1) != run(2)


def test_training_with_only_nan_is_aborted(network_factory, texture_folder):
    student = network_factory(8)
    student.body[0].weight[0, 0, 0, 0] = float("nan")
    images = CachedImageDataset([str(texture_folder)], min_side=96)
    with pytest.raises(CompressionError, match="in 20 steps in a row"):
        run_to_end(finetune(student, network_factory(8), 2, images, FinetuneSettings(100, batch=2, crop=16), CPU))
