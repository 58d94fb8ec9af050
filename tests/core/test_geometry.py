import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from steadyscale.core import geometry

similarities = st.tuples(
    st.floats(-500, 500), st.floats(-500, 500), st.floats(-3.1, 3.1), st.floats(-1, 1)
).map(np.array)  # fmt: skip


@settings(deadline=None)  # the first example may wait for other processes
@given(similarities)
def test_parameters_round_trip_through_matrices(parameters):
    assert np.allclose(geometry.to_parameters(geometry.matrices_from_parameters(parameters)), parameters, atol=1e-9)


def test_positive_angle_rotates_x_towards_y():
    quarter = geometry.matrices_from_parameters(np.array([0, 0, np.pi / 2, 0]))
    assert np.allclose(geometry.transform_points(quarter, np.array([[1.0, 0.0]])), [[0, 1]])


@settings(deadline=None)  # the first example may wait for other processes
@given(similarities, st.floats(0.25, 8))
def test_scaling_multiplies_the_translation_only(parameters, factor):
    large = geometry.to_parameters(geometry.rescale(geometry.matrices_from_parameters(parameters), factor, factor))
    assert np.allclose(large, parameters * [factor, factor, 1, 1], atol=1e-6)


def test_transform_points_divides_by_depth():
    tilt = np.eye(3)
    tilt[2, 0] = 0.1
    assert np.allclose(geometry.transform_points(tilt, np.array([[10.0, 4.0]])), [[5, 2]])


homographies = st.tuples(
    *(st.floats(-200, 200),) * 2,
    st.floats(-3, 3),
    st.floats(-1, 1),
    *(st.floats(-0.2, 0.2),) * 2,
    *(st.floats(-1e-3, 1e-3),) * 2,
).map(np.array)


@settings(deadline=None)  # the first example may wait for other processes
@given(homographies)
def test_tangents_round_trip_through_matrices(tangent):
    assert np.allclose(geometry.to_tangents(geometry.matrices_from_tangents(tangent)), tangent, atol=1e-8)


def test_identity_has_zero_tangents():
    assert np.array_equal(geometry.to_tangents(np.eye(3)), np.zeros(8))


def test_parameters_of_a_homography_are_those_at_its_center():
    tilt = geometry.matrices_from_parameters(np.array([30.0, 10, 0.1, 0.2])) @ geometry.matrices_from_tangents(
        np.eye(8)[6] * 1e-3
    )
    assert np.allclose(geometry.to_parameters(tilt), [30, 10, 0.1, 0.2])


def test_inverse_of_a_singular_matrix_is_nan():
    matrices = np.stack([np.diag([2.0, 4.0, 1.0]), np.diag([0.0, 0.0, 1.0]), np.eye(3), np.full((3, 3), np.nan)])
    matrices = matrices.reshape(2, 2, 3, 3)
    found = geometry.inverse(matrices)
    assert found.shape == matrices.shape
    assert np.array_equal(found[0, 0], np.diag([0.5, 0.25, 1.0]))
    assert np.array_equal(found[1, 0], np.eye(3))
    assert np.isnan(found[0, 1]).all()
    assert np.isnan(found[1, 1]).all()
    assert np.isnan(geometry.inverse(np.zeros((3, 3)))).all()


def test_is_regular_excludes_matrices_whose_inverse_depends_on_rounding():
    flat = np.array([[1.0, 2, 0], [2, 4 + 1e-13, 0], [0, 0, 1]])  # inverted or refused, depending on rounding
    horizon = np.eye(3)
    horizon[2, 2] = 0
    mirror = np.diag([-1.0, 1, 1])
    singular = [
        mirror,
        np.diag([1.0, 0, 1]),
        flat,
        np.zeros((3, 3)),
        horizon,
        np.full((3, 3), np.inf),
        np.full((3, 3), np.nan),
    ]
    assert not geometry.is_regular(np.stack(singular)).any()
    usual = geometry.matrices_from_parameters(np.array([[300.0, -20, 3, 2], [0, 0, 0, -9], [0, 0, 0, 0]]))
    assert geometry.is_regular(usual).all()
    assert geometry.is_regular(usual, 100).tolist() == [True, False, True], "the second one is 8000 times as small"
