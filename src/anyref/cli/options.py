"""Options of `anyref generate`: how they are written, and the request fields they become."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from anyref.errors import ReferencesError, RequestError, SizeError
from anyref.request import Kind, Reference

DTYPES = ("float32", "bfloat16", "float16")

Prompt = Annotated[str | None, typer.Argument(help="What happens; @name refers to a reference.")]
ReferenceTexts = Annotated[
    list[str] | None,
    typer.Option(
        "--reference",
        "-r",
        metavar="[NAME=]PICTURE[,PICTURE][:KIND]",
        help="One reference: pictures of the same thing; KIND is object, human or background. "
        "A picture with = in its name is written with a leading ./",
    ),
]
WordTexts = Annotated[
    list[str] | None,
    typer.Option("--text", metavar="NAME=WORDS", help="What @NAME becomes for the text encoder."),
]
StrengthTexts = Annotated[
    list[str] | None,
    typer.Option(
        "--strength",
        metavar="NAME=GAMMA",
        help="How much reference NAME counts, 0 to 100; 1 is as trained, 0 hides it.",
    ),
]
StrengthMapText = Annotated[
    str | None,
    typer.Option(
        "--strength-map",
        metavar="attention|uniform|guidance",
        help="Strength acts where the video looks at the reference, on all of it, or by one more "
        "pass per reference that does not see it; the model's own if absent.",
    ),
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="The video, .mp4.")]
Model = Annotated[
    str | None, typer.Option(help="A name that `anyref models` lists, or a model folder.")
]
LoraTexts = Annotated[
    list[str] | None,
    typer.Option("--lora", metavar="FILE[:STRENGTH]", help="A LoRA on the model; repeatable."),
]
Seed = Annotated[int | None, typer.Option(help="0 to 2^63 - 1; same seed, same video.")]
Size = Annotated[str | None, typer.Option(metavar="WxH", help="Width and height in pixels.")]
Frames = Annotated[int | None, typer.Option(help="Frames in the finished video.")]
Steps = Annotated[int | None, typer.Option(help="Denoising steps, 1 to 1000.")]
Guidance = Annotated[float | None, typer.Option(help="Text guidance, 0 to 50.")]
Negative = Annotated[str | None, typer.Option(help="What the video should not show.")]
Solver = Annotated[str | None, typer.Option(metavar="unipc|dpm++|euler", help="Scheduler.")]
Shift = Annotated[float | None, typer.Option(help="Timestep shift of the solver.")]
LayoutText = Annotated[
    str | None,
    typer.Option(
        "--layout",
        metavar="columns|grid|quarters|BOXES",
        help="MAGREF: the canvas. BOXES: x0,y0,x1,y1;... in fractions, one per picture.",
    ),
]
NoShuffle = Annotated[
    bool, typer.Option("--no-shuffle", help="MAGREF: keep the references in the order given.")
]
Disentangle = Annotated[
    float | None,
    typer.Option(
        metavar="ALPHA",
        help="MAGREF: strength of subject disentanglement, 0 to 10; off if absent.",
    ),
]
OffsetText = Annotated[
    str | None,
    typer.Option("--reference-offset", metavar="80|video", help="Kaleido: rotary offset."),
]
ReferenceSize = Annotated[
    str | None, typer.Option(metavar="letterbox|native", help="Kaleido: size of the references.")
]
Speed = Annotated[
    str | None,
    typer.Option(
        metavar="exact|balanced|fast|distilled",
        help="What may be left out for speed; distilled is 4 steps, for few-step weights or LoRA.",
    ),
]
StepCacheText = Annotated[
    str | None,
    typer.Option(
        "--step-cache",
        metavar="none|first-block[:THRESHOLD]|taylorseer[:INTERVAL]",
        help="Steps that reuse what earlier ones computed.",
    ),
]
GuidanceInterval = Annotated[
    str | None,
    typer.Option(metavar="START,STOP", help="Shares of the steps between which guidance acts."),
]
Attention = Annotated[
    str | None,
    typer.Option(
        metavar="auto|native|flash|flash3|cudnn|sage|...",
        help="Attention kernel; auto, if absent, is the best exact one; sage is not exact.",
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(
        metavar="auto|24GB|12GB|8GB|...",
        help="Hold the model in so much of the device's memory; predicts peak and time first.",
    ),
]
Transformer = Annotated[
    Path | None,
    typer.Option(help="Weights in place of the model's: safetensors (also fp8, int8) or GGUF."),
]
Compile = Annotated[bool, typer.Option("--compile", help="Compile the transformer's blocks.")]
Parallel = Annotated[
    str | None,
    typer.Option(
        metavar="ulysses=N,ring=N,cfg=2,videos=N,weights",
        help="Under torchrun: how the processes share the work.",
    ),
]
Batch = Annotated[Path | None, typer.Option(help="A list of requests to make with one model.")]
OutDir = Annotated[Path | None, typer.Option(help="With --batch: the folder for the videos.")]
FormatText = Annotated[
    str, typer.Option("--format", metavar="auto|jsonl|magref|kaleido|opens2v", help="Of --batch.")
]
SaveConditioning = Annotated[
    Path | None, typer.Option(help="Folder for pictures of what the model is conditioned on.")
]
Dtype = Annotated[str | None, typer.Option(metavar="|".join(DTYPES), help="As stored if absent.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ...; a GPU if there is one.")]


def parse_reference(text: str, words: str | None = None, strength: float = 1.0) -> Reference:
    """Read `[name=]path[,path2...][:kind]`.

    What stands before the first `=` is a name unless it holds a slash or a dot; a suffix after the
    last `:` is a kind only when it is exactly object, human or background.

    Raises:
        RequestError: for an ill-formed name or an empty path.
    """
    body, colon, suffix = text.rpartition(":")
    kind = suffix if colon and suffix in get_args(Kind) else "object"
    body = body if colon and suffix in get_args(Kind) else text
    name = reference_name(body)
    paths = body.removeprefix(f"{name}=").split(",") if name is not None else body.split(",")
    if not all(path.strip() for path in paths):
        raise RequestError(
            f"reference {text!r} has an empty picture path; write -r fox=fox.png or "
            "-r fox=front.png,side.png"
        )
    return Reference(images=paths, name=name, kind=kind, text=words, strength=strength)


def reference_name(text: str) -> str | None:
    """The name in `name=...`, or None."""
    name, equals, _ = text.partition("=")
    return name if equals and not re.search(r"[/\\.]", name) else None


def parse_references(
    texts: Sequence[str], word_texts: Sequence[str], strength_texts: Sequence[str] = ()
) -> list[Reference]:
    """All references with their `--text` words and their `--strength`.

    Raises:
        RequestError: for text that is not NAME=WORDS or NAME=GAMMA, given twice, or about no
            reference.
    """
    words = _by_name(word_texts, "text", 'NAME=WORDS; write --text fox="a red fox"')
    strengths = _by_name(strength_texts, "strength", "NAME=GAMMA; write --strength fox=2")
    named = {reference_name(text) for text in texts}
    for what, given in (("text", words), ("strength", strengths)):
        for name in given:
            if name not in named:
                raise ReferencesError(
                    f"{what} is given for {name!r} but no reference has that name; "
                    f"add -r {name}=PICTURE or leave the {what} out"
                )
    references = []
    for text in texts:
        name = reference_name(text) or ""
        strength = _strength(name, strengths[name]) if name in strengths else 1.0
        references.append(parse_reference(text, words.get(name), strength))
    return references


def _by_name(texts: Sequence[str], what: str, form: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not value.strip():
            raise RequestError(f"{what} {text!r} is not {form}")
        if name in values:
            raise ReferencesError(f"{what} for {name!r} is given twice; give it once")
        values[name] = value
    return values


def _strength(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise RequestError(
            f"strength {text!r} of {name!r} is not a number; write --strength {name}=2"
        ) from error


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of `WxH`; raises SizeError."""
    match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text)
    if not match:
        raise SizeError(f"size {text!r} is not WIDTHxHEIGHT; write --size 832x480")
    return int(match.group(1)), int(match.group(2))


def parse_layout(text: str) -> str | list[list[float]]:
    """`columns`, `grid`, `quarters`, or boxes `x0,y0,x1,y1;...` in fractions of the canvas.

    Raises:
        RequestError: for anything else, or a box that is empty or leaves the canvas.
    """
    if text in ("columns", "grid", "quarters"):
        return text
    boxes = []
    for part in text.split(";"):
        try:
            left, top, right, bottom = (float(number) for number in part.split(","))
        except ValueError as error:
            raise RequestError(
                f"layout {text!r} is not columns, grid, quarters or boxes; "
                'write --layout "0,0,0.5,1;0.5,0,1,1"'
            ) from error
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise RequestError(
                f"layout box {part!r} is empty or leaves the canvas; boxes are x0,y0,x1,y1 with "
                "0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1"
            )
        boxes.append([left, top, right, bottom])
    return boxes


def parse_offset(text: str) -> int | str:
    """Kaleido's rotary offset, tokens or "video"; raises RequestError."""
    if text == "video":
        return text
    if not re.fullmatch(r"[0-9]{1,4}", text):
        raise RequestError(
            f"reference offset {text!r} is neither a number of tokens nor video; "
            "write --reference-offset 80"
        )
    return int(text)


def parse_interval(text: str) -> tuple[float, float]:
    """Two shares of the steps, `0,0.6`; raises RequestError."""
    try:
        start, stop = (float(number) for number in text.split(","))
    except ValueError as error:
        raise RequestError(
            f"guidance interval {text!r} is not START,STOP; write --guidance-interval 0,0.6"
        ) from error
    return start, stop


def request_fields(
    *,
    size: str | None,
    layout: str | None,
    offset: str | None,
    no_shuffle: bool,
    interval: str | None = None,
    **plain: Any,
) -> dict[str, Any]:
    """Fields of `Request` for the options that were given.

    Args:
        plain: options whose value is the field's own.

    Raises:
        RequestError: for a size, layout, offset or interval that cannot be read.
    """
    fields = {name: value for name, value in plain.items() if value is not None}
    if size is not None:
        fields["width"], fields["height"] = parse_size(size)
    if layout is not None:
        fields["layout"] = parse_layout(layout)
    if offset is not None:
        fields["reference_offset"] = parse_offset(offset)
    if interval is not None:
        fields["guidance_interval"] = parse_interval(interval)
    if no_shuffle:
        fields["shuffle"] = False
    return fields


def parse_loras(texts: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """Read `FILE`, `FILE:STRENGTH` or `FILE=STRENGTH`, the strength 1 when absent.

    Raises:
        RequestError: for a strength that is not a number from -10 to 10.
    """
    loras = []
    for text in texts:
        path, scale = text, 1.0
        match = re.fullmatch(r"(.+)[:=]([^:=]*)", text)
        if match:
            try:
                path, scale = match[1], float(match[2])
            except ValueError:
                path = text  # the mark belongs to the file's name
        if not -10 <= scale <= 10:
            raise RequestError(
                f"LoRA strength {scale} is not from -10 to 10; write --lora FILE:0.8"
            )
        loras.append((path, scale))
    return tuple(loras)


def check_dtype(dtype: str | None) -> None:
    """Raise RequestError unless the dtype is one that models run in."""
    if dtype is not None and dtype not in DTYPES:
        raise RequestError(f"dtype {dtype!r} is not known; use one of {', '.join(DTYPES)}")
