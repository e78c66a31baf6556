"""Videos of the pictures beside this file, by both shipped models: python examples/demo.py OUT."""

from __future__ import annotations

import sys
from pathlib import Path

from anyref.cli import main
from anyref.media import frame_sheet, open_picture, read_video, save_picture

HERE = Path(__file__).parent
SCENES = (
    ("one", "a @dolphin glides to the right over the @creek", ("dolphin",), "creek"),
    (
        "two",
        "the @polar_bear walks to the left and a @dolphin glides right over a @mountain_meadow",
        ("polar_bear", "dolphin"),
        "mountain_meadow",
    ),
)


def demo(out: Path) -> int:
    """Make every scene with every model; the number of videos that failed."""
    failed = 0
    for model in ("tiny-magref", "tiny-kaleido"):
        for scene, prompt, subjects, place in SCENES:
            pictures = {subject: HERE / f"{subject}.png" for subject in subjects}
            video = out / f"{model}-{scene}.mp4"
            arguments = ["generate", prompt, "--model", model, "-o", str(video)]
            for subject, picture in pictures.items():
                arguments += ["-r", f"{subject}={picture}"]
            pictures[place] = HERE / f"{place}.jpg"
            arguments += ["-r", f"{place}={pictures[place]}:background"]
            if main(arguments) != 0:
                failed += 1
                continue
            frames, _ = read_video(video)
            references = [open_picture(path) for path in pictures.values()]
            save_picture(video.with_suffix(".png"), frame_sheet(frames, references, prompt))
    sys.stdout.write(f"videos (.mp4) and frame sheets (.png): {out.resolve()}\n")
    return failed


if __name__ == "__main__":
    sys.exit(demo(Path(sys.argv[1] if len(sys.argv) > 1 else "out/demo")))
