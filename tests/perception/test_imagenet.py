from __future__ import annotations

import numpy as np

from anyref.perception.imagenet import GROUPS, WORDS, group_probabilities


def test_no_class_has_two_words():
    runs = [run for some in GROUPS.values() for run in some]
    classes = [number for first, last in runs for number in range(first, last + 1)]
    assert len(classes) == len(set(classes))
    assert (min(classes), max(classes)) == (0, 397)  # the animals


def test_the_probability_of_a_word_is_that_of_all_its_classes():
    probabilities = np.zeros((2, 1000), np.float32)
    probabilities[0, [281, 285, 151]] = 0.25
    probabilities[1, 900] = 1
    first, second = group_probabilities(probabilities)
    assert first[WORDS.index("cat")] == 0.5
    assert first[WORDS.index("dog")] == 0.25
    assert second.sum() == 0
