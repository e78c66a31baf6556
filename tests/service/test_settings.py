"""Settings, keys, models: what a service is told."""

from __future__ import annotations

import pytest

from anyref.errors import ModelError, RequestError, SizeError
from anyref.request import PixelShape, Request, ShapeRules
from anyref.service.access import digest_of, owner_of, read_keys
from anyref.service.catalog import Catalog, nearest_frames
from anyref.service.refusals import Refusal, for_clients
from anyref.service.settings import Limits, ServiceError, Settings, check_exposure
from anyref.service.tables import connect


def test_settings_survive_the_way_to_a_worker_and_the_keys_stay_behind(settings):
    from dataclasses import replace

    again = Settings.from_json(replace(settings, keys={"digest": "ann"}).to_json())
    assert again == settings


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.2", "example.com"])
def test_an_open_door_needs_keys(host):
    with pytest.raises(ServiceError, match="add --keys FILE"):
        check_exposure(host, {})
    check_exposure(host, {"digest": "ann"})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_none(host):
    check_exposure(host, {})


def test_keys_are_read_and_kept_as_digests(tmp_path):
    file = tmp_path / "keys"
    file.write_text("# clients\nann 0123456789abcdef\n\nbob fedcba9876543210 # his\n")
    keys = read_keys(file)
    assert keys == {digest_of("0123456789abcdef"): "ann", digest_of("fedcba9876543210"): "bob"}
    assert owner_of("Bearer fedcba9876543210", keys) == "bob"
    assert owner_of("bearer  fedcba9876543210", keys) == "bob"
    with pytest.raises(Refusal):
        owner_of("Bearer 0123456789abcdeg", keys)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no key"),
        ("ann short", "16 or more characters"),
        ("ann", "is not `name key`"),
        ("a/b 0123456789abcdef", "is not `name key`"),
        ("ann 0123456789abcdef\nann 0123456789abcdeg", "repeats a name or key"),
        ("ann 0123456789abcdef\nbob 0123456789abcdef", "repeats a name or key"),
    ],
)
def test_a_bad_key_file_is_refused(tmp_path, text, words):
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(ServiceError, match=words):
        read_keys(file)


def test_the_number_of_frames_is_the_nearest_that_fits():
    rules = ShapeRules(spatial=8, temporal=4, patch=(1, 2, 2), max_positions=8, lead_frames=4)
    shape = PixelShape(1, 96, 96)
    assert [nearest_frames(rules, shape, wanted) for wanted in (1, 5, 16, 24)] == [1, 5, 17, 25]
    with pytest.raises(SizeError, match="fewer seconds"):
        nearest_frames(rules, shape, 1000)


def test_a_video_over_the_services_limits_is_refused():
    catalog = Catalog(["stub"], Limits(video_pixels=96 * 96 * 10, steps=5))
    with pytest.raises(SizeError, match="156,672 pixels, over this service's 92,160"):
        catalog.plan(Request(prompt="a", num_frames=17))
    with pytest.raises(RequestError, match="num_inference_steps 8 is over this service's 5"):
        catalog.plan(Request(prompt="a"))


def test_models_are_found_when_the_service_starts():
    with pytest.raises(ModelError, match="is not known"):
        Catalog(["nosuch"], Limits())
    with pytest.raises(ServiceError, match="two models are called 'stub'"):
        Catalog(["stub", "stub"], Limits())
    with pytest.raises(ServiceError, match="the stub is served alone"):
        Catalog(["stub", "tiny-magref"], Limits())
    with pytest.raises(ServiceError, match="no model is given"):
        Catalog([], Limits())


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite://", "would be lost"),
        ("nonsense", "cannot be used"),
        ("nosuch://host/name", "cannot be used"),
        ("sqlite:////proc/nosuch/queue.sqlite", "cannot be used"),
    ],
)
def test_a_queue_that_cannot_be_used_is_refused(url, words):
    with pytest.raises(ServiceError, match=words):
        connect(url)


def test_the_command_lines_words_do_not_reach_clients():
    message = "no reference has that name (defined: none); add -r dog=PICTURE or drop the @"
    assert for_clients(message).endswith("add a reference named dog or drop the @")
