from __future__ import annotations

import pickle

import numpy as np
import pytest

from anyref.errors import PerceptionError
from anyref.perception.quality import (
    Brisque,
    SupportVectors,
    _read_ranges,
    fit_asymmetric,
    natural_features,
    read_support_vectors,
)

MODEL = """svm_type epsilon_svr
kernel_type rbf
gamma 0.5
nr_class 2
total_sv 2
rho -3
SV
2 1:1 36:-1
-1 2:0.5
"""
RANGES = (np.zeros(36), np.full(36, 2.0))


def test_a_regression_is_read_and_predicts_by_its_kernel():
    model = read_support_vectors(MODEL, RANGES)
    at_first = np.ones(36)  # scaled to 0
    expected = 2 * np.exp(-0.5 * 2) - np.exp(-0.5 * 0.25) + 3
    assert model.predict(at_first) == pytest.approx(expected)


@pytest.mark.parametrize("text", [MODEL.replace("rbf", "linear"), MODEL.replace("sv 2", "sv 3")])
def test_another_machine_or_a_cut_file_is_refused(text):
    with pytest.raises(PerceptionError, match="not a whole epsilon_svr"):
        read_support_vectors(text, RANGES)


def test_ranges_that_name_code_are_refused(tmp_path):
    path = tmp_path / "ranges.pickle"
    path.write_bytes(pickle.dumps({"min_": print, "max_": [1.0]}))
    with pytest.raises(PerceptionError, match=r"names builtins\.print"):
        _read_ranges(path)


@pytest.mark.parametrize(("exponent", "draw"), [(2.0, "normal"), (1.0, "laplace")])
def test_the_fit_recovers_exponent_and_variance(exponent, draw):
    values = getattr(np.random.default_rng(0), draw)(size=400_000)
    shape, left, right = fit_asymmetric(values)
    assert shape == pytest.approx(exponent, abs=0.05)
    assert left == pytest.approx(right, rel=0.05)


def test_a_picture_and_its_mirror_image_have_the_same_statistics():
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    features, mirrored = natural_features(picture), natural_features(picture[:, ::-1])
    assert features.shape == (36,)
    np.testing.assert_allclose(features[:10], mirrored[:10], rtol=1e-6)


def test_a_plain_picture_has_finite_features(blank):
    assert np.isfinite(natural_features(blank())).all()


def test_a_picture_of_a_few_pixels_is_refused(blank):
    with pytest.raises(PerceptionError, match="80x8 is below 16x16"):
        Brisque().score([blank(8, 80)])


def test_scores_come_one_per_picture(blank):
    scorer = Brisque()
    scorer.network = SupportVectors(
        gamma=0.0,
        rho=-1.0,
        weights=np.ones(1),
        vectors=np.zeros((1, 36)),
        low=RANGES[0],
        high=RANGES[1],
    )
    assert scorer.score([blank(), blank()]) == [2.0, 2.0]


@pytest.mark.slow
def test_a_clean_photograph_scores_better_than_a_blurred_or_noisy_one(fetched, photograph):
    import cv2

    fetched("brisque")
    clean = photograph("astronaut")
    noise = np.random.default_rng(0).normal(0, 30, clean.shape)
    noisy = (clean + noise).clip(0, 255).astype(np.uint8)
    scores = Brisque().score([clean, cv2.GaussianBlur(clean, (0, 0), 3), noisy])
    assert scores[0] == pytest.approx(10.8, abs=2)
    assert min(scores[1:]) > 45
