"""How networks are loaded and called: one thread unless asked otherwise, on the CPU.

Every loader gives a plain function on arrays, so that the models of this package can be tested
with a stand-in, and imports its library only when called.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from numpy.typing import NDArray

from anyref.errors import PerceptionError
from anyref.perception.contracts import ModelCard
from anyref.perception.sources import Weights, open_weights

Array: TypeAlias = NDArray[Any]
NamedNetwork: TypeAlias = Callable[[Mapping[str, Array]], Array]
Network: TypeAlias = Callable[[Array], Array]


class SmallModel:
    """Base of the small grade: weights opened at the first call, checked, and named by a card.

    Args:
        cache: folder of `anyref.perception.sources.fetch`; None is the default one.
        threads: how many threads a call may use.
    """

    source: ClassVar[str]  # name in anyref.perception.sources.SOURCES

    def __init__(self, cache: Path | None = None, threads: int = 1) -> None:
        self.cache = cache
        self.threads = threads

    @cached_property
    def weights(self) -> Weights:
        """The checked files. Raises PerceptionError when they are not fetched."""
        return open_weights(self.source, self.cache)

    @property
    def card(self) -> ModelCard:
        """The identity of the model. Raises PerceptionError when its weights are not fetched."""
        return self.weights.card


def require(module: str) -> Any:
    """Import an optional library.

    Raises:
        PerceptionError: when it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise PerceptionError(
            f"{module.partition('.')[0]!r} is not installed ({error}); "
            "run `pip install 'anyref[perception]'`"
        ) from error


def load_onnx(path: Path, threads: int, output: str | None = None) -> NamedNetwork:
    """An ONNX network as a function of named inputs that gives one output.

    Args:
        output: name of that output; None is the first.
    """
    session = _onnx_session(path, threads)
    name = output or session.get_outputs()[0].name
    return lambda inputs: session.run([name], dict(inputs))[0]


def onnx_metadata(path: Path, key: str) -> str:
    """A text that an ONNX file carries in its metadata; KeyError when it has none."""
    return str(_onnx_session(path, 1).get_modelmeta().custom_metadata_map[key])


def _onnx_session(path: Path, threads: int) -> Any:
    onnxruntime = require("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    return onnxruntime.InferenceSession(
        str(path), sess_options=options, providers=["CPUExecutionProvider"]
    )


def load_litert(path: Path, threads: int) -> Network:
    """A TensorFlow Lite network as a function of its one input that gives its first output."""
    interpreter = require("ai_edge_litert.interpreter").Interpreter(
        model_path=str(path), num_threads=threads
    )
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]["index"]
    result = interpreter.get_output_details()[0]["index"]

    def run(values: Array) -> Array:
        interpreter.set_tensor(entry, values)
        interpreter.invoke()
        return interpreter.get_tensor(result)  # a copy

    return run


@contextmanager
def opencv(threads: int) -> Iterator[Any]:
    """OpenCV with that many threads; the number it had before comes back afterwards."""
    cv2 = require("cv2")
    before = cv2.getNumThreads()
    cv2.setNumThreads(threads)
    try:
        yield cv2
    finally:
        cv2.setNumThreads(before)
