"""Faces of a clip: whose they are, how they are turned, and which are worth showing.

Axes: Y X pixels
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from anyref.data.crops import crop_of, sharpness
from anyref.data.thresholds import Section
from anyref.data.tracks import Sighting, Track, TrackSettings, associate
from anyref.perception.contracts import Box, Face, Picture

FaceFault = Literal["face_small", "face_turned", "face_unsure", "face_blurry"]
ALIGNED = 112  # what face recognition looks at; a larger face is no better


class FaceSettings(Section):
    """Which faces become references.

    Args:
        min_score: of the detector; faces of rendered animals get .76 to .87.
        min_side: of the box, pixels. max_yaw: degrees to either side.
        min_sharpness: see `crops.sharpness`.
        margin: around the box, of its sides, in the crop.
        max_overlap: IoU of an object's mask with a face's box from which the object is dropped
            (MAGREF's data pipeline, section 3.3 of the paper).
        required: drop views of people that show no face (Kaleido's filter).
    """

    min_score: float = 0.88
    min_side: int = 40
    max_yaw: float = 45.0
    min_sharpness: float = 15.0
    margin: float = 0.3
    max_overlap: float = 0.25
    required: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class SeenFace:
    """A face in one sampled frame.

    Args:
        track: number of its track among the clip's faces. yaw: degrees, positive when the nose
            points to the right of the picture.
    """

    frame: int
    face: Face
    track: int
    yaw: float
    sharpness: float

    @property
    def side(self) -> float:
        """The shorter side of its box, pixels."""
        return min(self.face.box.width, self.face.box.height)

    @property
    def worth(self) -> float:
        """By which faces are ranked: sure, frontal, and of some size."""
        return (
            self.face.score
            * max(math.cos(math.radians(self.yaw)), 0.0)
            * min(1.0, self.side / ALIGNED)
        )


def seen_faces(
    frames: NDArray[np.uint8], found: Sequence[Sequence[Face]], settings: TrackSettings
) -> list[SeenFace]:
    """All faces of the sampled frames, numbered by track, in order of tracks and frames.

    Args:
        frames: (K, Y, X, 3). found: per frame.
    """
    sightings = [
        [Sighting(frame=k, box=face.box, score=face.score) for face in faces]
        for k, faces in enumerate(found)
    ]
    tracks = associate(sightings, math.hypot(*frames.shape[1:3]), settings)
    return [
        _seen(frames[sighting.frame], sighting, found[sighting.frame], number)
        for number, track in enumerate(tracks)
        for sighting in track.sightings
    ]


def _seen(frame: Picture, sighting: Sighting, faces: Sequence[Face], track: int) -> SeenFace:
    face = next(face for face in faces if face.box is sighting.box)
    return SeenFace(
        frame=sighting.frame,
        face=face,
        track=track,
        yaw=yaw_of(face.landmarks),
        sharpness=sharpness(crop_of(frame, face.box)),
    )


def yaw_of(landmarks: Sequence[tuple[float, float]]) -> float:
    """How far a head is turned, in degrees, from its five points; 0 without them.

    A nose that stands as far before the eyes' line as an eye is from their middle moves by the
    tangent of the angle, in units of half the eyes' distance as seen. (Our geometry, good to some
    ten degrees: enough to tell frontal from profile.)
    """
    if len(landmarks) < 3:
        return 0.0
    left, right, nose = (complex(*point) for point in landmarks[:3])
    half = (right - left) / 2
    if abs(half) < 1e-6:
        return 90.0
    return math.degrees(math.atan(((nose - (left + right) / 2) / half).real))


def face_faults(seen: SeenFace, settings: FaceSettings) -> Iterator[FaceFault]:
    """What is wrong with a face by the limits; nothing for a good one."""
    wrong: dict[FaceFault, bool] = {
        "face_small": seen.side < settings.min_side,
        "face_turned": abs(seen.yaw) > settings.max_yaw,
        "face_unsure": seen.face.score < settings.min_score,
        "face_blurry": seen.sharpness < settings.min_sharpness,
    }
    return (fault for fault, is_wrong in wrong.items() if is_wrong)


def owner_of(seen: SeenFace, tracks: Sequence[Track]) -> int | None:
    """The number of the track that a face belongs to: the tightest box that holds its middle.

    The middle has to lie in the upper two thirds of the box; knees are no faces.
    """
    box = seen.face.box
    x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    holders = []
    for number, track in enumerate(tracks):
        sighting = track.at(seen.frame)
        if sighting is None:
            continue
        around = sighting.box
        if around.left <= x <= around.right and 0 <= (y - around.top) <= 2 / 3 * around.height:
            holders.append((around.area, number))
    return min(holders)[1] if holders else None


def owners_of(faces: Sequence[SeenFace], tracks: Sequence[Track]) -> list[int | None]:
    """For every face the number of its owner: of all that its track touches, the most frequent."""
    votes: dict[int, Counter[int]] = {}
    for seen in faces:
        owner = owner_of(seen, tracks)
        if owner is not None:
            votes.setdefault(seen.track, Counter())[owner] += 1
    owners = {
        number: min(some, key=lambda owner: (-some[owner], owner)) for number, some in votes.items()
    }
    return [owners.get(seen.track) for seen in faces]


def covers_face(pixels: NDArray[np.bool_], box: Box, max_overlap: float) -> bool:
    """Whether a mask (Y, X) and a face's box are one thing, by their IoU."""
    face = np.zeros_like(pixels)
    face[box.pixels(pixels)] = True
    union = int((pixels | face).sum())
    return union > 0 and int((pixels & face).sum()) / union > max_overlap
