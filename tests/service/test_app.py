"""The HTTP interface, without workers of its own."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from anyref.request import Reference, Request
from anyref.service.access import digest_of
from anyref.service.app import make_app, open_service
from anyref.service.orders import PLAIN_FIELDS
from anyref.service.schemas import ReferenceIn, VideoCreate
from anyref.service.settings import Settings

BASE = "/v1/videos"


@pytest.fixture
def service(settings):
    service = open_service(settings)
    yield service
    service.queue._engine.dispose()


@pytest.fixture
def client(service):
    with TestClient(make_app(service), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def refuser(tmp_path_factory):
    """A client of a service that keeps nothing, for all requests that are refused."""
    folder = tmp_path_factory.mktemp("refuser")
    database = f"sqlite:///{folder / 'queue.sqlite'}"
    settings = Settings(
        database=database, store=str(folder), models=("stub",), hosts=("testserver",)
    )
    service = open_service(settings)
    with TestClient(make_app(service)) as client:
        yield client
    service.queue._engine.dispose()


@pytest.fixture
def create(client):
    def create(prompt="a fox", **fields):
        return client.post(BASE, json={"prompt": prompt, **fields})

    return create


@pytest.fixture
def finish(queue, worker):
    """Lets the worker do everything that waits."""

    def finish():
        while (job := queue.claim("worker-1", ["stub"])) is not None:
            worker.work(job)

    return finish


def uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def error_of(answer, status):
    assert answer.status_code == status, answer.text
    return answer.json()["error"]["message"]


def test_a_video_is_created_made_and_downloaded(client, create, finish):
    video = create(size="128x96", seconds="2", seed=5).json()
    assert (video["status"], video["queue_position"], video["seed"]) == ("queued", 1, 5)
    assert (video["size"], video["seconds"], video["num_frames"]) == ("128x96", "2.125", 17)
    early = error_of(client.get(f"{BASE}/{video['id']}/content"), 409)
    assert early == "the video is queued at 0 %; ask again when it is completed"
    finish()
    done = client.get(f"{BASE}/{video['id']}").json()
    assert (done["status"], done["progress"], done["queue_position"]) == ("completed", 100, None)
    content = client.get(f"{BASE}/{video['id']}/content")
    assert (content.headers["content-type"], content.content[4:8]) == ("video/mp4", b"ftyp")
    thumbnail = client.get(f"{BASE}/{video['id']}/content?variant=thumbnail")
    assert thumbnail.content[:2] == b"\xff\xd8"


def test_json_carries_named_references_with_masks(client, create, pictures):
    png = pictures.png()
    answer = create(
        "@fox on @beach",
        references=[
            {"name": "fox", "images": [uri(png)], "mask": uri(png), "text": "a red fox"},
            {"name": "beach", "kind": "background", "images": [uri(pictures.jpeg())]},
        ],
        input_reference={"image_url": uri(png)},
    )
    video = answer.json()
    assert [r["name"] for r in video["references"]] == [None, "fox", "beach"]
    assert video["references"][1] == {
        "name": "fox",
        "kind": "object",
        "text": "a red fox",
        "strength": 1.0,
        "images": [1],
        "mask": 2,
    }
    picture = client.get(f"{BASE}/{video['id']}/references/3")
    assert (picture.headers["content-type"], picture.content[:4]) == ("image/png", b"\x89PNG")
    assert error_of(client.get(f"{BASE}/{video['id']}/references/9"), 404)


def test_a_form_carries_files_that_references_name(client, pictures):
    references = [{"name": "fox", "images": ["front", "side"]}]
    answer = client.post(
        BASE,
        data={"prompt": "@fox runs", "references": json.dumps(references), "seed": "3"},
        files={"front": ("../../x.png", pictures.png()), "side": ("y", pictures.jpeg())},
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["references"][0]["images"] == [0, 1]


@pytest.mark.parametrize("field", ["input_reference", "input_references", "input_references[]"])
def test_a_form_carries_unnamed_references(client, pictures, field):
    answer = client.post(BASE, data={"prompt": "a fox"}, files=[(field, pictures.png())])
    assert [r["name"] for r in answer.json()["references"]] == [None]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt": ""}, "prompt: String should have at least 1 character"),
        ({"prompt": " "}, "the prompt is empty"),
        ({"prompt": "@dog"}, "add a reference named dog or drop the @"),
        ({"size": "97x96"}, "width 97 is not a multiple of 16; try 96"),
        ({"size": "99999x16"}, "not a multiple of 16"),
        ({"seconds": "9999"}, "over what the model makes"),
        ({"seconds": "1", "num_frames": 9}, "both given"),
        ({"num_frames": 8}, "try 9"),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0"),
        ({"seed": "1"}, "seed: Input should be a valid integer"),
        ({"model": "sora-2"}, "is not served here; use one of stub"),
        ({"model": "/etc/passwd"}, "is not served here"),
        ({"quality": "hd"}, "'quality' is no field of this request"),
        ({"num_inference_steps": 500}, "over this service's 200"),
        ({"input_reference": "https://example.com/x.png"}, "addresses are not fetched"),
        ({"input_reference": "/etc/passwd"}, "no inline picture"),
        ({"input_reference": "data:image/png;base64,AAA"}, "not valid base64"),
        ({"input_reference": uri(b"<svg/>")}, "an SVG drawing"),
        ({"input_reference": uri(b"GIF89a")}, "a GIF"),
        ({"input_reference": uri(b"\0\0\0\x20ftypisom")}, "a video"),
        ({"references": [{"images": []}]}, "references.0.images"),
    ],
)
def test_what_is_wrong_is_said_with_the_remedy(refuser, fields, words):
    message = error_of(refuser.post(BASE, json={"prompt": "a fox", **fields}), 400)
    assert words in message
    assert refuser.get("/healthz").json()["queued"] == 0


def test_bodies_that_are_no_request_are_refused(client):
    assert "not JSON" in error_of(
        client.post(BASE, content=b"{", headers={"content-type": "application/json"}), 400
    )
    deep = b"[" * 100_000 + b"]" * 100_000
    error_of(client.post(BASE, content=deep, headers={"content-type": "application/json"}), 400)
    assert "is not read" in error_of(client.post(BASE, content=b"x"), 415)
    error_of(client.post(BASE, headers={"content-type": "multipart/form-data"}), 400)
    form = {"content-type": "multipart/form-data; boundary=x"}
    error_of(client.post(BASE, content=b"garbage", headers=form), 400)


def test_a_file_that_no_reference_uses_and_a_name_without_a_file_are_refused(client, pictures):
    answer = client.post(BASE, data={"prompt": "a fox"}, files={"fox": pictures.png()})
    assert "file part 'fox' is used by no reference" in error_of(answer, 400)
    references = json.dumps([{"name": "fox", "images": ["cat"]}])
    answer = client.post(
        BASE, data={"prompt": "@fox", "references": references}, files={"fox": pictures.png()}
    )
    assert "names the file part 'cat', which the form does not have (it has: fox)" in error_of(
        answer, 400
    )


def test_a_repeat_makes_no_second_video(client, queue):
    def post(prompt="a fox"):
        return client.post(BASE, json={"prompt": prompt}, headers={"Idempotency-Key": "k1"})

    first, again = post().json(), post().json()
    assert first["id"] == again["id"]
    assert "another request" in error_of(post("a cat"), 409)
    assert queue.counts()["queued"] == 1


def test_a_full_queue_says_so_and_keeps_no_picture(client, create, pictures, service):
    for _ in range(5):
        create()
    answer = create(input_reference=uri(pictures.png()))
    assert "you have 5 videos waiting or running, at most 5 are taken" in error_of(answer, 429)
    assert answer.headers["retry-after"] == "5"
    assert list(service.store.names()) == []


def test_a_full_disk_accepts_nothing_and_says_so(create, pictures, service, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "/secret/store")

    monkeypatch.setattr(service.store, "place", full)
    answer = create(input_reference=uri(pictures.png()))
    assert error_of(answer, 503) == (
        "the service has no room left to keep a request; nothing was accepted, try later"
    )
    assert service.queue.counts()["queued"] == 0


def test_ranges_of_a_video_are_sent(client, create, finish):
    address = f"{BASE}/{create().json()['id']}/content"
    finish()
    whole = client.get(address)
    size, tag = len(whole.content), whole.headers["etag"]
    part = client.get(address, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{size}"
    last = client.get(address, headers={"Range": "bytes=-5"})
    assert last.content == whole.content[-5:]
    rest = client.get(address, headers={"Range": f"bytes={size - 3}-", "If-Range": tag})
    assert rest.content == whole.content[-3:]
    other = client.get(address, headers={"Range": "bytes=0-1", "If-Range": '"other"'})
    assert other.content == whole.content
    beyond = client.get(address, headers={"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    head = client.head(address)
    assert (head.headers["content-length"], head.content) == (str(size), b"")


def test_lists_are_pages_and_deleting_removes_every_file(client, create, finish, service, pictures):
    ids = [create(input_reference=uri(pictures.png())).json()["id"] for _ in range(3)]
    assert "cancel it first" in error_of(client.delete(f"{BASE}/{ids[0]}"), 409)
    finish()
    page = client.get(BASE, params={"limit": 2}).json()
    assert ([v["id"] for v in page["data"]], page["has_more"]) == (ids[:0:-1], True)
    assert (page["first_id"], page["last_id"]) == (ids[2], ids[1])
    rest = client.get(BASE, params={"limit": 2, "after": page["last_id"]}).json()
    assert ([v["id"] for v in rest["data"]], rest["has_more"]) == (ids[:1], False)
    assert client.delete(f"{BASE}/{ids[0]}").json() == {
        "id": ids[0],
        "object": "video.deleted",
        "deleted": True,
    }
    error_of(client.get(f"{BASE}/{ids[0]}"), 404)
    assert not [name for name in service.store.names() if ids[0] in name]
    error_of(client.get(BASE, params={"after": "nonsense"}), 400)
    error_of(client.get(BASE, params={"limit": 0}), 400)


def test_cancelling_a_waiting_video(client, create):
    video = create().json()
    assert client.post(f"{BASE}/{video['id']}/cancel").json()["status"] == "cancelled"
    assert error_of(client.get(f"{BASE}/{video['id']}/content"), 409) == "the video was cancelled"


def test_validation_says_what_would_be_made_or_why_not(client, queue):
    def validate(**fields):
        return client.post("/v1/requests/validate", json={"prompt": "a fox", **fields}).json()

    assert validate(seconds="2")["num_frames"] == 17
    wrong = validate(size="97x96")
    assert (wrong["valid"], "try 96" in wrong["error"]["message"]) == (False, True)
    assert queue.counts()["queued"] == 0


def test_events_tell_progress_until_the_end(client, create, finish):
    video = create().json()
    finish()
    with client.stream("GET", f"{BASE}/{video['id']}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        text = "".join(stream.iter_text())
    kind, data = text.strip().split("\n")
    assert kind == "event: completed"
    assert json.loads(data.removeprefix("data: "))["progress"] == 100


def test_clients_with_keys_see_only_their_own(settings, queue):
    keys = {digest_of("a" * 20): "ann", digest_of("b" * 20): "bob"}
    service = open_service(replace(settings, keys=keys))
    with TestClient(make_app(service)) as client:
        ann, bob = ({"Authorization": f"Bearer {key * 20}"} for key in "ab")
        for wrong in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic " + "a" * 20}):
            answer = client.get(BASE, headers=wrong)
            assert "Authorization: Bearer KEY" in error_of(answer, 401)
            assert answer.headers["www-authenticate"] == "Bearer"
        video = client.post(BASE, json={"prompt": "a fox"}, headers=ann).json()
        address = f"{BASE}/{video['id']}"
        assert client.get(address, headers=ann).status_code == 200
        for method, path in (
            ("GET", ""),
            ("GET", "/content"),
            ("GET", "/events"),
            ("DELETE", ""),
            ("POST", "/cancel"),
            ("GET", "/references/0"),
        ):
            error_of(client.request(method, address + path, headers=bob), 404)
        assert client.get(BASE, headers=bob).json()["data"] == []
        assert client.get("/healthz").status_code == 200
        assert client.get("/metrics").status_code == 401
    service.queue._engine.dispose()


def test_answers_are_private_to_the_machine_and_its_pages(client, create):
    answer = create()
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "access-control-allow-origin" not in answer.headers
    evil = {"Origin": "https://evil.example"}
    message = error_of(client.post(BASE, json={"prompt": "a fox"}, headers=evil), 403)
    assert "other sites" in message
    own = {"Origin": "http://testserver"}
    assert client.post(BASE, json={"prompt": "a fox"}, headers=own).status_code == 200
    rebound = client.get(BASE, headers={"Host": "evil.example"})
    assert "own names only" in error_of(rebound, 403)


def test_a_failure_inside_tells_nothing(client, service, monkeypatch):
    def broken(*_):
        raise RuntimeError("/secret/place")

    monkeypatch.setattr(service.queue, "page", broken)
    answer = client.get(BASE)
    assert error_of(answer, 500) == "the service failed; its log says more"


def test_health_and_metrics_count(client, create, finish):
    create()
    assert client.get("/healthz").json() == {
        "status": "ok",
        "workers": 0,
        "queued": 1,
        "running": 0,
    }
    finish()
    text = client.get("/metrics").text
    assert 'anyref_jobs{state="completed"} 1.0' in text
    assert 'anyref_http_requests_total{method="POST",path="/v1/videos",status="200"} 1.0' in text


def test_every_field_of_a_request_can_be_sent():
    sizes = {"height", "width"}  # they are `size` here
    assert set(Request.model_fields) - sizes <= set(VideoCreate.model_fields)
    assert set(PLAIN_FIELDS) <= set(Request.model_fields)
    assert set(Reference.model_fields) == set(ReferenceIn.model_fields)


def test_a_method_that_an_address_lacks_is_answered_with_those_it_has(client):
    answer = client.put(f"{BASE}/video_{'0' * 32}")
    assert error_of(answer, 405) == "this address has no such method"
    assert answer.headers["allow"] == "DELETE, GET"


def test_the_description_names_every_address_and_both_bodies(client):
    schema = client.get("/openapi.json").json()
    create = schema["paths"]["/v1/videos"]["post"]
    assert set(create["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    assert "422" not in json.dumps(schema)
    assert len(schema["paths"]) == 13


def test_an_ended_video_says_how_long_it_is_kept(settings, queue, worker):
    service = open_service(replace(settings, times=replace(settings.times, keep=3600.0)))
    with TestClient(make_app(service)) as client:
        video = client.post(BASE, json={"prompt": "a fox"}).json()
        assert video["expires_at"] is None
        worker.work(queue.claim("worker-1", ["stub"]))
        done = client.get(f"{BASE}/{video['id']}").json()
        assert done["expires_at"] - done["completed_at"] == 3600
    service.queue._engine.dispose()
