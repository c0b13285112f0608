"""Muon with AdamW for what is not a matrix (Jordan 2024, https://kellerjordan.github.io/posts/muon/; scale as in
Liu et al. 2025, https://arxiv.org/abs/2502.16982): momentum, made nearly orthogonal by a Newton-Schulz iteration."""

from collections import defaultdict

import torch

QUINTIC = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


def orthogonalise(matrices: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Matrices (K, M, N) with their singular values brought near 1, computed in that dtype."""
    x = matrices.to(dtype)
    tall = x.shape[1] > x.shape[2]
    x = x.transpose(1, 2) if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = QUINTIC
    for _ in range(ITERATIONS):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.transpose(1, 2) if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Orthogonalised Nesterov momentum for weights of two dimensions or more; a convolution is (out, in * h * w)."""

    def __init__(self, parameters, lr: float, dtype: torch.dtype, momentum: float = 0.95, weight_decay: float = 0.01):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            by_shape = defaultdict(list)
            for parameter in group["params"]:
                by_shape[parameter.flatten(1).shape].append(parameter)
            for shape, parameters in by_shape.items():
                updates = []
                for parameter in parameters:
                    average = self.state[parameter].setdefault("average", torch.zeros_like(parameter))
                    average.lerp_(parameter.grad, 1.0 - group["momentum"])
                    updates.append(parameter.grad.lerp(average, group["momentum"]).flatten(1))
                updates = orthogonalise(torch.stack(updates), self.dtype)
                scale = group["lr"] * 0.2 * max(shape) ** 0.5
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.mul_(1.0 - group["lr"] * group["weight_decay"])
                    parameter.sub_(update.view_as(parameter), alpha=scale)
