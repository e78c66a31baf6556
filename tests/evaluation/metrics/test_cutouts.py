from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
from metric_world import case_of, figure, place, plain, portrait

from anyref.evaluation.metrics.cutouts import cut_references, layout, mirrored_too
from anyref.request import Reference


def test_references_are_cut_out_of_white_and_of_places(models):
    thing = figure(2)
    case = case_of(portrait(thing), portrait(thing, place(1)), (portrait(thing), "background"))
    on_white, on_place = cut_references(case, models)
    for wanted, scenery in ((on_white, False), (on_place, True)):
        (cutout,) = wanted.cutouts
        true = np.zeros(cutout.pixels.shape, bool)
        true[8:56, 8:56] = thing[1]
        assert (cutout.pixels & true).sum() / (cutout.pixels | true).sum() > 0.95
        assert cutout.has_scenery == scenery
    assert on_white.cutouts[0].features[0] @ on_place.cutouts[0].features[0] > 0.98


def test_a_reference_is_cut_out_by_its_own_mask(models):
    mask = np.zeros((64, 64), np.uint8)
    mask[:20, :20] = 255
    case = case_of(portrait(figure(2)))
    masked = Reference(images=portrait(figure(2)), mask=PIL.Image.fromarray(mask))
    request = case.request.model_copy(update={"references": (masked,)})
    (wanted,) = cut_references(type(case)(id="1", request=request), models)
    assert wanted.cutouts[0].pixels.sum() == 400


def test_an_empty_picture_is_its_own_subject(models):
    case = case_of(portrait((plain(255, (48, 48)), np.ones((48, 48), bool))))
    (wanted,) = cut_references(case, models)
    assert wanted.cutouts[0].pixels.all()


def test_a_layout_tells_where_light_and_colours_are_and_a_mirror_image_is_known():
    left = plain(60, (48, 48))
    left[:, :24] = 220
    everything = np.ones((48, 48), bool)
    own, other = layout(left, everything), layout(left[:, ::-1], everything)
    assert own @ own > 0.95
    assert own @ other < -0.5
    brighter = layout((0.7 * left + 40).astype(np.uint8), everything)
    assert own @ brighter > 0.95
    feature = np.concatenate([np.full(4, 0.25, np.float32), own])
    both = mirrored_too(left, everything, feature)
    assert both[0] @ feature == pytest.approx(feature @ feature)
    assert both[1][4:] @ other > 0.95


def test_a_plain_subject_has_no_layout():
    flat = layout(plain(90), np.ones((96, 160), bool))
    assert np.abs(flat).max() < 1e-3
