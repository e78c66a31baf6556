"""Videos on several gloo processes, many cases per launch; run as a script by each process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tiny
from anyref import generate
from anyref.errors import RequestError
from anyref.models import cpu_kernels
from anyref.pipelines import parallel

Case = dict[str, Any]  # family; layout, request, kernels, times, strided where not the defaults


def latents(case: Case, layout: str | None = None) -> np.ndarray:
    """The video's latents of a case, on the processes of a layout where there are several."""
    kept, cpu_kernels.MIN_VALUES = cpu_kernels.MIN_VALUES, 0
    pipe = getattr(tiny, case["family"])()
    pipe.cpu_kernels, made = case.get("kernels", False), []
    decode, noise = pipe._decode, pipe._noise
    if case.get("strided"):  # as noise of a caller's own may be
        pipe._noise = lambda *given: noise(*given).transpose(1, 2).contiguous().transpose(1, 2)
    pipe._decode = lambda x, *options: made.append(x) or decode(x, *options)
    try:
        if layout is not None:
            parallel.shard(pipe, parallel.parse_layout(layout, int(os.environ["WORLD_SIZE"])))
        for _ in range(case.get("times", 1)):
            generate(pipe, tiny.request(**case.get("request", {})))
        return made[-1].numpy()
    finally:
        cpu_kernels.MIN_VALUES = kept


def on_one(case: Case) -> np.ndarray:
    """The latents of a case on one process with one thread, as the others have."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a convolution may add up in another order with more
    try:
        return latents(case)
    finally:
        torch.set_num_threads(threads)


def environment(world: int) -> dict[str, str]:
    """What torchrun tells the processes that it starts, but for their own rank."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    return {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(world),
        "OMP_NUM_THREADS": "1",
    }


def on_many(cases: list[Case], world: int, folder: Path) -> list[np.ndarray | str]:
    """The latents of cases on `world` processes, or what the case was refused with."""
    (folder / "cases.json").write_text(json.dumps(cases))
    shared = environment(world)
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, str(folder)],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(world)
    ]
    assert [rank.wait(timeout=600) for rank in ranks] == [0] * world
    made = []
    for i in range(len(cases)):
        refused = folder / f"{i}.txt"
        made.append(refused.read_text() if refused.exists() else np.load(folder / f"{i}.npy"))
    return made


def main(folder: Path) -> None:
    """One process's part of every case; the first process of a video writes it."""
    parallel.start()
    for i, case in enumerate(json.loads((folder / "cases.json").read_text())):
        try:
            video = latents(case, case.get("layout", ""))
        except RequestError as error:
            (folder / f"{i}.txt").write_text(str(error))
            continue
        if parallel.is_main():
            np.save(folder / f"{i}.npy", video)
    parallel.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
