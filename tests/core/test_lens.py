import numpy as np
import pytest
from steadyscale.core.clip import ClipError
from steadyscale.core.lens import LENSES, Lens, LensDetection, parse_lens


@pytest.mark.parametrize("lens", [Lens(150), Lens(300), *LENSES.values()])
def test_an_angle_is_the_inverse_of_its_radius(lens):
    angles = np.linspace(0, np.radians(lens.fov) / 2, 50)
    assert np.abs(lens.angle(lens.radius(angles)) - angles).max() < 1e-9


def test_the_edge_of_the_frame_is_at_half_the_field_of_view():
    for lens in (Lens(150), *LENSES.values()):
        edge = lens.radius(np.array(np.radians(lens.fov / 2))) * lens.focal(640)
        assert edge == pytest.approx(320)
    assert Lens(180).focal(np.pi * 100) == pytest.approx(100), "an equidistant lens has a constant scale"


def test_a_known_lens_has_its_published_focal_length():
    assert LENSES["gopro-wide"].focal(3840) == pytest.approx(1796.8, rel=1e-3)
    assert LENSES["gopro-wide-4x3"].focal(5312) == pytest.approx(2373.7, rel=1e-3)
    assert LENSES["dji-air-unit"].focal(1920) == pytest.approx(876.5, rel=1e-3)


def test_a_projection_is_limited_to_where_it_grows():
    falling = Lens(60, (-0.3,))
    assert falling.angle(np.array(5.0)) < np.sqrt(1 / 0.9)
    with pytest.raises(ClipError, match="coefficients"):
        Lens(140, (-0.3,))


def test_a_setting_is_a_word_a_name_or_a_number():
    assert parse_lens("auto") is LensDetection.AUTO
    assert parse_lens("gopro-wide") is LENSES["gopro-wide"]
    assert parse_lens("120.5") == parse_lens(120.5) == Lens(120.5)
    for wrong in ("gopro", "0.5", "301", "nan"):
        with pytest.raises(ClipError):
            parse_lens(wrong)
