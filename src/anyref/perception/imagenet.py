"""Plain words for groups of ImageNet's 1000 classes.

A small classifier confuses breeds, not kinds: the probability of a group is the sum of its classes.
Places are those of the usual order (Russakovsky et al. 2015, sorted by WordNet number). Only groups
that a person would name in a caption are listed; other classes have no word.

Axes: N pictures, C classes, G groups
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# word: first and last class of each run of classes
GROUPS: dict[str, tuple[tuple[int, int], ...]] = {
    "fish": ((0, 6), (389, 397)),
    "bird": ((7, 24), (80, 100), (127, 146)),
    "frog": ((30, 32),),
    "turtle": ((33, 37),),
    "lizard": ((25, 29), (38, 48)),
    "crocodile": ((49, 50),),
    "snake": ((52, 68),),
    "spider": ((70, 70), (72, 77)),
    "elephant": ((101, 101), (385, 386)),
    "kangaroo": ((104, 104),),
    "koala": ((105, 105),),
    "jellyfish": ((107, 107),),
    "snail": ((113, 114),),
    "crab": ((118, 121), (125, 125)),
    "lobster": ((122, 124),),
    "whale": ((147, 148),),
    "sea lion": ((149, 150),),
    "dog": ((151, 268), (273, 275)),
    "wolf": ((269, 272),),
    "fox": ((277, 280),),
    "cat": ((281, 285),),
    "leopard": ((287, 290), (293, 293)),
    "lion": ((286, 286), (291, 291)),
    "tiger": ((292, 292),),
    "bear": ((294, 297),),
    "beetle": ((300, 307),),
    "insect": ((308, 318),),
    "dragonfly": ((319, 320),),
    "butterfly": ((321, 326),),
    "starfish": ((327, 327),),
    "rabbit": ((330, 332),),
    "hamster": ((333, 333), (338, 338)),
    "squirrel": ((335, 336),),
    "beaver": ((337, 337),),
    "horse": ((339, 339),),
    "zebra": ((340, 340),),
    "pig": ((341, 343),),
    "hippopotamus": ((344, 344),),
    "cow": ((345, 347),),
    "sheep": ((348, 349),),
    "goat": ((350, 350),),
    "antelope": ((351, 353),),
    "camel": ((354, 354),),
    "llama": ((355, 355),),
    "weasel": ((356, 360),),
    "badger": ((361, 362),),
    "sloth": ((364, 364),),
    "ape": ((365, 368),),
    "monkey": ((369, 384),),
    "panda": ((387, 388),),
}
WORDS = tuple(GROUPS)


def group_probabilities(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities (N, C) of the 1000 classes as those of `WORDS`: (N, G)."""
    columns = [
        sum(probabilities[:, first : last + 1].sum(1) for first, last in runs)
        for runs in GROUPS.values()
    ]
    return np.stack(columns, axis=1).astype(np.float32)
