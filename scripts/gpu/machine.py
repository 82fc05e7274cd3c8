"""What this machine is, and the seconds that each process on its GPU takes before it can compute."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable


def main() -> None:
    """Prints how long the first things take, and then what the machine says of itself."""
    begin = time.perf_counter()
    import torch

    print(f"import torch: {time.perf_counter() - begin:.2f} s")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def timed(what: str, action: Callable[[], object]) -> None:
        begin = time.perf_counter()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize()
        print(f"{what} on {device}: {time.perf_counter() - begin:.2f} s")

    timed("first tensor", lambda: torch.zeros(1, device=device))
    images, matrix = torch.rand(8, 1, 28, 28, device=device), torch.rand(256, 256, device=device)
    timed("first convolution", lambda: torch.nn.functional.conv2d(images, images[:, :, :3, :3]))
    timed("first matrix product", lambda: matrix @ matrix)
    print(f"NCCL: {torch.cuda.nccl.version() if device.type == 'cuda' else 'not used'}", flush=True)
    for index in range(torch.cuda.device_count()):
        print(torch.cuda.get_device_properties(index), flush=True)
    subprocess.run([sys.executable, "-W", "ignore", "-m", "torch.utils.collect_env"])
    if shutil.which("nvidia-smi"):
        subprocess.run(["nvidia-smi", "topo", "-m"])
        subprocess.run(["nvidia-smi", "-q"])


if __name__ == "__main__":
    main()
