from __future__ import annotations

import pytest

from anyref.lab.statistics import Estimate, estimate, summarise, wilson


def test_wilsons_interval_has_the_published_values():
    # as R's prop.test gives them without continuity correction
    assert wilson(5, 10) == pytest.approx((0.236593, 0.763407), abs=1e-5)
    assert wilson(0, 10) == pytest.approx((0.0, 0.277533), abs=1e-5)


def test_rates_get_wilsons_interval_and_other_means_a_repeatable_bootstrap():
    rate = estimate([1.0, 0.0, 1.0, 0.0, None])
    assert (rate.value, rate.count) == (0.5, 4)
    assert (rate.low, rate.high) == pytest.approx(wilson(2, 4))
    values = [0.1, 0.5, 0.9, 0.4] * 10
    mean = estimate(values)
    assert mean == estimate(values)
    assert 0.3 < mean.low < mean.value < mean.high < 0.65


def test_nothing_measured_is_no_estimate():
    assert estimate([None, None]) is None


def test_intervals_that_touch_overlap():
    low = Estimate(0.1, 0.0, 0.2, 10)
    assert low.overlaps(Estimate(0.3, 0.2, 0.4, 10))
    assert not low.overlaps(Estimate(0.5, 0.3, 0.7, 10))


def test_a_column_that_was_not_measured_is_empty():
    record = {
        "subjects": 2,
        "model": {"identity": 1.0},
        "reference_background": None,
        "seconds": {"make": 1.0, "measure": 0.5},
    }
    results = summarise([record], ("identity",), ("model", "ceiling"))
    assert results["subjects"]["2"]["identity"]["ceiling"] is None
    assert results["subjects"]["2"]["identity"]["model"]["value"] == 1.0
    assert results["vae_psnr"] is None
