"""Settings that were renamed: old TOML key -> present key.

The reader of TOML files and `--set` accept the old keys, and log a deprecation line. Hashes are computed over the old
keys, so that a rename does not change them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..errors import TrainingError
from .toml_dataclass import as_table

log = logging.getLogger(__name__)

# Removed in version 0.2. A row renames a key and all keys below it; the longest matching row applies.
RENAMED_KEYS = {
    "network.begin_with": "network.init_from",
    "data.candidates": "data.crop_candidates",
    "data.shrink": "data.min_resize",
    "data.frames": "data.frames_per_video",
    "data.memory_gb": "data.cache_gb",
    "degrade.on": "degrade.enabled",
    "degrade.video": "degrade.video_prob",
    "degrade.crf": "degrade.crf_range",
    "degrade.last_ring": "degrade.final_sinc_prob",
    "degrade.first.blur": "degrade.first.blur_prob",
    "degrade.second.blur": "degrade.second.blur_prob",
    "degrade.first.sigma": "degrade.first.blur_sigma",
    "degrade.second.sigma": "degrade.second.blur_sigma",
    "degrade.first.ring": "degrade.first.sinc_prob",
    "degrade.second.ring": "degrade.second.sinc_prob",
    "degrade.first.up": "degrade.first.up_prob",
    "degrade.second.up": "degrade.second.up_prob",
    "degrade.first.down": "degrade.first.down_prob",
    "degrade.second.down": "degrade.second.down_prob",
    "degrade.first.resize": "degrade.first.resize_range",
    "degrade.second.resize": "degrade.second.resize_range",
    "degrade.first.noise": "degrade.first.noise_prob",
    "degrade.second.noise": "degrade.second.noise_prob",
    "degrade.first.gaussian": "degrade.first.gaussian_noise_prob",
    "degrade.second.gaussian": "degrade.second.gaussian_noise_prob",
    "degrade.first.poisson": "degrade.first.poisson_scale_range",
    "degrade.second.poisson": "degrade.second.poisson_scale_range",
    "degrade.first.grey": "degrade.first.gray_noise_prob",
    "degrade.second.grey": "degrade.second.gray_noise_prob",
    "degrade.first.quality": "degrade.first.jpeg_quality",
    "degrade.second.quality": "degrade.second.jpeg_quality",
    "losses.steady": "losses.shift_consistency",
    "losses.weights": "losses.backbone_weights",
    "losses.layers": "losses.layer_weights",
    "learning": "optim",
    "learning.rate": "optim.learning_rate",
    "learning.last_rate": "optim.min_learning_rate",
    "learning.discriminator_rate": "optim.discriminator_learning_rate",
    "learning.warm_up": "optim.warmup_steps",
    "learning.gan_from": "optim.gan_start_step",
    "learning.gan_ramp": "optim.gan_ramp_steps",
    "learning.clip": "optim.max_grad_norm",
    "learning.average": "optim.ema_decay",
    "machine": "runtime",
    "machine.arithmetic": "runtime.autocast_dtype",
    "machine.loaders": "runtime.num_workers",
    "keeping": "output",
    "keeping.checkpoints": "output.keep_checkpoints",
}


KeyPath = tuple[str, ...]


def rename_keys(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the nested table with its old keys renamed, and log those that it used.

    Raises TrainingError if the table has both the old and the present form of a key.
    """
    for old, new in sorted(RENAMED_KEYS.items(), key=lambda row: row[0].count("."), reverse=True):
        if _contains(table, old) and _contains(table, new):
            raise TrainingError(f"{old} and {new} are the same setting; remove {old}, its old name")
    leaves = [(path, _rename(path, RENAMED_KEYS), value) for path, value in _leaves(table)]
    if renamed := [f"{'.'.join(old)} is now {'.'.join(new)}" for old, new, _ in leaves if old != new]:
        log.warning("old names of settings, accepted until version 0.2: %s", ", ".join(renamed))
    return _nested((new, value) for _, new, value in leaves)


ADDED_KEYS: Mapping[str, object] = {
    "data.paired": False,
    "data.clip_frames": 1,
    "data.permute_colors": 0.0,
    "data.max_saturation": 1.0,
    "losses.temporal": 0.0,
    "losses.temporal_adversarial": 0.0,
    "losses.deflicker": 0.0,
    "losses.ms_ssim": 0.0,
    "losses.wavelet": 0.0,
    "losses.artifacts": 0.0,
    "losses.color": 0.0,
    "optim.kind": "adam",
    "optim.weight_decay": 0.0,
    "output.wandb": "",
    "output.mlflow": "",
}
"""Settings that the first version did not have, with the default that does what it did."""


def hash_text(table: Mapping[str, Any]) -> str:
    """Return settings as text with their original keys, as the input of a hash.

    table: as `to_table` gives it. The text of unchanged settings stays the same when a field is renamed, so that runs
    keep the folders that are named after its hash. A field that was added later is left out while it has its default;
    adding one elsewhere, or moving one within its dataclass, changes the text.
    """
    first_names = {new: old for old, new in reversed(RENAMED_KEYS.items())}
    original = _nested(
        (_rename(path, first_names), value)
        for path, value in _leaves(table)
        if (name := ".".join(path)) not in ADDED_KEYS or value != ADDED_KEYS[name]
    )
    return "\n".join(_text_lines(original, "")) + "\n"


def _text_lines(table: Mapping[str, Any], prefix: str) -> list[str]:
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items() if as_table(value) is None]
    for key, value in table.items():
        if (section := as_table(value)) is not None:
            lines += ["", f"[{prefix}{key}]", *_text_lines(section, f"{prefix}{key}.")]
    return lines


def flatten(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of every setting in nested tables."""
    yield from ((".".join(path), value) for path, value in _leaves(table))


def _rename(path: KeyPath, names: Mapping[str, str]) -> KeyPath:
    """Replace the longest beginning of the path that is a key of `names`."""
    for count in range(len(path), 0, -1):
        if (new := names.get(".".join(path[:count]))) is not None:
            return (*new.split("."), *path[count:])
    return path


def _leaves(table: Mapping[str, Any], parents: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Yield the path and the value of every entry; an empty table is an entry too."""
    for key, value in table.items():
        if inner := as_table(value):
            yield from _leaves(inner, (*parents, key))
        else:
            yield (*parents, key), value


def _nested(leaves: Iterable[tuple[KeyPath, Any]]) -> dict[str, Any]:
    """Build the table of which these are the leaves."""
    table: dict[str, Any] = {}
    for (*parents, key), value in leaves:
        inner = table
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[key] = value
    return table


def _contains(table: Mapping[str, Any], dotted: str) -> bool:
    inner: Any = table
    for key in dotted.split("."):
        section = as_table(inner)
        if section is None or key not in section:
            return False
        inner = section[key]
    return True
