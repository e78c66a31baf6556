"""The stage with the small grade's real models on photographs."""

from __future__ import annotations

import io
from functools import partial

import numpy as np
import pytest
from PIL import Image

from anyref.data.masks import decode
from anyref.data.record import Video
from anyref.data.sources import Source
from anyref.data.stages import Item
from anyref.data.subjects import SubjectFinder, SubjectSettings
from anyref.lab import sources as lab_sources
from anyref.perception import sources
from anyref.perception.small import small_grade

NEEDED = ("yunet", "dlib-face", "efficientnet-lite0", "ssd-mobilenet-v2", "isnet")


@pytest.fixture
def panned():
    """A function that looks along one of scikit-image's photographs, to the right, or skips."""
    folder = lab_sources.package_folder(lab_sources.SKIMAGE, lab_sources.default_cache())
    missing = [name for name in NEEDED if not sources.is_fetched(name)]

    def look(name):
        path = folder / "skimage/data" / f"{name}.png"
        if missing or not path.is_file():
            pytest.skip(f"not fetched: {', '.join(missing) or 'the lab pictures'}")
        picture = np.asarray(Image.open(path).convert("RGB"))
        width = picture.shape[1] - 60
        return np.stack([picture[:, 20 * k : 20 * k + width] for k in range(4)])

    return look


def find(frames, **crops):
    count, height, width, _ = frames.shape
    video = Video(end=count, fps=4, num_frames=count, width=width, height=height)
    payload = {"frames": frames, "frame_numbers": tuple(range(count)), "video": video}
    settings = SubjectSettings.model_validate({"views": {"views": 1, "masks": 1}, "crops": crops})
    finder = SubjectFinder(settings, partial(small_grade, None))
    return finder(Item(id="clip", source=Source.of("film.mp4"), payload=payload))


@pytest.mark.slow
def test_the_astronaut_is_a_person_with_a_face(panned):
    made = find(panned("astronaut"))
    people = [r for r in made.record.references if r.kind == "human"]
    faces = [r for r in made.record.references if r.kind == "face"]
    assert {r.label for r in people} == {"person"}
    assert {r.entity_id for r in people} == {r.entity_id for r in faces}
    assert abs(people[0].scores.face.yaw) < 30
    mask = decode(people[0].mask)
    shift = 20 * people[0].origin.frame
    assert mask[150, 220 - shift]  # her face
    assert not mask[5, 5]
    features = np.load(io.BytesIO(made.payload["face-features"].data))
    assert features.shape == (len(made.record.references), 128)
    assert "person" in made.record.captions[0].text


@pytest.mark.slow
def test_the_cat_is_called_a_cat_by_a_model_that_is_named(panned):
    made = find(panned("chelsea"), max_area=1.0, max_cut=1.0, max_unsure=1.0)  # fills it
    labels = {(r.label, r.foreign["anyref"]["label_by"]) for r in made.record.references[:1]}
    assert labels == {("cat", "ssd-mobilenet-v2/coco-2018-03-29")}
