"""The loop against plain float64 steps; goes on to the same bits; two processes are one with the double batch."""

import subprocess
import sys

import pytest
import torch

from clone import ROOT

TWO = """
import sys, json, torch, torch.distributed as dist, types
root, rank, port = sys.argv[1], int(sys.argv[2]), sys.argv[3]
package = types.ModuleType("pack"); package.__path__ = [root]; sys.modules["pack"] = package
from pack.training.loop import Loop, Optimisation, Stage
from pack.training.chance import generator_at
dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
torch.manual_seed(0)
module = torch.nn.Linear(3, 2).double()
def losses(position):
    x = torch.randn(4, 3, generator=generator_at(7, position), dtype=torch.float64)
    return {"loss": module(x).square().mean()}
loop = Loop([Stage("", module, losses, Optimisation(0.1, clip=0.5))], steps=3, accumulate=2)
told = [done.losses["loss"] for done in loop.run()]
if rank == 0:
    print(json.dumps([told, module.weight.tolist()]))
dist.destroy_process_group()
"""


@pytest.fixture
def loop(part):
    return part("training.loop")


def stages_of(loop, part, batches=1, **optimisation):
    torch.manual_seed(0)
    module = torch.nn.Linear(3, 2).double()
    generator_at = part("training.chance").generator_at

    def losses(position):
        x = torch.cat(
            [
                torch.randn(4, 3, generator=generator_at(7, position * batches + each), dtype=torch.float64)
                for each in range(batches)
            ]
        )
        return {"loss": module(x).square().mean(), "size": module.weight.norm()}

    return module, [loop.Stage("", module, losses, loop.Optimisation(0.1, **optimisation))]


def test_steps_are_those_of_adamw_written_out(loop, part):
    module, stages = stages_of(loop, part, clip=0.5, schedule="cosine", warm_up=2, weight_decay=0.1)
    weight, bias = module.weight.detach().clone(), module.bias.detach().clone()
    means = {0: [torch.zeros_like(weight), torch.zeros_like(weight)], 1: [torch.zeros_like(bias)] * 2}
    told = list(loop.Loop(stages, steps=5, accumulate=2).run())
    draw = part("training.chance").generator_at
    for step in range(5):
        gradients = [torch.zeros_like(weight), torch.zeros_like(bias)]
        losses = []
        for micro in range(2):
            x = torch.randn(4, 3, generator=draw(7, 2 * step + micro), dtype=torch.float64)
            y = x @ weight.T + bias
            losses.append(y.square().mean())
            gradients[0] += (2 * y / y.numel()).T @ x / 2
            gradients[1] += (2 * y / y.numel()).sum(0) / 2
        assert told[step].losses["loss"] == pytest.approx(float(sum(losses) / 2), rel=1e-6)
        norm = sum(each.square().sum() for each in gradients).sqrt()
        gradients = [each * min(1.0, 0.5 / (float(norm) + 1e-6)) for each in gradients]
        done = (step - 2) / 3
        rate = 0.1 * ((step + 1) / 3 if step < 2 else (1 + torch.cos(torch.tensor(torch.pi * done)).item()) / 2)
        for place, (value, gradient) in enumerate(zip((weight, bias), gradients, strict=True)):
            first, second = means[place]
            means[place] = [0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2]
            first, second = (
                each / (1 - beta ** (step + 1)) for each, beta in zip(means[place], (0.9, 0.999), strict=True)
            )
            value.mul_(1 - rate * 0.1).sub_(rate * first / (second.sqrt() + 1e-8))
    assert torch.allclose(module.weight, weight, rtol=1e-5) and torch.allclose(module.bias, bias, rtol=1e-5)


def test_it_goes_on_to_the_same_bits(loop, part, tmp_path):
    whole, stages = stages_of(loop, part, schedule="linear")
    list(loop.Loop(stages, steps=6).run())
    begun, stages = stages_of(loop, part, schedule="linear")
    first = loop.Loop(stages, steps=6)
    for done in first.run():
        if done.step == 3:
            break
    torch.save(first.state_dict(), tmp_path / "state.pt")
    module, stages = stages_of(loop, part, schedule="linear")
    second = loop.Loop(stages, steps=6)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [done.step for done in second.run()] == [4, 5, 6]
    assert torch.equal(module.weight, whole.weight) and not torch.equal(module.weight, begun.weight)


def test_stages_train_their_own_modules_at_once(loop):
    """A stage's loss through another's module leaves that one alone, and sees it as it was before the step."""
    maker, judge = (torch.nn.Linear(1, 1, bias=False).double() for _ in range(2))
    for module in (maker, judge):
        torch.nn.init.ones_(module.weight)
    one = torch.ones(1, 1, dtype=torch.float64)
    stages = [
        loop.Stage("maker", maker, lambda _: {"loss": judge(maker(one)).sum()}, loop.Optimisation(0.1, weight_decay=0)),
        loop.Stage(
            "judge",
            judge,
            lambda _: {"loss": -judge(maker(one).detach()).sum()},
            loop.Optimisation(0.2, weight_decay=0),
        ),
    ]
    (done,) = loop.Loop(stages, steps=1).run()
    assert done.losses == {"maker loss": 1.0, "judge loss": -1.0}
    assert float(maker.weight) == pytest.approx(0.9) and float(judge.weight) == pytest.approx(1.2)
    assert all(parameter.requires_grad for module in (maker, judge) for parameter in module.parameters())


def test_a_loss_that_is_no_number_stops_it(loop, part):
    module = torch.nn.Linear(1, 1)
    before = module.weight.detach().clone()
    stage = loop.Stage("", module, lambda _: {"loss": module.weight.sum() * torch.nan}, loop.Optimisation(0.1))
    with pytest.raises(ValueError, match="In step 1 the training loss is nan"):
        list(loop.Loop([stage], steps=2).run())
    assert torch.equal(module.weight, before)


def test_what_has_no_number_is_left_out_of_the_mean(loop):
    module = torch.nn.Linear(1, 1)
    values = [torch.tensor(1.0), torch.tensor(torch.nan), torch.tensor(3.0)]
    stage = loop.Stage(
        "", module, lambda at: {"loss": module.weight.sum(), "share": values[at]}, loop.Optimisation(0.1)
    )
    (done,) = loop.Loop([stage], steps=1, accumulate=3).run()
    assert done.losses["share"] == 2.0


@pytest.mark.slow
def test_two_processes_are_one_with_the_double_batch(loop, part):
    import json
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-c", TWO, str(ROOT)]
    processes = [subprocess.Popen([*command, str(rank), port], stdout=subprocess.PIPE, text=True) for rank in range(2)]
    printed = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    losses, weight = json.loads(printed[0])
    module, stages = stages_of(loop, part, batches=2, clip=0.5)
    told = [done.losses["loss"] for done in loop.Loop(stages, steps=3, accumulate=2).run()]
    assert losses == pytest.approx(told, rel=1e-6)
    assert torch.allclose(torch.tensor(weight, dtype=torch.float64), module.weight, rtol=1e-9)


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [("constant", [1, 1, 1, 1]), ("linear", [1, 0.75, 0.5, 0.25]), ("cosine", [1, 0.8535534, 0.5, 0.1464466])],
)
def test_schedules(part, schedule, factors):
    rate_factor = part("training.schedule").rate_factor
    assert [rate_factor(schedule, step, 4, 0) for step in range(4)] == pytest.approx(factors)
    assert [rate_factor(schedule, step, 8, 3) for step in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_all_samples_come_up_before_one_comes_again(part):
    samples_at = part("training.chance").samples_at
    drawn = [each for position in range(10) for each in samples_at(3, position, 2, 5)]
    epochs = [drawn[at : at + 5] for at in range(0, 20, 5)]
    assert all(sorted(epoch) == list(range(5)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert drawn == [each for position in range(5) for each in samples_at(3, position, 4, 5)]
    assert drawn != [each for position in range(10) for each in samples_at(4, position, 2, 5)]
