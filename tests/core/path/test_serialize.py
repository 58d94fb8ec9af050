import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from camera_simulation import make_shake_path
from steadyscale.core import geometry
from steadyscale.core.clip import ClipError, ClipInfo
from steadyscale.core.hold import Hold
from steadyscale.core.lens import Lens
from steadyscale.core.path.mesh import MESH_SHAPE, quantize
from steadyscale.core.path.motion import Motion
from steadyscale.core.path.serialize import load_path, save_path
from steadyscale.core.path.trajectory import Trajectory, correction, inverse
from steadyscale.core.smoothing.smooth import smooth


@pytest.fixture
def motion():
    steps = geometry.matrices_from_parameters(make_shake_path(30) / 3)
    confidence = np.random.default_rng(0).uniform(0.3, 1, 30)
    confidence[[0, 12]] = 0
    return Motion(steps, confidence, ClipInfo(640, 360, Fraction(30000, 1001), 30))


def kinds(motion):
    measured = Trajectory.of(motion)
    fix = correction(measured, smooth(measured))
    return {"motion": motion, "trajectory": measured, "correction": fix, "bare": replace(fix, poses=None)}


@pytest.mark.parametrize("kind", ["motion", "trajectory", "correction", "bare"])
def test_numbers_are_saved_exactly(kind, motion, tmp_path):
    value = kinds(motion)[kind]
    save_path(value, tmp_path / "path.json")
    again = load_path(tmp_path / "path.json")
    assert type(again) is type(value)
    assert again.info == value.info
    assert again.shots == value.shots == [slice(0, 12), slice(12, 30)]
    for name in ("steps", "confidence", "poses", "matrices"):
        before, after = getattr(value, name, None), getattr(again, name, None)
        assert (before is None) == (after is None)
        assert before is None or np.array_equal(before, after)


def test_rolling_shutter_is_saved(motion, tmp_path):
    motion = replace(motion, readout=-0.62)
    values = kinds(motion)
    for value in (*values.values(), inverse(values["correction"])):
        save_path(value, tmp_path / "path.json")
        again = load_path(tmp_path / "path.json")
        for name in ("readout", "distorts_rows"):
            assert getattr(again, name, None) == getattr(value, name, None)
        rows = getattr(value, "rows", None)
        assert rows is None if value is motion else np.array_equal(again.rows, rows)


def test_dissolves_are_saved(motion, tmp_path):
    save_path(replace(motion, dissolves=[slice(10, 15)]), tmp_path / "path.json")
    assert load_path(tmp_path / "path.json").dissolves == [slice(10, 15)]
    document = json.loads((tmp_path / "path.json").read_text())
    (tmp_path / "path.json").write_text(json.dumps(document | {"dissolves": [[10, 31]]}))
    with pytest.raises(ClipError, match="the dissolves are not frames of the clip"):
        load_path(tmp_path / "path.json")


def test_uneven_times_are_saved_exactly(motion, tmp_path):
    times = np.cumsum(np.random.default_rng(2).uniform(0.02, 0.06, 30))
    for value in kinds(replace(motion, times=times)).values():
        save_path(value, tmp_path / "path.json")
        assert np.array_equal(load_path(tmp_path / "path.json").times, times)


def test_files_without_times_have_a_constant_rate(motion, tmp_path):
    for value in kinds(motion).values():
        save_path(value, tmp_path / "path.json")
        assert '"times"' not in (tmp_path / "path.json").read_text()
        assert load_path(tmp_path / "path.json").times is None


@pytest.mark.parametrize(
    ("index", "time", "message"),
    [
        (7, 0.2, "frame 7 is at 0.2 s, the one before at 0.24 s"),
        (7, 0.24, "do not increase"),
        (29, 1e9, "beyond"),
        (3, None, "finite|float"),
    ],
)
def test_absurd_times_are_refused(motion, tmp_path, index, time, message):
    save_path(replace(motion, times=np.arange(30) * 0.04), tmp_path / "path.json")
    document = json.loads((tmp_path / "path.json").read_text())
    document["times"][index] = time
    (tmp_path / "path.json").write_text(json.dumps(document))
    with pytest.raises(ClipError, match=message):
        load_path(tmp_path / "path.json")


def test_a_number_of_times_that_differs_is_refused(motion, tmp_path):
    save_path(replace(motion, times=np.arange(30) * 0.04), tmp_path / "path.json")
    document = json.loads((tmp_path / "path.json").read_text())
    document["times"].pop()
    (tmp_path / "path.json").write_text(json.dumps(document))
    with pytest.raises(ClipError, match="times has the shape"):
        load_path(tmp_path / "path.json")


def test_files_without_a_rolling_shutter_keep_their_format(motion, tmp_path):
    for kind, value in kinds(motion).items():
        save_path(value, tmp_path / "path.json")
        document = json.loads((tmp_path / "path.json").read_text())
        known = {"motion": {"steps", "trust"}, "trajectory": {"poses"}, "bare": {"matrices"}}
        tables = known.get(kind, {"matrices", "poses"})
        assert set(document) == {"format", "version", "kind", "clip", "shots"} | tables
        again = load_path(tmp_path / "path.json")
        assert getattr(again, "rows", None) is None
        assert getattr(again, "readout", 0.0) == 0.0


def test_the_level_of_gravity_is_saved(motion, tmp_path):
    level = np.linspace(-0.1, 0.2, 30)
    for value in (replace(motion, level=level), replace(Trajectory.of(motion), level=level)):
        save_path(value, tmp_path / "path.json")
        assert np.array_equal(load_path(tmp_path / "path.json").level, level)


def test_what_is_held_is_saved(motion, tmp_path):
    held = replace(motion, hold=Hold.REGION, held=np.linspace(0, 1, 30))
    save_path(held, tmp_path / "path.json")
    again = load_path(tmp_path / "path.json")
    assert again.hold is Hold.REGION
    assert np.array_equal(again.held, held.held)
    text = (tmp_path / "path.json").read_text()
    (tmp_path / "path.json").write_text(text.replace('"region"', '"sky"'))
    with pytest.raises(ClipError, match="damaged"):
        load_path(tmp_path / "path.json")


def test_file_states_its_format(motion, tmp_path):
    save_path(motion, tmp_path / "path.json")
    document = json.loads((tmp_path / "path.json").read_text())
    assert (document["format"], document["version"], document["kind"]) == ("steadyscale-path", 1, "motion")
    assert document["clip"]["fps"] == "30000/1001"


def change(**entries):
    return lambda document: {**document, **entries}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change(format="gyroflow"), "not of the format"),
        (change(version=2), "version 2"),
        (change(kind="steps"), "not motion"),
        (change(trust=[1.0] * 29), "shape"),
        (change(trust=[1.0] * 30), "cuts"),
        (change(steps=[[1.0] * 9] * 29 + [[float("nan")] * 9]), "not finite"),
        (change(steps="none"), "damaged"),
        (change(readout=1.5), "between -1 and 1"),
        (change(readout="fast"), "damaged"),
        (change(shots=[[0, 12], [13, 30]]), "not consecutive"),
        (change(clip={"width": 0, "height": 2, "fps": "25", "length": None}), "0 is not"),
        (change(clip={"width": 2, "height": 2, "fps": "25/0", "length": None}), "damaged"),
        (change(clip={"width": 2, "height": 2, "fps": "0", "length": None}), "no frame rate"),
        (change(clip={"width": 2, "height": 2, "fps": "nan", "length": None}), "no frame rate"),
        (change(clip={"width": 2, "height": 2, "fps": 1e400, "length": None}), "no frame rate"),
        (change(clip={"width": 2, "height": 2, "fps": "1e99999999", "length": None}), "no frame rate"),
        (lambda d: {k: v for k, v in d.items() if k != "steps"}, "steps.*missing"),
        (lambda d: [d], "not of the format"),
    ],
)
def test_foreign_and_damaged_files_are_clear_errors(damage, message, motion, tmp_path):
    file = tmp_path / "path.json"
    save_path(motion, file)
    file.write_text(json.dumps(damage(json.loads(file.read_text()))))
    with pytest.raises(ClipError, match=rf"path\.json.*{message}"):
        load_path(file)


def test_missing_file_invalid_json_and_missing_folder_are_errors(motion, tmp_path):
    with pytest.raises(ClipError, match="cannot be read"):
        load_path(tmp_path / "missing.json")
    (tmp_path / "clip.mp4").write_bytes(b"\x00\xff\xfe")
    with pytest.raises(ClipError, match="is not JSON"):
        load_path(tmp_path / "clip.mp4")
    with pytest.raises(ClipError, match="cannot be written"):
        save_path(motion, tmp_path / "missing" / "path.json")


def test_non_finite_numbers_are_not_saved(motion, tmp_path):
    motion.steps[3, 0, 0] = np.nan
    with pytest.raises(ClipError, match="steps hold"):
        save_path(motion, tmp_path / "path.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "table"), [("trajectory", "poses"), ("correction", "matrices")])
def test_singular_poses_are_an_error_and_singular_steps_are_interpolated(kind, table, motion, tmp_path):
    value, file = kinds(motion)[kind], tmp_path / "path.json"
    getattr(value, table)[5, :2, :2] = [[1, 2], [2, 4]]
    save_path(value, file)
    with pytest.raises(ClipError, match=rf"path\.json.*{table} holds a matrix that has no inverse"):
        load_path(file)
    motion.steps[5, :2, :2] = 0
    save_path(motion, file)
    assert np.isfinite(Trajectory.of(load_path(file)).poses).all()


def test_meshes_are_saved_exactly_and_only_where_they_exist(motion, tmp_path):
    values = kinds(motion)
    mesh = quantize(np.random.default_rng(0).normal(0, 3, (30, *MESH_SHAPE, 2)).astype(np.float32))
    for value, name in ((motion, "residuals"), (values["correction"], "mesh")):
        save_path(value, tmp_path / "path.json")
        assert name not in json.loads((tmp_path / "path.json").read_text())
        assert getattr(load_path(tmp_path / "path.json"), name) is None
        save_path(replace(value, **{name: mesh}), tmp_path / "path.json")
        again = getattr(load_path(tmp_path / "path.json"), name)
        assert again.dtype == np.float32
        assert np.array_equal(again, mesh)
    assert (tmp_path / "path.json").stat().st_size < 30 * (9 * 16 * 2 * 12 + 1000)


@pytest.mark.parametrize(("value", "message"), [(1e9, "moves a vertex"), (None, "damaged"), ("short", "has the shape")])
def test_a_damaged_mesh_is_an_error(motion, tmp_path, value, message):
    fix = replace(kinds(motion)["correction"], mesh=np.zeros((30, *MESH_SHAPE, 2), np.float32))
    save_path(fix, tmp_path / "path.json")
    document = json.loads((tmp_path / "path.json").read_text())
    if value == "short":
        document["mesh"].pop()
    else:
        document["mesh"][3][7] = value
    (tmp_path / "path.json").write_text(json.dumps(document))
    with pytest.raises(ClipError, match=message):
        load_path(tmp_path / "path.json")


def test_a_lens_is_saved_and_only_where_there_is_one(motion, tmp_path):
    lens = Lens(118.5, (0.03, -0.001))
    for value in kinds(replace(motion, lens=lens)).values():
        save_path(value, tmp_path / "path.json")
        assert load_path(tmp_path / "path.json").lens == lens
    save_path(motion, tmp_path / "path.json")
    assert "lens" not in json.loads((tmp_path / "path.json").read_text())
    for wrong in ([400], [120, float("nan")], [], "wide"):
        save_path(replace(motion, lens=lens), tmp_path / "path.json")
        document = json.loads((tmp_path / "path.json").read_text())
        (tmp_path / "path.json").write_text(json.dumps(document | {"lens": wrong}))
        with pytest.raises(ClipError, match="damaged"):
            load_path(tmp_path / "path.json")
