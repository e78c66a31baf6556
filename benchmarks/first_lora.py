"""The six clips of `examples/first_lora`: one held-out subject, for a LoRA of one's own.

    python benchmarks/first_lora.py SUBJECT examples/first_lora

The subject belongs to the test split, so no shipped model has seen it; places are those that may be
shown (examples/LICENSES.md). Clips, pictures and clips.jsonl are what a user would bring along.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

from fresh_eyes import shown_catalog

from anyref.lab.world import Clip, World, compose
from anyref.media import save_picture, write_video

CLIPS, FPS = 6, 8


def line(clip: Clip, number: int, out: Path) -> dict[str, object]:
    """Write a clip and its pictures; its line of the list."""
    write_video(out / f"clip_{number}.mp4", clip.frames, FPS)
    references = []
    for reference in clip.references:
        (picture,) = reference.images
        path = out / f"clip_{number}_{reference.name}.png"
        save_picture(path, picture)
        references.append(
            {"name": reference.name, "images": [path.name], "kind": reference.kind}
            | ({"text": reference.text} if reference.text else {})
        )
    return {"video": f"clip_{number}.mp4", "prompt": clip.prompt, "references": references}


def main(subject: str, out: Path) -> None:
    """Compose the clips, every motion once and one twice."""
    out.mkdir(parents=True, exist_ok=True)
    catalog, world = shown_catalog(), World(size=96, num_frames=17, plain=0, cast=(subject,))
    lines, seen, seed = [], set(), 0
    while len(lines) < CLIPS:
        clip = compose(random.Random(f"first lora/{seed}"), catalog, "test", world)
        seed += 1
        motion = clip.actors[0].motion
        if motion not in seen or len(seen) == 5:
            seen.add(motion)
            lines.append(line(clip, len(lines), out))
    text = "".join(json.dumps(row) + "\n" for row in lines)
    (out / "clips.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
