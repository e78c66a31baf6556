"""The negative prompts that the released samplers use.

Wan2.1's own (wan/configs/shared_config.py, Apache-2.0); MAGREF puts "camera shake" in front,
Kaleido leaves out the clause on poorly drawn faces. Both checkpoints were sampled with these words.
"""

from __future__ import annotations

_FACE_CLAUSE = "画得不好的脸部，"

WAN_NEGATIVE_PROMPT = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，"
    "低质量，JPEG压缩残留，丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，"
    "毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)
MAGREF_NEGATIVE_PROMPT = "镜头晃动，" + WAN_NEGATIVE_PROMPT
KALEIDO_NEGATIVE_PROMPT = WAN_NEGATIVE_PROMPT.replace(_FACE_CLAUSE, "")
