from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from anyref.data.crops import CropSettings, measure
from anyref.data.soundness import SoundnessSettings, covered, stable
from anyref.data.views import View
from hares import BODY, COUNT, HEIGHT, WIDTH, hops, mask_of, meadow, walk

SETTINGS = SoundnessSettings()


def view(frame, ear=True):
    pixels = mask_of(frame, ear)
    picture = walk([meadow()] * COUNT)[frame]
    return View(
        frame=frame,
        pixels=pixels,
        measures=measure(picture, pixels.astype(np.float32), pixels, None),
        score=None,
    )


def test_a_view_without_an_ear_is_dropped():
    dropped = Counter()
    views = [[view(2), view(4), view(6, ear=False)]]
    kept = covered(walk([meadow()] * COUNT), views, SETTINGS, dropped)
    assert [one.frame for one in kept[0]] == [2, 4]
    assert dropped == {"uncovered": 1}


def test_a_subject_that_mostly_lacks_something_is_dropped_whole():
    dropped = Counter()
    views = [[view(2, ear=False), view(4), view(6, ear=False)]]
    assert covered(walk([meadow()] * COUNT), views, SETTINGS, dropped) == [[]]
    assert dropped == {"uncovered": 3}


@pytest.mark.parametrize(("known", "kept"), [(True, 0), (False, 1)])
def test_views_of_an_unknown_camera_are_dropped_if_so_wished(known, kept):
    frames = walk([meadow(seed) for seed in range(COUNT)])
    settings = SoundnessSettings(known_motion=known)
    assert len(covered(frames, [[view(3)]], settings, Counter())[0]) == kept


class SecondLook:
    """Says of a picture, by its size, what it was told to."""

    def __init__(self, masks):
        self.masks, self.sizes = masks, []

    def segment(self, pictures, boxes=None):
        self.sizes += [picture.shape[:2] for picture in pictures]
        return [self.masks(picture) for picture in pictures]


def red(picture):
    return ((picture[..., 0] > 150) & (picture[..., 1] < 80)).astype(np.float32)


def body_alone(picture):
    mask = red(picture)
    rows = np.flatnonzero(mask.any(1))
    mask[: rows[0] + len(rows) // 2] = 0
    return mask


def kept_of(segmenter, views, settings=SETTINGS):
    dropped = Counter()
    softs = {one.frame: one.pixels.astype(np.float32) for one in views}
    frames = walk([meadow()] * COUNT)
    (kept,) = stable(frames, [views], softs, segmenter, settings, dropped)
    return len(kept), dropped["unstable"]


def test_a_mask_that_is_seen_again_from_afar_is_kept():
    look = SecondLook(red)
    assert kept_of(look, [view(2), view(4)]) == (2, 0)
    afar = (HEIGHT + 2 * round(HEIGHT / 3), WIDTH + 2 * round(WIDTH / 3))
    assert look.sizes[1::2] == [afar] * 2


def test_a_mask_that_half_vanishes_from_afar_is_dropped():
    assert kept_of(SecondLook(body_alone), [view(2)]) == (0, 1)


def test_a_mask_that_grows_is_dropped_unless_what_it_grows_by_is_another_subject():
    half = view(2)
    top = half.pixels.copy()
    top[90:] = False
    head = View(frame=2, pixels=top, measures=half.measures, score=None)
    assert kept_of(SecondLook(red), [head]) == (0, 1)
    rest = View(frame=2, pixels=half.pixels & ~top, measures=half.measures, score=None)
    dropped = Counter()
    softs = {2: half.pixels.astype(np.float32)}
    views = [[head], [rest]]
    kept = stable(walk([meadow()] * COUNT), views, softs, SecondLook(red), SETTINGS, dropped)
    assert [len(some) for some in kept] == [1, 1]


def test_a_small_subject_is_looked_at_larger():
    frames = np.full((1, 300, 400, 3), 90, np.uint8)
    frames[0, 100:130, 200:230] = (200, 40, 40)
    pixels = red(frames[0]) > 0
    small = View(
        frame=0,
        pixels=pixels,
        measures=measure(frames[0], pixels.astype(np.float32), pixels, None),
        score=None,
    )
    assert small.measures.area < CropSettings().max_area
    look = SecondLook(red)
    softs = {0: pixels.astype(np.float32)}
    (kept,) = stable(frames, [[small]], softs, look, SETTINGS, Counter())
    assert kept == [small]
    assert look.sizes[1] == (90, 90)


def test_a_closer_look_that_finds_an_ear_drops_the_view():
    bare = view(2, ear=False)
    dropped = Counter()
    softs = {2: bare.pixels.astype(np.float32)}
    frames = walk([meadow()] * COUNT)
    look = SecondLook(lambda picture: red(picture) * (picture.shape[0] < HEIGHT / 2))
    settings = SoundnessSettings(max_unstable=1)
    assert stable(frames, [[bare]], softs, look, settings, dropped) == [[]]
    lax = SoundnessSettings(max_unstable=1, max_added=0.2)
    assert stable(frames, [[bare]], softs, look, lax, dropped) == [[bare]]
    top = hops(2)[0]
    rows = round(top + 0.5 * BODY[0]) - round(top - 0.35 * BODY[0])
    assert look.sizes[0][0] == pytest.approx(rows, abs=1)


def test_a_view_lacks_what_another_view_has_there():
    sits = np.repeat(walk([meadow()] * COUNT)[3:4], COUNT, axis=0)
    dropped = Counter()
    views = [[view(3), replace(view(3, ear=False), frame=4)]]
    kept = covered(sits, views, SETTINGS, dropped)
    assert [one.frame for one in kept[0]] == [3]
    assert dropped == {"disagreement": 1}


def test_without_a_second_look_the_segmenter_is_not_asked():
    look = SecondLook(body_alone)
    assert kept_of(look, [view(2)], SoundnessSettings(looks=False)) == (1, 0)
    assert not look.sizes


def test_what_was_cut_out_by_a_box_is_cut_out_by_a_larger_one():
    asked = []

    class ByBox:
        def __init__(self, mask):
            self.mask = mask

        def segment(self, pictures, boxes=None):
            asked.append(boxes[0])
            return [self.mask]

    boxed = replace(view(2), by_box=True)
    frames = walk([meadow()] * COUNT)
    same, half = boxed.pixels.astype(np.float32), body_alone(frames[2])
    for mask, kept in ((same, [[boxed]]), (half, [[]])):
        assert stable(frames, [[boxed]], {}, ByBox(mask), SETTINGS, Counter()) == kept
    top, left = hops(2)
    assert asked[0].left < left - 0.3 * BODY[1] and asked[0].bottom > top + 1.2 * BODY[0]
