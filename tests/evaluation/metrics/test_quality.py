from __future__ import annotations

import numpy as np
import pytest
from metric_world import case_of, figure, footage_of, place, plain, portrait, value
from PIL import Image, ImageFilter

from anyref.evaluation.metrics.quality import Aesthetics, EdgeBlur, ImagingQuality, noise_of

CASE = case_of(portrait(figure(2)))


def blurred(frame, radius):
    return np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(radius)))


def test_imaging_quality_is_one_minus_a_hundredth_of_the_mark(models):
    frame = plain(0)
    frame[:, ::2] = 60
    assert value(ImagingQuality(models), CASE, [frame] * 3) == pytest.approx(0.3)


def test_blur_lowers_both(models):
    sharp = place(0, (256, 256))
    frames = [[blurred(sharp, radius)] * 2 for radius in (0, 2, 5)]
    edges = [value(EdgeBlur(), CASE, some) for some in frames]
    assert edges == sorted(edges)
    assert edges[2] > edges[0] + 2
    quality = [value(ImagingQuality(models), CASE, some) for some in frames]
    assert quality == sorted(quality, reverse=True)


def test_tiny_frames_have_no_quality(models):
    tiny = footage_of([plain(9, (8, 8))] * 2)
    assert ImagingQuality(models).score(CASE, tiny).cause == "undetected"


def test_aesthetics_say_that_they_are_not_here():
    assert Aesthetics().applies(CASE).cause == "unavailable"


def test_noise_is_measured_where_the_picture_is_plain(models):
    sky = blurred(place(0, (256, 256)), 12)
    noise = np.random.default_rng(0).normal(0, 10, (256, 256, 1))
    noisy = (sky + noise).clip(0, 255).astype(np.uint8)
    assert noise_of(sky) < 1
    assert noise_of(noisy) == pytest.approx(10, abs=2.5)
    models.quality.score = lambda pictures: [60.0] * len(pictures)  # a sky looks blurred
    metric = ImagingQuality(models)
    assert value(metric, CASE, [sky] * 2) == pytest.approx(0.4)
    assert value(metric, CASE, [(sky + 2.5 * noise).clip(0, 255).astype(np.uint8)] * 2) < 0.1


@pytest.mark.parametrize("shape", [(64, 64), (2, 2000), (2000, 2)])
def test_what_has_no_edge_has_no_blur(shape):
    assert EdgeBlur().score(CASE, footage_of([plain(0, shape)] * 3)).cause == "undetected"


def test_a_black_frame_counts_as_the_worst_beside_others():
    frames = [plain(0, (256, 256))] * 5 + [place(0, (256, 256))]
    assert value(EdgeBlur(), CASE, frames) == EdgeBlur().spec.worst
