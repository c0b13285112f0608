"""Where the training computes, and in what: on a GPU where there is one, and in bf16 where that is the faster.

A step of the UNet takes .25 s in bf16 and .51 s in fp32 on a processor with units for bf16 (AVX512-BF16), and 5.4 s and
.51 s on the same held to AVX2. Flags do not tell what units gain; so a small step is measured.
"""

import logging
import time
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
MEASUREMENT = 1.0
"""Seconds, for all dtypes together."""


@dataclass(frozen=True)
class Computing:
    """A device, and the dtype in which networks compute there; their weights are fp32 in any case."""

    device: torch.device
    dtype: torch.dtype

    def autocast(self) -> torch.autocast:
        """The context in which networks compute."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32)

    def put(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The tensors on the device."""
        return tuple(tensor.to(self.device) for tensor in tensors)


def named(device: str, dtype: str) -> Computing:
    """The device and the dtype of these names."""
    return Computing(torch.device(device), DTYPES[dtype])


def device_names() -> list[str]:
    """The devices of this machine, the best first."""
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return [*gpus, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]


def find_device(wanted: str, names: list[str]) -> str:
    """The first of the names that is meant: by "auto", by itself, or by its kind, which is the part before the colon.

    Raises:
        ValueError: there is none.
    """
    for name in names:
        if wanted in ("auto", name, name.partition(":")[0]):
            return name
    raise ValueError(f"There is no {wanted} device here: choose auto or one of {', '.join(names)}.")


def choose_dtype(device: str) -> str:
    """The name of the dtype to compute in there, which is logged."""
    if device != "cpu":
        chosen = gpu_dtype(torch.device(device))
        logging.info("computing on %s in %s", device, chosen)
        return chosen
    seconds = step_seconds()
    chosen, other = sorted(seconds, key=seconds.get)
    told = (chosen, 1e3 * seconds[chosen], 1e3 * seconds[other], other)
    logging.info("computing on the CPU in %s: %.1f ms a step against %.1f ms in %s", *told)
    return chosen


def gpu_dtype(device: torch.device) -> str:
    """bf16 on GPUs of CUDA that have units for it."""
    if device.type != "cuda":
        return "float32"
    with torch.cuda.device(device):
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"


def step_seconds() -> dict[str, float]:
    """The least time of a small training step in each dtype, with one thread as in training."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    layers = nn.ModuleList([nn.Conv2d(64, 64, 3, padding=1), nn.Linear(64, 256), nn.Linear(256, 64)])
    pictures = torch.randn(4, 64, 16, 16)
    seconds = dict.fromkeys(DTYPES, float("inf"))
    end = time.perf_counter() + MEASUREMENT
    while time.perf_counter() < end:
        for dtype in DTYPES:
            start = time.perf_counter()
            training_step(layers, pictures, named("cpu", dtype))
            seconds[dtype] = min(seconds[dtype], time.perf_counter() - start)
    torch.set_num_threads(threads)
    return seconds


def training_step(layers: nn.ModuleList, pictures: torch.Tensor, computing: Computing) -> None:
    """Forward and back through a convolution and a perceptron, which take most of the time of the networks."""
    convolution, widening, narrowing = layers
    with computing.autocast():
        rows = convolution(pictures).flatten(2).transpose(1, 2)
        result = narrowing(functional.gelu(widening(rows)))
    result.float().square().mean().backward()
