"""The request's texts to copy: what the command line and Python make of them."""

from __future__ import annotations

import json
import shlex

import httpx
import pytest
from PIL import Image

import anyref
from anyref.cli import options, production
from anyref.cli.generate import generate
from anyref.request import Request

pytestmark = pytest.mark.slow

PROMPT = 'the @fox\'s "tail" & $HOME `x` moves\nover @beach'
REFERENCES = [
    {
        "name": "fox",
        "kind": "object",
        "text": "a red fox's cub",
        "strength": 2.5,
        "views": [{"fileName": "fox.png"}, {"fileName": "fox.png"}],
        "mask": None,
    },
    {
        "name": "beach",
        "kind": "background",
        "text": "",
        "strength": 1,
        "views": [{"fileName": "my-beach.jpg"}],
        "mask": None,
    },
]
MAGREF = {
    "prompt": PROMPT,
    "model": "tiny-magref",
    "size": "144x96",
    "num_frames": 9,
    "seed": 12,
    "num_inference_steps": 4,
    "guidance_scale": 3.5,
    "negative_prompt": "it's --blurred",
    "solver": "dpm++",
    "flow_shift": 2.5,
    "shuffle": False,
    "disentangle": 0.5,
    "strength_map": "uniform",
    "speed": "balanced",
    "step_cache": "none",
    "guidance_interval": [0, 0.6],
    "layout": [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0.1, 0.5, 0.9, 1]],
}
KALEIDO = {
    "prompt": "-a @fox over @beach",
    "model": "tiny-kaleido",
    "reference_offset": "video",
    "reference_size": "letterbox",
}


@pytest.fixture
def text_of(open_page, service):
    page = open_page(service.url)

    def text_of(what, references, fields, *more):
        return page.evaluate(
            "async ([what, ...given]) => (await import('/page/texts.js'))[what](...given)",
            [what, references, fields, *more],
        )

    return text_of


def expected(fields, references, folder):
    """The request that the form stands for."""
    files = {"fox": ["fox.png", "fox-2.png"], "beach": ["my-beach.jpg"]}
    rest = {n: v for n, v in fields.items() if n not in ("model", "size")}
    if "size" in fields:
        rest["width"], rest["height"] = (int(side) for side in fields["size"].split("x"))
    given = [
        anyref.Reference(
            [folder / file for file in files[r["name"]]],
            name=r["name"],
            kind=r["kind"],
            text=r["text"] or None,
            strength=r["strength"],
        )
        for r in references
    ]
    return Request(references=given, **rest)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("fox.png", "fox-2.png", "my-beach.jpg", "fox-mask.png", "fox-cut-out.png"):
        Image.new("RGB", (40, 30), "orange").save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("fields", [MAGREF, KALEIDO])
def test_the_command_line_is_read_as_the_request(text_of, fields, folder, monkeypatch):
    made = []
    monkeypatch.setattr(production, "make_one", lambda *given: made.append(given))
    text = text_of("cliText", REFERENCES, fields, fields["model"])
    words = shlex.split(text.replace("\\\n", " "))
    assert words[:2] == ["anyref", "generate"]
    assert anyref.cli.main(words[1:]) == 0
    ((request, output, run),) = made
    assert (output.name, run.model) == ("out.mp4", fields["model"])
    assert request == expected(fields, REFERENCES, folder)


@pytest.mark.parametrize("fields", [MAGREF, KALEIDO])
def test_python_makes_the_same_request(text_of, fields, folder, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        "anyref.pipelines.loading.load_pipeline", lambda name: seen.update(model=name)
    )

    class Video:
        frames, fps = None, 8.0

    def fake(pipe, request):
        seen["request"] = request
        return Video

    monkeypatch.setattr("anyref.pipelines.generation.generate", fake)
    monkeypatch.setattr("anyref.media.write_video", lambda *given: seen.update(written=given[0]))
    exec(text_of("pythonText", REFERENCES, fields, fields["model"]), {})
    absolute = anyref.batch.with_absolute_pictures(seen["request"], folder)
    assert absolute == expected(fields, REFERENCES, folder)
    assert (seen["model"], seen["written"]) == (fields["model"], "out.mp4")


@pytest.mark.parametrize("fields", [MAGREF, KALEIDO])
def test_json_is_a_body_of_the_interface(text_of, service, fields):
    pixel = (
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwAB"
        "AQEAsTj2FwAAAABJRU5ErkJggg=="
    )
    pictures = [{"views": [pixel, pixel]}, {"views": [pixel]}]
    body = json.loads(text_of("jsonText", REFERENCES, fields, pictures))
    answer = httpx.post(f"{service.url}/v1/requests/validate", json=body).json()
    assert answer["valid"], answer


def test_a_mask_travels_as_a_cut_out_on_the_command_line_and_as_itself_in_python(text_of, folder):
    masked = [{**REFERENCES[0], "views": [{"fileName": "fox.png"}], "mask": {}}]
    fields = {"prompt": "@fox", "model": "tiny-magref"}
    words = text_of("cliWords", masked, fields, "tiny-magref")
    assert "fox=fox-cut-out.png" in words
    assert options.parse_references(["fox=fox-cut-out.png"], [])[0].name == "fox"
    assert 'mask="fox-mask.png"' in text_of("pythonText", masked, fields, "tiny-magref")
    assert text_of("cliNotes", masked, fields)
    assert generate is not None
