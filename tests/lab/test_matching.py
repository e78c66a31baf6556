from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

pytest.importorskip("cv2")

from anyref.errors import LabError
from anyref.lab.matching import (
    best_match,
    displacement,
    make_strip,
    make_templates,
    nearest_way,
)

BOX = 24  # pixels of the frame, which is then matched at its own size


def disc(shade=(200, 40, 40), side=24):
    """A disc with a dark half: something inside, and an outline."""
    picture = Image.new("RGBA", (side, side))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((0, 0, side - 1, side - 1), fill=(*shade, 255))
    draw.pieslice((0, 0, side - 1, side - 1), 90, 180, fill=(20, 20, 60, 255))
    return picture


def frames(*corners, picture=None, background=120):
    video = []
    for corner in corners:
        frame = Image.new("RGB", (48, 48), (background,) * 3)
        if corner is not None:
            picture = picture or disc()
            frame.paste(picture, corner, picture)
        video.append(np.asarray(frame))
    return np.stack(video)


def match(video, picture=None, rows=None, **options):
    return best_match(make_strip(video, BOX, rows), make_templates([picture or disc()], **options))


def test_a_cutout_is_found_where_it_was_pasted():
    found = match(frames((3, 10), (20, 24)))
    assert np.allclose(found.centres, [(15, 22), (32, 36)], atol=1)
    assert found.scores.min() > 0.9


def test_larger_frames_are_measured_in_their_own_pixels():
    video = frames((3, 10)).repeat(2, axis=1).repeat(2, axis=2)
    found = best_match(make_strip(video, 2 * BOX), make_templates([disc()]))
    assert np.allclose(found.centres, [(30, 44)], atol=2)


def test_light_is_free_but_a_negative_is_another_thing():
    video = frames((3, 10))
    assert match((video * 0.6 + 30).astype(np.uint8)).score > 0.85
    assert match(255 - video).score < 0.5


def test_a_smooth_cutout_is_not_seen_in_a_smooth_sky():
    ramp = np.linspace(80, 160, 48).astype(np.uint8)
    sky = np.broadcast_to(ramp[None, :, None, None], (1, 48, 48, 3))
    shaded = Image.fromarray(np.ascontiguousarray(sky[0, :24, :24])).convert("RGBA")
    shaded.putalpha(disc().getchannel("A"))
    pasted = frames((10, 10), picture=shaded, background=30)
    assert match(pasted, shaded).score > 0.9
    assert match(np.ascontiguousarray(sky), shaded).score < 0.5


def test_nothing_is_found_across_the_seam_of_two_frames():
    whole = np.concatenate(frames((12, 36 - 24), None))
    moved = np.roll(whole, 24, axis=0).reshape(2, 48, 48, 3)  # half in each frame
    assert match(moved, scales=(1.0,)).score < match(frames((12, 12), (12, 12))).score - 0.3


def test_a_lane_hides_what_is_elsewhere():
    video = frames((10, 0))
    assert match(video, rows=(0, 24)).score > 0.9
    assert match(video, rows=(24, 48)).score < 0.5


def test_the_view_that_is_shown_is_told():
    views = [disc(), disc().rotate(90)]
    video = frames((3, 10), picture=views[1])
    assert best_match(make_strip(video, BOX), make_templates(views)).views[0] == 1


def test_views_that_cannot_be_matched_are_refused():
    with pytest.raises(LabError, match="no visible pixel"):
        make_templates([Image.new("RGBA", (10, 10))])
    with pytest.raises(LabError, match="templates fits into a frame"):
        match(frames((0, 0))[:, :8, :8], scales=(1.0,))


def test_displacement_survives_a_lost_frame():
    times = np.linspace(0, 1, 9)
    centres = np.stack([48 * times, np.full(9, 20.0)], 1)
    centres[4] = 0, 47
    assert displacement(centres, times) == pytest.approx((48, 0))


def test_the_nearest_way_is_chosen():
    ways = {"right": (48.0, 0.0), "stay": (0.0, 0.0), "up": (0.0, -48.0)}
    assert nearest_way((30, 5), ways) == "right"
    assert nearest_way((10, -4), ways) == "stay"
