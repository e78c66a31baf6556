from __future__ import annotations

import pytest

from anyref.errors import PerceptionError
from anyref.perception import runtimes
from anyref.perception.small import small_grade


def test_a_grade_is_made_without_weights_and_says_what_is_missing_when_used(tmp_path, blank):
    grade = small_grade(tmp_path)
    with pytest.raises(PerceptionError, match=r"'yunet' .*anyref data fetch"):
        grade.faces.detect([blank()])
    with pytest.raises(PerceptionError, match=r"'isnet' .*anyref data fetch"):
        _ = grade.masks.card


def test_a_missing_library_is_named_with_its_extra():
    with pytest.raises(PerceptionError, match=r"'no_such_runtime'.*anyref\[perception\]"):
        runtimes.require("no_such_runtime.interpreter")


def test_opencv_gets_its_threads_back():
    cv2 = pytest.importorskip("cv2")
    before = cv2.getNumThreads()
    with runtimes.opencv(1) as library:
        assert library.getNumThreads() == 1
    assert cv2.getNumThreads() == before
