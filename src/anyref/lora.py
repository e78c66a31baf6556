"""A LoRA as users name it: a file and a strength."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anyref.errors import ModelError

LORA_FILE = "pytorch_lora_weights.safetensors"


@dataclass(frozen=True)
class Lora:
    """A LoRA file, or the folder of `pytorch_lora_weights.safetensors`, and its strength."""

    path: Path
    scale: float = 1.0

    @property
    def file(self) -> Path:
        """The file itself.

        Raises:
            ModelError: when there is none.
        """
        file = self.path / LORA_FILE if self.path.is_dir() else self.path
        if not file.is_file() or file.suffix != ".safetensors":
            raise ModelError(
                f"LoRA {str(self.path)!r} is no .safetensors file and no folder of {LORA_FILE}; "
                "check the path"
            )
        return file
