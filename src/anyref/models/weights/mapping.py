"""From one set of names to the other: every key and shape checked, then moved piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from anyref.errors import ConvertError
from anyref.models.weights.keys import Link
from anyref.models.weights.reader import Weights

_NAMED_AT_MOST = 8


@dataclass(frozen=True)
class Component:
    """One model of ours and how the official file spells it.

    Attributes:
        what: its name in messages, also its folder.
        links: every official tensor and where it goes.
        shapes: the shape of each tensor of ours, from the model made on the meta device.
        save_config: writes config.json into a folder.
        stem: file name of the weights without suffix.
        filled: tensors of ours that the official file leaves out, with their constant value.
    """

    what: str
    links: tuple[Link, ...]
    shapes: Mapping[str, tuple[int, ...]]
    save_config: Callable[[Path], None]
    stem: str = "diffusion_pytorch_model"
    filled: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ours = {name for link in self.links for name in link.ours} | set(self.filled)
        stray = sorted(ours ^ set(self.shapes))
        if stray:
            raise ConvertError(
                f"{self.what}: the official format has no place for {_named(stray)}; "
                "only the released architecture can be converted"
            )

    def official_shape(self, link: Link) -> tuple[int, ...]:
        """The shape that the official tensor of this link must have."""
        first, *_ = parts = [self.shapes[name] for name in link.ours]
        joined = first if len(parts) == 1 else (sum(part[0] for part in parts), *first[1:])
        return (1,) * link.lead + joined


@dataclass(frozen=True)
class Piece:
    """Tensors that are made together, from one tensor or into one.

    Attributes:
        num_bytes: their size once made.
        make: reads the source and returns them by name.
    """

    names: tuple[str, ...]
    num_bytes: int
    make: Callable[[], dict[str, Tensor]]


def check_keys(what: str, weights: Weights, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Hold a file to exactly these names and shapes.

    Raises:
        ConvertError: naming every key (up to eight) that is missing, unexpected or misshapen.
    """
    faults = [
        f"missing key {weights.prefix + name!r} {shape}"
        for name, shape in expected.items()
        if name not in weights
    ]
    for name, stored in weights.items():
        if name not in expected:
            faults.append(f"unexpected key {stored.key!r} {stored.shape}")
        elif stored.shape != expected[name]:
            faults.append(f"key {stored.key!r} has shape {stored.shape}, expected {expected[name]}")
    if faults:
        listed = "; ".join(faults[:_NAMED_AT_MOST])
        more = len(faults) - _NAMED_AT_MOST
        raise ConvertError(
            f"{what}: {listed}{f'; and {more} more' if more > 0 else ''}. "
            "Give the file that belongs to this family and config"
        )


def pieces_to_ours(
    component: Component, weights: Weights, dtype: torch.dtype | None = None
) -> list[Piece]:
    """Plan the way from official names to ours, in the order of our model.

    Args:
        dtype: what floating-point tensors become; None keeps what is stored.

    Raises:
        ConvertError: when the keys or shapes are not exactly the expected ones.
    """
    expected = {link.official: component.official_shape(link) for link in component.links}
    check_keys(component.what, weights, expected)

    def piece(link: Link) -> Piece:
        stored = weights[link.official]
        target = _target_dtype(stored.dtype, dtype)

        def make() -> dict[str, Tensor]:
            return _split(weights.tensor(link.official).to(target), link, component)

        return Piece(link.ours, prod(stored.shape) * target.itemsize, make)

    order = {name: number for number, name in enumerate(component.shapes)}
    pieces = [piece(link) for link in sorted(component.links, key=lambda x: order[x.ours[0]])]
    if component.filled:
        norm = next(link.official for link in component.links if "norm" in link.official)
        fill_dtype = _target_dtype(weights[norm].dtype, dtype)
        pieces += [_constant(component, name, fill_dtype) for name in component.filled]
    return pieces


def pieces_to_official(component: Component, weights: Weights) -> list[Piece]:
    """Plan the way back from our names to the official ones; `filled` tensors are left out.

    Raises:
        ConvertError: when the keys or shapes are not exactly the model's.
    """
    check_keys(component.what, weights, component.shapes)

    def piece(link: Link) -> Piece:
        shape = component.official_shape(link)
        itemsize = weights[link.ours[0]].dtype.itemsize

        def make() -> dict[str, Tensor]:
            parts = [weights.tensor(name) for name in link.ours]
            joined = parts[0] if len(parts) == 1 else torch.cat(parts)
            return {link.official: joined.reshape(shape)}

        return Piece((link.official,), prod(shape) * itemsize, make)

    return [piece(link) for link in component.links]


def copies(weights: Weights) -> list[Piece]:
    """Plan to carry tensors over under the names they have."""
    return [
        Piece(
            (name,),
            prod(stored.shape) * stored.dtype.itemsize,
            lambda name=name: {name: weights.tensor(name)},  # type: ignore[misc]
        )
        for name, stored in weights.items()
    ]


def meta_shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a model's tensors; make it under `torch.device("meta")`."""
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _split(tensor: Tensor, link: Link, component: Component) -> dict[str, Tensor]:
    tensor = tensor.reshape(tensor.shape[link.lead :])
    if len(link.ours) == 1:
        return {link.ours[0]: tensor}
    parts = tensor.split([component.shapes[name][0] for name in link.ours])
    return {name: part.clone() for name, part in zip(link.ours, parts, strict=True)}


def _constant(component: Component, name: str, dtype: torch.dtype) -> Piece:
    shape, value = component.shapes[name], component.filled[name]
    return Piece(
        (name,), prod(shape) * dtype.itemsize, lambda: {name: torch.full(shape, value, dtype=dtype)}
    )


def _target_dtype(stored: torch.dtype, wanted: torch.dtype | None) -> torch.dtype:
    return wanted if wanted is not None and stored.is_floating_point else stored


def _named(names: list[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    listed = ", ".join(repr(name) for name in names[:_NAMED_AT_MOST])
    return listed + (f" and {more} more" if more > 0 else "")
