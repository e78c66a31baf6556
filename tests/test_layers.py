"""Imports go one way between the layers of the package."""

from __future__ import annotations

import ast
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "anyref"
LAYERS = (
    {"errors"},
    {"settings"},
    {"request"},
    {"media"},
    {"packages"},
    {"batch", "lora"},
    {"models"},
    {"pipelines"},
    {"perception"},
    {"data"},
    {"lab"},
    {"training"},
    {"evaluation"},
    {"bench"},
    {"service"},
    {"cli"},
    {"__main__"},
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def imported_layers(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
    return {m.split(".")[1] for m in modules if m.startswith("anyref.")}


def test_no_module_imports_from_a_layer_above():
    upward = []
    for path in SOURCE.rglob("*.py"):
        layer = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if layer == "__init__":
            continue
        upward += [
            f"{path.relative_to(SOURCE)} imports {other}"
            for other in imported_layers(path)
            if RANK[other] > RANK[layer]
        ]
    assert upward == []


def test_importing_the_package_or_the_command_line_loads_no_torch():
    import subprocess
    import sys

    code = "import sys, anyref, anyref.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_public_names_are_these():
    import anyref

    assert anyref.__all__ == [
        "AnyRefError",
        "Generation",
        "KaleidoPipeline",
        "KaleidoTransformer3DModel",
        "MagrefPipeline",
        "Reference",
        "Request",
        "generate",
        "load_pipeline",
    ]
    assert all(getattr(anyref, name) for name in anyref.__all__)


def test_files_stay_under_400_lines():
    long = [p.name for p in SOURCE.rglob("*.py") if len(p.read_text().splitlines()) > 400]
    assert long == []
