"""Large models: where their weights lie, how they are loaded, and the card that names them.

A checkpoint is a folder in the format of transformers or diffusers, or a repository of the Hugging
Face hub that `fetch` has put in its cache. Only safetensors are read, and nothing here uses the
network but `fetch`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from anyref.errors import PerceptionError
from anyref.packages import sha256_of
from anyref.perception.contracts import ModelCard

T = TypeVar("T")

FETCHED = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
BROKEN = (OSError, ValueError, RuntimeError, KeyError)  # what loaders raise for a bad folder


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model's folder, or its name on the hub.

    Args:
        source: a folder, or `owner/name`. revision: branch, tag or commit of the hub.
        licence: of the weights. doubt: what is not known about them; empty when nothing is open.
        skip: patterns of weight files that are not this model's (the same weights in another form).
    """

    source: str
    revision: str = "main"
    licence: str = "not stated"
    doubt: str = "the licence was not looked up"
    skip: tuple[str, ...] = ()

    def folder(self) -> Path:
        """Where it lies on this machine.

        Raises:
            PerceptionError: when the folder does not exist and the hub's cache has no such model.
        """
        if Path(self.source).is_dir():
            return Path(self.source)
        try:
            return self.snapshot(local_files_only=True)
        except (OSError, ValueError) as error:
            raise PerceptionError(
                f"model {self.source!r} ({self.revision}) is neither a folder nor in the hub's "
                "cache; fetch it once with "
                f"anyref.perception.large_checkpoints.fetch([{self.source!r}])"
            ) from error

    def weights(self) -> tuple[Path, ...]:
        """Its weight files, in order of their paths.

        Raises:
            PerceptionError: when there are none, or as `folder`.
        """
        folder = self.folder()
        files = {
            path.relative_to(folder).as_posix(): path for path in folder.rglob("*.safetensors")
        }
        kept = [name for name in sorted(files) if not any(fnmatch(name, p) for p in self.skip)]
        if not kept:
            raise PerceptionError(
                f"{str(folder)!r} has no .safetensors file; weights in other formats are not read, "
                "save them again with safe_serialization"
            )
        return tuple(files[name] for name in kept)

    def card(self) -> ModelCard:
        """Name, commit (`local` for a folder that is not in the hub's cache), and sha256.

        Reads every weight once.

        Raises:
            PerceptionError: as `weights`.
        """
        folder = self.folder()
        return ModelCard(
            name=folder.name if Path(self.source).is_dir() else self.source,
            version=folder.name if folder.parent.name == "snapshots" else "local",
            sha256=joined_digest([sha256_of(path) for path in self.weights()]),
            licence=self.licence,
            doubt=self.doubt,
        )

    def snapshot(self, *, local_files_only: bool) -> Path:
        """Its folder in the hub's cache, downloaded first unless `local_files_only`.

        Raises:
            OSError, ValueError: of huggingface_hub, when it is not there.
        """
        from huggingface_hub import snapshot_download

        return Path(
            snapshot_download(
                self.source,
                revision=self.revision,
                allow_patterns=list(FETCHED),
                ignore_patterns=list(self.skip),
                local_files_only=local_files_only,
            )
        )


FLUX_LICENCE = "FLUX.1 [dev] Non-Commercial License"
GROUNDING_DINO = Checkpoint(
    source="IDEA-Research/grounding-dino-base", licence="Apache-2.0", doubt=""
)
SAM2 = Checkpoint(source="facebook/sam2.1-hiera-large", licence="Apache-2.0", doubt="")
CLIP = Checkpoint(
    source="openai/clip-vit-large-patch14",
    licence="MIT",
    doubt="the licence is the code's; the training pictures are not published",
)
DINOV2 = Checkpoint(source="facebook/dinov2-large", licence="Apache-2.0", doubt="")
QWEN_VL = Checkpoint(source="Qwen/Qwen2.5-VL-7B-Instruct", licence="Apache-2.0", doubt="")
FLUX_DEV, FLUX_FILL, FLUX_REDUX = (
    Checkpoint(
        source=f"black-forest-labs/FLUX.1-{name}",
        licence=FLUX_LICENCE,
        doubt="not for commercial use; read the licence on pictures made with it",
        skip=("flux1-*.safetensors", "ae.safetensors"),
    )
    for name in ("dev", "Fill-dev", "Redux-dev")
)
KNOWN = {
    known.source: known
    for known in (GROUNDING_DINO, SAM2, CLIP, DINOV2, QWEN_VL, FLUX_DEV, FLUX_FILL, FLUX_REDUX)
}


def checkpoint(source: Checkpoint | str | Path) -> Checkpoint:
    """The checkpoint of a folder or a hub's name, with what is known here about that name."""
    if isinstance(source, Checkpoint):
        return source
    return KNOWN.get(str(source), Checkpoint(source=str(source)))


def fetch(sources: Sequence[Checkpoint | str | Path]) -> tuple[Path, ...]:
    """Download models into the hub's cache and return their folders; what is there stays.

    Folders stay as they are.

    Raises:
        PerceptionError: when the hub does not give one: unknown, gated, or out of reach.
    """
    folders = []
    for wanted in map(checkpoint, sources):
        try:
            local = Path(wanted.source).is_dir()
            folders.append(wanted.folder() if local else wanted.snapshot(local_files_only=False))
        except (OSError, ValueError) as error:
            raise PerceptionError(
                f"model {wanted.source!r} ({wanted.revision}) was not fetched: "
                f"{_first_words(error)}; check its name, the network, and that the licence on its "
                "page is accepted"
            ) from error
    return tuple(folders)


class LargeModel:
    """Base of the large grade: loads at the first call, on the device and in the type given.

    Args:
        source: a checkpoint, a folder, or a name on the hub that was fetched.
        device: torch's name of where it runs. dtype: torch's name of its numbers.
        batch: how many pictures (or clips) go through at once.
    """

    default: ClassVar[Checkpoint]
    default_dtype: ClassVar[str] = "float32"
    default_batch: ClassVar[int] = 8

    def __init__(
        self,
        source: Checkpoint | str | Path | None = None,
        *,
        device: str = "cuda",
        dtype: str | None = None,
        batch: int | None = None,
    ) -> None:
        self.checkpoint = checkpoint(self.default if source is None else source)
        self.device = device
        self.dtype = dtype or self.default_dtype
        self.batch = batch or self.default_batch

    @cached_property
    def card(self) -> ModelCard:
        """The identity of the model. Raises PerceptionError when its weights are not here."""
        return self.checkpoint.card()

    def _load(self, name: str) -> Any:
        """The model of that class of transformers, in eval mode on the device.

        Raises:
            PerceptionError: when the folder has no safetensors, lacks weights or does not load.
        """
        import transformers

        self.checkpoint.weights()
        folder = self.checkpoint.folder()
        try:
            model, report = getattr(transformers, name).from_pretrained(
                folder,
                dtype=torch_dtype(self.dtype),
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
        except BROKEN as error:
            raise unloadable(folder, name, error) from error
        if report["missing_keys"]:
            raise PerceptionError(
                f"{str(folder)!r} lacks {len(report['missing_keys'])} weights of {name}, "
                f"{min(report['missing_keys'])!r} first; fetch or copy it again"
            )
        return model.to(check_device(self.device)).eval()

    def _load_part(self, name: str, **options: Any) -> Any:
        """A tokenizer or image processor by the name of its Auto class; errors as `_load`."""
        import transformers

        folder = self.checkpoint.folder()
        try:
            return getattr(transformers, name).from_pretrained(
                folder, local_files_only=True, **options
            )
        except BROKEN as error:
            raise unloadable(folder, name, error) from error

    def _load_image_processor(self) -> Any:
        """Of PIL and NumPy, which needs no torchvision and gives the same numbers everywhere."""
        return self._load_part("AutoImageProcessor", backend="pil")


def torch_dtype(name: str) -> Any:
    """torch.dtype of a name; PerceptionError for another name than of a floating type."""
    import torch

    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise PerceptionError(f"dtype {name!r} is none; use float32, bfloat16 or float16")
    return found


def check_device(name: str) -> str:
    """The name of a device, or PerceptionError when it is a GPU and none is here."""
    import torch

    if name.startswith("cuda") and not torch.cuda.is_available():
        raise PerceptionError(f"device {name!r} is not available; give device='cpu'")
    return name


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Slices of `size` items, the last one shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def joined_digest(digests: Sequence[str]) -> str:
    """One digest as it is; of several, that of their letters one after another."""
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def unloadable(folder: Path, name: str, error: BaseException) -> PerceptionError:
    """What to raise when a library cannot load a folder as that class."""
    return PerceptionError(f"{str(folder)!r} does not load as {name}: {_first_words(error)}")


def _first_words(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
