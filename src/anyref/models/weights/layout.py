"""Where the published folders keep their parts, and what may be missing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anyref.errors import ConvertError

SKIPPABLE = frozenset({"text_encoder", "image_encoder", "vae"})

CONFIG = "config.json"
TRANSFORMER_STEM = "diffusion_pytorch_model"
VAE = "Wan2.1_VAE.pth"
T5 = "models_t5_umt5-xxl-enc-bf16.pth"
CLIP = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"
TOKENIZER = "google/umt5-xxl"
KALEIDO_TEXT = "umt5-xxl"
KALEIDO_MODEL = "model"
SAT_STATES = "mp_rank_00_model_states.pt"
SAT_PREFIX = "model.diffusion_model."

_TOKENIZER_FILES = ("tokenizer.json", "spiece.model")


@dataclass(frozen=True)
class OfficialParts:
    """The files of a published checkpoint; None for a part that is not there."""

    transformer: Path
    vae: Path | None
    text_encoder: Path | None
    tokenizer: Path | None
    image_encoder: Path | None = None


def find_magref(source: Path, allow_missing: frozenset[str], *, image: bool) -> OfficialParts:
    """Find the parts of a published MAGREF folder.

    Args:
        image: whether the transformer attends to an image, and so needs the image encoder.

    Raises:
        ConvertError: naming the file and the option for a part that is neither there nor allowed
            to be missing.
    """
    _check_options(source, allow_missing)
    parts = OfficialParts(
        transformer=_find_transformer(source),
        vae=_existing(source / VAE),
        text_encoder=_existing(source / T5),
        tokenizer=_existing(source / TOKENIZER),
        image_encoder=_existing(source / CLIP),
    )
    places = {"vae": VAE, "text_encoder": T5}
    if image:
        places["image_encoder"] = CLIP
    return _require(parts, source, places, TOKENIZER, allow_missing)


def find_kaleido(source: Path, allow_missing: frozenset[str]) -> OfficialParts:
    """Find the parts of a published Kaleido root, or of its SAT folder alone.

    Raises:
        ConvertError: as `find_magref`; also when `latest` does not name a folder.
    """
    _check_options(source, allow_missing)
    text = source / KALEIDO_TEXT
    tokenizers = (text / TOKENIZER, text / "tokenizer", text, source / TOKENIZER)
    encoders = [source / T5, text / T5, *sorted(text.glob("*.pth"))]
    parts = OfficialParts(
        transformer=_find_sat_states(source),
        vae=_existing(source / VAE),
        text_encoder=next((path for path in encoders if path.is_file()), None),
        tokenizer=next((path for path in tokenizers if _is_tokenizer(path)), None),
    )
    places = {"vae": VAE, "text_encoder": f"{KALEIDO_TEXT}/{T5}"}
    return _require(parts, source, places, KALEIDO_TEXT, allow_missing)


def _check_options(source: Path, allow_missing: frozenset[str]) -> None:
    unknown = sorted(allow_missing - SKIPPABLE)
    if unknown:
        raise ConvertError(
            f"--allow-missing {','.join(unknown)}: not a part that can be missing; "
            f"these can: {', '.join(sorted(SKIPPABLE))}"
        )
    if not source.is_dir():
        raise ConvertError(f"{str(source)!r} is not a folder; give the published one")


def _require(
    parts: OfficialParts,
    source: Path,
    places: dict[str, str],
    tokenizer_place: str,
    allow_missing: frozenset[str],
) -> OfficialParts:
    for part, place in places.items():
        if getattr(parts, part) is None and part not in allow_missing:
            raise _missing(source / place, part)
    if parts.text_encoder is None:
        return OfficialParts(parts.transformer, parts.vae, None, None, parts.image_encoder)
    if parts.tokenizer is None and "text_encoder" not in allow_missing:
        raise _missing(source / tokenizer_place, "text_encoder")
    return parts


def _missing(path: Path, part: str) -> ConvertError:
    return ConvertError(
        f"missing {str(path)!r}; put it there, or go on without with --allow-missing {part}"
    )


def _existing(path: Path) -> Path | None:
    return path if path.exists() else None


def _is_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _TOKENIZER_FILES)


def _find_transformer(source: Path) -> Path:
    for name in (f"{TRANSFORMER_STEM}.safetensors", f"{TRANSFORMER_STEM}.safetensors.index.json"):
        if (source / name).is_file():
            return source / name
    found = sorted(source.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.name for path in found) or "none"
    raise ConvertError(
        f"{str(source)!r} has no {TRANSFORMER_STEM}.safetensors, no index of shards, and not "
        f"exactly one other .safetensors file (found {names}); leave only the transformer's there"
    )


def _find_sat_states(source: Path) -> Path:
    for folder in (source / KALEIDO_MODEL, source):
        latest = folder / "latest"
        if latest.is_file():
            break
    else:
        raise ConvertError(
            f"no file 'latest' in {str(source)!r} nor in its folder {KALEIDO_MODEL!r}; "
            "give the published root or its SAT folder"
        )
    name = latest.read_text(encoding="utf-8").strip()
    states = folder / name / SAT_STATES
    if Path(name).name != name or not states.is_file():
        raise ConvertError(
            f"missing {str(states)!r}, which {str(latest)!r} points to; merge the downloaded parts"
        )
    return states
