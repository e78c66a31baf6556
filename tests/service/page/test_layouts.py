"""What the page shows as the model's view is what the pipelines make of the same request."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from anyref.pipelines.loading import load_pipeline
from anyref.request import PixelShape, Reference
from anyref.service.app import make_app, open_service
from anyref.service.settings import Settings

ADDRESS = "/v1/requests/layout"
BOXES = [[0.0, 0.1, 0.5, 0.9], [0.4, 0.2, 1.0, 0.7]]


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layouts")
    settings = Settings(
        database=f"sqlite:///{folder / 'queue.sqlite'}",
        store=str(folder),
        models=("tiny-magref", "tiny-kaleido"),
        hosts=("testserver",),
    )
    service = open_service(settings)
    with TestClient(make_app(service)) as client:
        yield client
    service.queue._engine.dispose()


def pictures() -> list[Image.Image]:
    random = np.random.default_rng(0)
    sizes = ((60, 40), (33, 70))
    return [
        Image.fromarray(random.integers(0, 255, (height, width, 3), dtype=np.uint8))
        for width, height in sizes
    ]


def mask() -> Image.Image:
    mask = Image.new("L", (60, 40))
    mask.paste(255, (10, 5, 40, 30))
    return mask


def uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def opened(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text.partition(",")[2])))


def ask(client, **fields):
    first, second = pictures()
    references = [
        {"name": "fox", "images": [uri(first)], "mask": uri(mask())},
        {"name": "car", "images": [uri(second)]},
    ]
    body = {"prompt": "not read", "references": references, **fields}
    answer = client.post(ADDRESS, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def references():
    first, second = pictures()
    return [Reference(first, name="fox", mask=mask()), Reference(second, name="car")]


@pytest.mark.parametrize(
    "fields",
    [{}, {"layout": "columns", "shuffle": True, "seed": 3}, {"layout": BOXES, "size": "144x96"}],
)
def test_canvas_and_mask_are_the_pipelines_own(client, fields):
    seen = ask(client, model="tiny-magref", **fields)
    width, height = (int(side) for side in fields.get("size", "96x96").split("x"))
    options = {name: fields[name] for name in ("layout", "shuffle", "seed") if name in fields}
    canvas, latent = load_pipeline("tiny-magref").make_canvas(
        references(), height, width, **options
    )
    assert (seen["kind"], seen["width"], seen["height"]) == ("canvas", width, height)
    assert np.array_equal(np.asarray(opened(seen["canvas"])), np.asarray(canvas))
    shown = torch.from_numpy(np.asarray(opened(seen["mask"]))[::12, ::12] > 0)
    assert torch.equal(shown, latent)


def test_a_pictures_box_is_the_rectangle_it_covers(client):
    seen = ask(client, model="tiny-magref", layout=BOXES)
    canvas = np.asarray(opened(seen["canvas"]))
    covered = np.zeros(canvas.shape[:2], bool)
    for picture in seen["pictures"]:
        left, top, right, bottom = (round(edge * 96) for edge in picture["box"])
        assert (picture["width"], picture["height"]) == (right - left, bottom - top)
        covered[top:bottom, left:right] = True
    assert (canvas[~covered] == 255).all()
    first = seen["pictures"][0]["box"]
    assert 0.0 <= first[0] < first[2] <= 0.5  # it keeps its shape inside the box that was given
    assert [p["name"] for p in seen["pictures"]] == ["fox", "car"]


@pytest.mark.parametrize(
    "fields", [{}, {"reference_size": "letterbox", "reference_offset": "video"}]
)
def test_tokens_are_counted_and_placed_as_the_pipeline_does(client, fields):
    seen = ask(client, model="tiny-kaleido", **fields)
    pipe = load_pipeline("tiny-kaleido")
    made = pipe.condition(references(), PixelShape(17, 96, 96), **fields)
    frames = made.transformer_kwargs["reference_hidden_states"]
    assert [p["tokens"] for p in seen["pictures"]] == [f.shape[3] * f.shape[4] for f in frames]
    assert [p["grid"] for p in seen["pictures"]] == [list(f.shape[3:]) for f in frames]
    offset = made.transformer_kwargs["reference_offset"]
    place = 8 if offset == "video" else offset
    assert [p["position"] for p in seen["pictures"]] == [[0, place, place], [1, place, place]]
    assert (seen["video_tokens"], seen["video_grid"]) == (17 * 8 * 8, [17, 8, 8])
    for number, picture in enumerate(seen["pictures"]):
        given = made.pictures[f"reference_{number}"]
        assert np.array_equal(np.asarray(opened(picture["picture"])), np.asarray(given))


def test_a_form_is_laid_out_before_its_prompt_is_written(client):
    buffer = io.BytesIO()
    pictures()[0].save(buffer, format="PNG")
    answer = client.post(
        ADDRESS,
        data={"prompt": "-", "references": json.dumps([{"name": "fox", "images": ["a"]}])},
        files={"a": buffer.getvalue()},
    )
    assert answer.json()["valid"]


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"size": "97x96"}, "size", "try 96"),
        ({"layout": [[0, 0, 1, 1]]}, "references", "1 boxes for 2 pictures"),
        ({"layout": [[0.5, 0, 0.5, 1]] * 2}, "references", "not inside the canvas"),
        ({"reference_size": "native"}, None, "no effect on a MagrefPipeline"),
    ],
)
def test_what_cannot_be_laid_out_is_said_beside_its_field(client, fields, param, words):
    seen = ask(client, model="tiny-magref", **fields)
    assert (seen["valid"], seen["error"]["param"]) == (False, param)
    assert words in seen["error"]["message"]


def test_a_broken_picture_is_named_as_the_client_named_it(client):
    answer = client.post(
        ADDRESS,
        data={"prompt": "-", "references": json.dumps([{"images": ["good", "bad"]}])},
        files={"good": encoded(), "bad": b"\x89PNG\r\n\x1a\nbroken"},
    )
    assert answer.json()["error"]["param"] == "bad"


def encoded() -> bytes:
    return base64.b64decode(uri(pictures()[0]).partition(",")[2])


def test_models_say_what_can_be_chosen(client):
    facts = {model["id"]: model["facts"] for model in client.get("/v1/models").json()["data"]}
    magref, kaleido = facts["tiny-magref"], facts["tiny-kaleido"]
    assert (magref["needs_references"], kaleido["needs_references"]) == (True, False)
    assert "layout" in magref["options"]
    assert "reference_offset" in kaleido["options"]
    assert (magref["width_step"], magref["frames"]) == (12, {"first": 1, "step": 4, "last": 65})
    assert magref["defaults"]["num_frames"] == 17


def test_every_length_that_is_offered_can_be_made(client):
    from anyref.pipelines.loading import describe_model
    from anyref.service.catalog import PipelineCard, frame_range

    card = PipelineCard("tiny-magref", describe_model("tiny-magref"))
    for rules, usual in (
        (card.info.rules, 17),
        (replace(card.info.rules, temporal=4, lead_frames=4), 77),
    ):
        offered = frame_range(rules, usual)
        for frames in range(offered.first, offered.last + 1, offered.step):
            rules.check(PixelShape(rules.network_frames(frames), 96, 96))
        assert (usual - offered.first) % offered.step == 0
