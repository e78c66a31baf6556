"""`anyref replay`: a video made again from what it says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from anyref.cli import holding, options, production, progress
from anyref.errors import MediaError, RequestError
from anyref.media import read_metadata
from anyref.pipelines.engine import AUTO, Engine
from anyref.request import Request


def replay(
    source: Annotated[Path, typer.Argument(metavar="VIDEO", help="The .mp4 or its .json sidecar.")],
    output: options.Output = None,
    model: options.Model = None,
    dtype: options.Dtype = None,
    device: options.Device = None,
    attention: options.Attention = None,
) -> None:
    """Make a video again and say whether the bytes are the same."""
    options.check_dtype(dtype)
    record = _record_of(source)
    request = _request_of(record, source)
    original = source.with_suffix(".mp4")
    again = output or original.with_name(f"{original.stem}-again.mp4")
    if again.resolve() == original.resolve():
        raise MediaError(f"output {str(again)!r} is the original; give another name with -o")
    recorded = record.get("model") if isinstance(record.get("model"), dict) else {}
    run = production.Run(
        model or request.model,
        dtype or (recorded or {}).get("dtype"),
        device,
        loras=_loras_of(recorded or {}),
        engine=_engine_of(record.get("engine"), attention),
        holding=holding.recorded(record),
    )
    _warn_about_pictures(request, original)
    studio = production.make_one(request, again, run)
    if not progress.prints():
        return
    _warn_about_model(recorded or {}, studio.model_record)
    _warn_about_versions(record.get("versions"), production.installed_versions())
    if not original.is_file():
        progress.line(f"{original} is not there to compare with")
    elif production.sha256(original) == production.sha256(again):
        progress.line(f"identical: {again} has the same bytes as {original}")
    else:
        progress.line(f"different: {again} does not have the same bytes as {original}")
        raise typer.Exit(1)


def _record_of(source: Path) -> dict[str, Any]:
    if source.suffix.lower() != ".json":
        return read_metadata(source)
    if not source.is_file():
        raise MediaError(f"sidecar {str(source)!r} does not exist; check the path")
    return production.read_sidecar(source)


def _request_of(record: Mapping[str, Any], source: Path) -> Request:
    if not isinstance(record.get("request"), dict):
        raise RequestError(
            f"{str(source)!r} carries no anyref request; give a video that anyref made, "
            "or its .json sidecar"
        )
    return Request.from_json(json.dumps(record["request"]))


def _loras_of(recorded: Mapping[str, Any]) -> tuple[production.LoraText, ...]:
    loras = recorded.get("loras", [])
    try:
        return tuple((str(lora["path"]), float(lora["scale"])) for lora in loras)
    except (TypeError, KeyError, ValueError) as error:
        raise RequestError(f"the record's LoRAs {loras!r} cannot be read") from error


def _engine_of(recorded: Any, attention: str | None) -> Engine:
    known = recorded if isinstance(recorded, dict) else {}
    return Engine(attention or str(known.get("attention", AUTO)), known.get("compile") is True)


def _warn(text: str) -> None:
    progress.line(f"warning: {text}", error=True)


def _warn_about_pictures(request: Request, original: Path) -> None:
    production.check_pictures(request)
    recorded = production.read_sidecar(production.sidecar_of(original)).get("pictures")
    if recorded is not None and recorded != production.picture_hashes(request):
        _warn("a reference picture has changed since the original was made")


def _warn_about_model(recorded: Mapping[str, Any], used: Mapping[str, Any]) -> None:
    if recorded.get("hash") != used["hash"]:
        _warn(
            f"the model differs: hash {str(recorded.get('hash'))[:12]} then, "
            f"{used['hash'][:12]} now"
        )
    if recorded.get("loras", []) != used.get("loras", []):
        _warn("a LoRA differs from the one that was used")


def _warn_about_versions(recorded: Any, installed: Mapping[str, str]) -> None:
    then = recorded if isinstance(recorded, dict) else {}
    for package, version in installed.items():
        if then.get(package) != version:
            _warn(f"{package} was {then.get(package)}, is {version} now")
