"""Checkpoints: atomic, verified, with the one before as a fallback, and without code execution."""

import pytest
import torch
from safetensors import SafetensorError
from steadyscale.core.training import TrainingError
from steadyscale.core.training.data.dataset import batches
from steadyscale.core.training.data.image_files import CachedImageDataset
from steadyscale.core.training.loop import checkpoint
from steadyscale.core.training.loop.train_state import init_state
from steadyscale.core.training.loop.train_step import train_step

CPU = torch.device("cpu")


@pytest.fixture
def config(make_config):
    losses = {"adversarial": 0.1, "temporal_adversarial": 0.1}
    return make_config(losses=losses, network={"scales": [2, 4]}, data={"clip_frames": 2})


@pytest.fixture
def state(config):
    state = init_state(config, CPU)
    for batch, _ in zip(batches(config, CachedImageDataset(config.data.train, min_side=8), 0), range(3), strict=False):
        train_step(state, batch, config)
    return state


def have_equal_tensors(one, other) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_a_checkpoint_restores_the_whole_state(config, state, tmp_path):
    state.best_psnr, state.validations_since_best = 31.5, 2
    path = checkpoint.save(state, tmp_path, keep=2)
    other = init_state(config, CPU)
    assert not have_equal_tensors(other.generator, state.generator)
    checkpoint.restore(other, path)
    assert have_equal_tensors(other.generator, state.generator)
    assert have_equal_tensors(other.ema, state.ema)
    assert have_equal_tensors(other.discriminator.network, state.discriminator.network)
    assert have_equal_tensors(other.temporal_discriminator.network, state.temporal_discriminator.network)
    assert (other.step, other.best_psnr, other.validations_since_best) == (3, 31.5, 2)
    assert other.generator.for_scale(2).body[0] is other.generator.for_scale(4).body[0]  # the body is still shared
    restored, saved = (
        other.trained_generator.optimizer.state_dict()["state"],
        state.trained_generator.optimizer.state_dict()["state"],
    )
    assert restored.keys() == saved.keys()
    assert all(torch.equal(restored[i]["exp_avg_sq"], saved[i]["exp_avg_sq"]) for i in restored)


@pytest.mark.parametrize(
    "moment",
    [
        "training.loop.checkpoint.save_file",
        "training.loop.checkpoint.torch.save",
        "runtime.files.atomic_write.os.replace",
    ],
)
def test_an_interrupted_save_keeps_the_checkpoint_before(state, tmp_path, monkeypatch, moment):
    before = checkpoint.save(state, tmp_path, keep=1)
    state.step += 1

    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"steadyscale.core.{moment}", interrupt)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(state, tmp_path, keep=1)
    assert checkpoint.find_newest(tmp_path) == before
    assert [p.name for p in tmp_path.iterdir()] == [before.name]


@pytest.mark.parametrize(
    ("moment", "error"),
    [
        ("save_file", SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")),
        ("torch.save", RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")),
        ("os.fsync", OSError(28, "No space left on device")),
    ],
)
def test_a_full_disk_is_reported_and_keeps_the_checkpoint_before(state, tmp_path, monkeypatch, moment, error):
    before = checkpoint.save(state, tmp_path, keep=1)
    state.step += 7

    def full(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(f"steadyscale.core.training.loop.checkpoint.{moment}", full)
    with pytest.raises(
        TrainingError, match=r"of step \d+ cannot be written \(.*MB are free\); free some space .*--resume"
    ):
        checkpoint.save(state, tmp_path, keep=1)
    assert checkpoint.find_newest(tmp_path) == before
    assert [p.name for p in tmp_path.iterdir()] == [before.name]


def test_a_damaged_checkpoint_is_skipped_and_logged(state, tmp_path, caplog):
    before = checkpoint.save(state, tmp_path, keep=3)
    state.step += 1
    for damage in (_flip_a_bit, _truncate, _delete_a_file):
        path = checkpoint.save(state, tmp_path, keep=3)
        assert checkpoint.find_newest(tmp_path) == path
        damage(path)
        caplog.clear()
        assert checkpoint.find_newest(tmp_path) == before
        assert "is damaged" in caplog.text


def _flip_a_bit(path):
    content = bytearray((path / "average.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "average.safetensors").write_bytes(content)


def _truncate(path):
    (path / "state.json").write_text((path / "state.json").read_text()[:-9])


def _delete_a_file(path):
    (path / "optimisers.pt").unlink()


def test_only_the_newest_checkpoints_are_kept_and_partial_ones_deleted(state, tmp_path):
    for step in (5, 10, 100):
        state.step = step
        checkpoint.save(state, tmp_path, keep=2)
    (tmp_path / ".step_00000200.abcd.partial").mkdir()
    assert checkpoint.find_newest(tmp_path).name == "step_00000100"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step_00000010", "step_00000100"]
    assert checkpoint.find_newest(tmp_path / "none") is None


def test_a_checkpoint_of_other_settings_is_refused(make_config, state, tmp_path):
    path = checkpoint.save(state, tmp_path, keep=1)
    for changes in ({"network": {"scales": [2, 4], "features": 6}}, {"network": {"scales": [2]}}):
        other = init_state(make_config(losses={"adversarial": 0.1}, **changes), CPU)
        with pytest.raises(
            TrainingError, match=r"written with other settings \(.*(has shape \d|\d+ tensors)"
        ) as caught:
            checkpoint.restore(other, path)
        assert len(str(caught.value)) < 300 + len(str(path))


def test_pickled_code_in_a_checkpoint_is_not_executed(config, state, tmp_path):
    path = checkpoint.save(state, tmp_path, keep=1)

    class Malicious:
        def __reduce__(self):
            return (open, (str(tmp_path / "created"), "w"))

    torch.save(Malicious(), path / "optimisers.pt")
    with pytest.raises(TrainingError):
        checkpoint.restore(init_state(config, CPU), path)
    assert not (tmp_path / "created").exists()


def test_all_files_of_a_checkpoint_are_on_the_disk_before_it_has_its_name(state, tmp_path, disk_calls):
    target = checkpoint.save(state, tmp_path, keep=2)
    renamed = disk_calls.index(("rename", target.name))
    flushed = [content for kind, content in disk_calls[:renamed] if kind == "fsync"]
    assert sorted(flushed) == sorted(file.read_bytes() for file in target.iterdir())
