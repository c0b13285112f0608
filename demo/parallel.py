"""Processes of one thread each that average their gradients: steadier on a shared machine than threads of one."""

import os
import time
from dataclasses import dataclass

import torch
import torch.distributed as dist

LEARNING_RATE_FLOOR = 0.02


@dataclass(frozen=True)
class Ranks:
    """This process's number among `count` of them."""

    rank: int
    count: int

    def average(self, tensors: list[torch.Tensor], scalar: float) -> float:
        """Replace the tensors by their mean over the ranks, in one flat message, and return the mean of `scalar`."""
        if self.count == 1:
            return scalar
        flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors] + [torch.tensor([scalar])])
        dist.all_reduce(flat)
        flat /= self.count
        offset = 0
        for tensor in tensors:
            tensor.copy_(flat[offset : offset + tensor.numel()].view_as(tensor))
            offset += tensor.numel()
        return float(flat[-1])

    def broadcast(self, module: torch.nn.Module) -> None:
        """Give every rank the first rank's parameters."""
        if self.count > 1:
            for parameter in module.parameters():
                dist.broadcast(parameter.data, 0)

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.count > 1:
            dist.barrier()

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0


def join(rank: int, count: int, port: int) -> Ranks:
    """Join the group of processes on this machine; each computes with one thread."""
    torch.set_num_threads(1)
    if count > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        dist.init_process_group("gloo", rank=rank, world_size=count)
    return Ranks(rank, count)


class Clock:
    """Training time of one stage in seconds, carried on over interruptions; the learning rate follows it."""

    def __init__(self, budget: float, spent: float = 0.0):
        self.budget = budget
        self._start = time.monotonic() - spent

    @property
    def spent(self) -> float:
        """Seconds trained so far."""
        return time.monotonic() - self._start

    @property
    def progress(self) -> float:
        """Share of the budget that is spent."""
        return self.spent / self.budget


def learning_rate_factor(progress: float, step: int, warm_up: int = 100, hold: float = 0.45) -> float:
    """Linear warm-up over steps, constant up to the share `hold` of the time, then a cosine down to a floor."""
    warm = min(1.0, (step + 1) / warm_up)
    if progress <= hold:
        return warm
    phase = min(1.0, (progress - hold) / (1.0 - hold))
    cosine = 0.5 * (1.0 + float(torch.cos(torch.tensor(torch.pi * phase))))
    return warm * (LEARNING_RATE_FLOOR + (1.0 - LEARNING_RATE_FLOOR) * cosine)


def save_atomically(value: object, path: os.PathLike) -> None:
    """`torch.save`, such that an interruption leaves the former file."""
    partial = f"{path}.partial"
    torch.save(value, partial)
    os.replace(partial, path)
