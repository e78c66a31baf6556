from __future__ import annotations

import re

import numpy as np
import pytest

from anyref.data.histograms import WIDTH, histogram
from anyref.data.thresholds import Rule


def bars(drawn, kind):
    return re.findall(rf'<rect [^>]*class="{kind}"/>', drawn)


def test_bars_beyond_a_limit_are_marked_as_failing():
    numbers = np.linspace(0, 10, 1001)
    drawn = histogram("x", numbers, (Rule(measurement="x", at_least=5.0),))
    assert len(bars(drawn, "bar out")) == len(bars(drawn, "bar")) == 20
    (place,) = re.findall(r'<line x1="([\d.]+)"', drawn)
    assert float(place) == pytest.approx(WIDTH / 2, rel=0.02)
    assert "500 under 5" in drawn


def test_a_limit_outside_the_numbers_is_still_drawn():
    drawn = histogram("x", np.array([1.0, 2.0]), (Rule(measurement="x", at_most=40.0),))
    assert float(re.findall(r'<line x1="([\d.]+)"', drawn)[0]) == WIDTH
    assert not bars(drawn, "bar out")


def test_one_number_alone_and_extremes_can_be_drawn():
    assert len(bars(histogram("x", np.array([3.0]), ()), "bar")) == 1
    wild = np.concatenate([np.linspace(0, 1, 1000), [1e300]])
    drawn = histogram("x", wild, ())
    assert len(bars(drawn, "bar")) > 30 and "nan" not in drawn and "inf" not in drawn


def test_a_hostile_name_is_text():
    assert "<script" not in histogram("<script>", np.array([1.0]), ())
