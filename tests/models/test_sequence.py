"""A sequence in parts that need not be equal."""

from __future__ import annotations

import pytest
import torch

from anyref.models.sequence import WHOLE, SequencePlace


@pytest.mark.parametrize("total", [12, 13, 14, 3])
def test_parts_follow_each_other_and_begin_where_they_say(total):
    x = torch.arange(total)[None, :, None]
    places = [SequencePlace(rank, 3) for rank in range(3)]
    parts = [place.own(x) for place in places]
    assert torch.equal(torch.cat(parts, dim=1), x)
    assert [int(part[0, 0, 0]) for part in parts] == [place.first(total) for place in places]


def test_a_whole_sequence_is_its_own_part():
    x = torch.arange(5)[None]
    assert torch.equal(WHOLE.own(x), x)
    assert WHOLE.whole(x, 5) is x
    assert WHOLE.total(5, x.device) == 5
