"""Processes of one thread each that average their gradients: steadier on a shared machine than threads of one."""

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Ranks:
    """This process's number among `count` of them."""

    rank: int
    count: int

    def average(self, tensors: list[torch.Tensor], scalar: float) -> float:
        """Replace the tensors by their mean over the ranks, in one flat message, and return the mean of `scalar`."""
        if self.count == 1:
            return scalar
        flat = torch.cat([tensor.reshape(-1).float().cpu() for tensor in tensors] + [torch.tensor([scalar])])
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
                value = parameter.data.cpu()
                dist.broadcast(value, 0)
                parameter.data.copy_(value)

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
