"""Every error that anyref raises on purpose.

AnyRefError                 the input or the environment is at fault; the message says what to do
├── RequestError            a request that cannot be made into a video
│   ├── ReferencesError     one of its references: name, count, kind, strength, mask
│   ├── SizeError           height, width or number of frames
│   └── PromptError         prompt text, mentions
├── MediaError              a picture or video that cannot be read or written
├── ModelError              a model name or folder that cannot be used
│   └── ConvertError        official weights that do not fit, key by key
├── TrainingError           a run that cannot start or go on
├── DataError               a dataset folder, or a run of the data engine, that cannot be used
├── PackageError            a pinned package that cannot be fetched or is not the one it should be
├── PerceptionError         a perception model that is not here, or input that it cannot take
├── EvaluationError         a benchmark, results or scores that cannot be used
└── LabError                the cutout world's packages or pictures

Messages state the value, the limit and the remedy, in that order, on one line.
"""

from __future__ import annotations


class AnyRefError(ValueError):
    """Root of the tree. The command line prints its message and exits with code 2."""


class RequestError(AnyRefError):
    """A request that cannot be made into a video."""


class ReferencesError(RequestError):
    """References that cannot be used: name, count, kind, strength or mask."""


class SizeError(RequestError):
    """Height, width or number of frames outside what the model's shapes allow."""


class PromptError(RequestError):
    """A prompt that is empty, or that mentions references which do not exist."""


class MediaError(AnyRefError):
    """A picture or video that cannot be read, is too large, or cannot be written."""


class ModelError(AnyRefError):
    """A model name or folder that cannot be used."""


class ConvertError(ModelError):
    """Official weights whose files or keys do not fit the architecture."""


class TrainingError(AnyRefError):
    """A training run that cannot start or cannot go on."""


class DataError(AnyRefError):
    """A dataset that cannot be read or written, or a data run that cannot start or go on."""


class PackageError(AnyRefError):
    """A pinned package that cannot be fetched, or is not the one it should be."""


class PerceptionError(AnyRefError):
    """A perception model that is not installed or fetched, or input that it cannot take."""


class EvaluationError(AnyRefError):
    """A benchmark, results or scores that cannot be used."""


class LabError(AnyRefError):
    """The cutout world's packages or pictures cannot be had."""
