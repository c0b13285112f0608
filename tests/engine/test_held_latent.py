"""Moving the latent that a sampler of ComfyUI holds: as though the sampler had had the moved one all along."""

import copy

import pytest
import torch

from gradients import GradientBench, slowly, soft
from guiding import Shifting

DETERMINISTIC = [
    *["euler", "euler_cfg_pp", "heun", "heunpp2", "exp_heun_2_x0", "dpm_2", "lms", "dpm_fast", "dpm_adaptive"],
    *["dpmpp_2m", "dpmpp_2m_cfg_pp", "ipndm", "ipndm_v", "deis", "res_multistep", "res_multistep_cfg_pp"],
    *["gradient_estimation", "gradient_estimation_cfg_pp", "ddim", "uni_pc", "uni_pc_bh2"],
]
ADDING_NOISE = [
    *["euler_ancestral", "euler_ancestral_cfg_pp", "exp_heun_2_x0_sde", "dpm_2_ancestral", "dpmpp_2s_ancestral"],
    *["dpmpp_2s_ancestral_cfg_pp", "dpmpp_sde", "dpmpp_sde_gpu", "dpmpp_2m_sde", "dpmpp_2m_sde_gpu"],
    *["dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu", "dpmpp_3m_sde", "dpmpp_3m_sde_gpu", "ddpm", "lcm"],
    *["res_multistep_ancestral", "res_multistep_ancestral_cfg_pp", "er_sde", "seeds_2", "seeds_3"],
    *["sa_solver", "sa_solver_pece"],
]
OWN_LEVELS = {"dpm_fast", "dpm_adaptive"}
"""Samplers that do not call the model at the levels of the schedule."""
TOLERANCE = {"dpm_adaptive": 0.05, "ipndm_v": 1e-3}
"""Of a difference, where it is not 2e-4: the first's own steps follow the latent within 0.05; the weights of the other
do not quite add up."""
FAST = ["euler", "heun", "lms", "dpmpp_2s_ancestral", "sa_solver", "uni_pc", "dpm_fast"]
ALL = slowly([*DETERMINISTIC, *ADDING_NOISE], FAST)
PICTURE = 0.3


@pytest.fixture(scope="module")
def sd1(comfy, part, tiny):
    return GradientBench(comfy, part, soft(comfy, tiny, "sd1"))


@pytest.fixture(scope="module")
def shift():
    return 3 * torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))


def moving(sd1, settings, model=None):
    """The MODEL with the technique."""
    with torch.inference_mode():
        return sd1.part("attention.engine.sampling").with_technique(model or sd1.model, settings)


def around_sampler(model, wrapper):
    """A clone with ``wrapper(executor, guider, sigmas, ...)`` around the sampler's work."""
    clone = model.clone()
    clone.add_wrapper_with_key("sampler_sample", "test", wrapper)
    return clone


def started_from(model, shift):
    """A clone whose samplers begin with a shifted latent."""

    def sample(executor, *args):
        sampler = executor.class_obj
        function = sampler.sampler_function
        sampler.sampler_function = lambda model, x, *args, **kwargs: function(model, x + shift, *args, **kwargs)
        try:
            return executor(*args)
        finally:
            sampler.sampler_function = function

    return around_sampler(model, sample)


def scheduled(model):
    """A clone, and the noise levels that its samplers are given."""
    levels = []

    def sample(executor, guider, sigmas, *args):
        levels.append(sigmas.tolist())
        return executor(guider, sigmas, *args)

    return around_sampler(model, sample), levels


def with_one_prediction(model):
    """A clone whose model says the same of every latent, and whose UNet is not asked."""
    fixed = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(4))
    clone = model.clone()
    clone.add_wrapper_with_key("diffusion_model", "test", lambda executor, x, *args, **kwargs: x)
    clone.set_model_sampler_pre_cfg_function(lambda args: [fixed.clone() for _ in args["conds_out"]])
    return clone


def columns(*values):
    """A mask ``(1, 64, 64)`` with a value for each column of 8 cells."""
    return torch.tensor(values, dtype=torch.float32).repeat_interleave(8).expand(1, 64, 64).clone()


def close(found, expected, change, name=""):
    """Whether two latents differ by less than is allowed of a change."""
    return (found - expected).abs().max() < TOLERANCE.get(name, 2e-4) * change.abs().max()


def test_all_samplers_are_here(comfy):
    from comfy.samplers import SAMPLER_NAMES

    assert sorted([*DETERMINISTIC, *ADDING_NOISE]) == sorted(SAMPLER_NAMES)


@pytest.mark.parametrize("name", ALL)
def test_moved_before_the_first_step(sd1, part, shift, name):
    run = {"steps": 5, "sampler_name": name}
    plain, expected = sd1.run(**run).latent, sd1.run(started_from(sd1.model, shift), **run).latent
    settings = Shifting(part, shift, [0])
    moved = sd1.run(moving(sd1, settings), **run).latent
    assert (plain - expected).abs().max() > 1, "it matters"
    assert close(moved, expected, plain - expected, name)
    assert [step for step, _ in settings.moves] == [0]


@pytest.mark.parametrize("name", slowly([*DETERMINISTIC, *ADDING_NOISE], ["euler", "uni_pc"]))
def test_moved_where_a_picture_is_inpainted(sd1, part, shift, name):
    """Only in the mask; elsewhere the picture stays what it was, in what is left of the noise too."""
    mask = columns(1, 1, 1, 1, 0, 0, 0, 0)
    run = {"steps": 5, "sampler_name": name, "mask": mask, "latent": torch.full((1, 4, 8, 8), PICTURE)}
    inside = shift * mask[:, ::8, ::8]
    plain, expected = sd1.run(**run).latent, sd1.run(started_from(sd1.model, inside), **run).latent
    moved = sd1.run(moving(sd1, Shifting(part, shift, [0])), **run).latent
    assert (plain - expected).abs().max() > 1
    assert close(moved, expected, plain - expected, name)
    torch.testing.assert_close(moved[..., 4:], plain[..., 4:], rtol=0, atol=1e-5)
    if name not in OWN_LEVELS:
        assert (moved[..., 4:] - PICTURE).abs().max() < 0.02, "but for noise of the level at which uni_pc stops"


@pytest.mark.parametrize("name", ALL)
def test_moved_between_steps(sd1, part, shift, name):
    """While the model says the same, a difference shrinks with the noise level, and faster where noise is added."""
    run = {"steps": 8, "sampler_name": name, "last_step": 6, "force_full_denoise": False}
    settings = Shifting(part, shift, [1, 3])
    model, levels = scheduled(with_one_prediction(moving(sd1, settings)))
    moved, plain = sd1.run(model, **run).latent, sd1.run(with_one_prediction(sd1.model), **run).latent
    difference = sd1.model.model.process_latent_in(moved - plain)
    assert [step for step, _ in settings.moves] == [1, 3]
    whole = shift * sum(levels[0][-1] / level for _, level in settings.moves)
    if name in DETERMINISTIC:
        torch.testing.assert_close(difference, whole, rtol=0, atol=1e-5)
    else:
        part_of_it = float((difference * whole).sum() / whole.square().sum())
        torch.testing.assert_close(difference, part_of_it * whole, rtol=0, atol=1e-5)
        assert part_of_it < 0.95
        assert part_of_it == pytest.approx(0, abs=1e-6) if name == "lcm" else part_of_it > 0.1


def test_samplers_that_take_nothing_along(sd1, part, shift):
    """LCM goes on with the prediction alone, which is of the moved latent."""
    run = {"steps": 5, "sampler_name": "lcm"}
    moved = sd1.run(moving(sd1, Shifting(part, shift, [2])), **run).latent
    assert (moved - sd1.run(**run).latent).abs().max() > 1


@pytest.mark.parametrize("name", ALL)
def test_moved_once_in_each_step(sd1, part, name):
    """At the latent of the step's beginning, however often the model is called."""
    settings = Shifting(part, 0.1)
    model, levels = scheduled(with_one_prediction(moving(sd1, settings)))
    sd1.run(model, steps=5, sampler_name=name)
    steps = [step for step, _ in settings.moves]
    if name in OWN_LEVELS:
        assert steps == sorted(set(steps)) and len(steps) > 2
        assert all(levels[0][step] * 1.001 >= level > levels[0][step + 1] for step, level in settings.moves)
    else:
        assert steps == [0, 1, 2, 3, 4]
        assert [level for _, level in settings.moves] == levels[0][:-1]


@pytest.mark.parametrize("name", slowly(["euler", "heun", "uni_pc", "dpmpp_2m_sde"], ["uni_pc"]))
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_differential_diffusion(sd1, part, shift, name, strength):
    """The mask at the step's noise level decides: at first the white alone, then what is lighter than the time left."""
    from comfy_extras.nodes_differential_diffusion import DifferentialDiffusion

    mask = columns(1.0, 1.0, 0.6, 0.6, 0.4, 0.4, 0.0, 0.0)
    run = {"sampler_name": name, "mask": mask, "latent": torch.full((1, 4, 8, 8), PICTURE)}
    softened = DifferentialDiffusion.execute(sd1.model, strength).args[0]
    cells = mask[:, ::8, ::8]
    first = strength * (cells == 1) + (1 - strength) * cells
    plain = sd1.run(softened, steps=5, **run).latent
    expected = sd1.run(started_from(softened, shift * first), steps=5, **run).latent
    moved = sd1.run(moving(sd1, Shifting(part, shift, [0]), softened), steps=5, **run).latent
    assert close(moved, expected, plain - expected, name)

    run |= {"steps": 8, "last_step": 6, "force_full_denoise": False}
    settings = Shifting(part, shift, [3])
    model, levels = scheduled(with_one_prediction(moving(sd1, settings, softened)))
    moved, plain = sd1.run(model, **run).latent, sd1.run(with_one_prediction(softened), **run).latent
    difference = sd1.model.model.process_latent_in(moved - plain)
    then = strength * (cells >= 0.6) + (1 - strength) * cells
    whole = shift * then * levels[0][-1] / levels[0][3]
    if name == "dpmpp_2m_sde":
        whole = whole * float((difference * whole).sum() / whole.square().sum())
    torch.testing.assert_close(difference, whole, rtol=0, atol=1e-5)


def custom(sd1, model, sampler, latent=None, noise=None):
    """The latents of SamplerCustomAdvanced with a SAMPLER, and the noise levels of its five steps."""
    from comfy.samplers import CFGGuider, calculate_sigmas
    from comfy_extras.nodes_custom_sampler import Noise_RandomNoise, SamplerCustomAdvanced

    sigmas = calculate_sigmas(model.get_model_object("model_sampling"), "normal", 5)
    guider = CFGGuider(model)
    guider.set_conds(sd1.positive, sd1.negative)
    guider.set_cfg(4.0)
    latent = torch.zeros(1, 4, 8, 8) if latent is None else latent
    with torch.inference_mode():
        noise = noise or Noise_RandomNoise(1)
        out = SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, {"samples": latent}).args[0]
    return out["samples"], sigmas.tolist()


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.5])
def test_sa_solver_of_its_own_node(sd1, part, shift, eta):
    """How much noise it renews is an input there."""
    from comfy_extras.nodes_custom_sampler import SamplerSASolver

    sampler = SamplerSASolver.execute(sd1.model, eta, 0.1, 0.7, 1.0, 3, 4, False, False).args[0]
    plain, expected = (custom(sd1, model, sampler)[0] for model in (sd1.model, started_from(sd1.model, shift)))
    moved, _ = custom(sd1, moving(sd1, Shifting(part, shift, [0])), sampler)
    assert close(moved, expected, plain - expected)


def test_sampler_without_a_function(sd1, part, shift):
    """One of another pack's making, a class of its own: its latent is moved in place."""
    from comfy.samplers import Sampler

    class Theirs(Sampler):
        def __init__(self, shift):
            self.shift = shift

        def sample(self, model_wrap, sigmas, extra_args, callback, noise, latent_image, denoise_mask, disable_pbar):
            x = noise * sigmas[0] + self.shift
            for high, low in zip(sigmas, sigmas[1:], strict=False):
                denoised = model_wrap(x, high * x.new_ones([1]), **extra_args)
                x = denoised + (x - denoised) * (low / high)
            return x

    plain, expected = (custom(sd1, sd1.model, Theirs(start))[0] for start in (0.0, shift))
    moved, _ = custom(sd1, moving(sd1, Shifting(part, shift, [0])), Theirs(0.0))
    assert (plain - expected).abs().max() > 1
    assert close(moved, expected, plain - expected)


def test_another_pack_hands_on_a_copy(sd1, part, shift):
    """The network's input and the sampler's latent are moved both."""

    def copied(executor, x, *args, **kwargs):
        return executor(x.clone(), *args, **kwargs)

    model = moving(sd1, Shifting(part, shift, [0])).clone()
    model.add_wrapper_with_key("predict_noise", "another", copied)
    plain, expected = sd1.run().latent, sd1.run(started_from(sd1.model, shift)).latent
    assert close(sd1.run(model).latent, expected, plain - expected)


def test_what_a_run_was_given_stays(sd1, part, shift):
    from comfy.samplers import sampler_object

    class Given:
        seed, tensor = 1, torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(6))

        def generate_noise(self, latent):
            return self.tensor

    latent, sampler = torch.full((1, 4, 8, 8), PICTURE), sampler_object("euler")
    noise, before = Given.tensor.clone(), copy.copy(sampler)
    custom(sd1, moving(sd1, Shifting(part, shift)), sampler, latent, Given())
    assert torch.equal(Given.tensor, noise) and torch.all(latent == PICTURE)
    assert vars(sampler) == vars(before)


def test_samplers_are_left_alone_unless_something_moves(sd1, part, shift):
    """Other techniques with gradients run with the very sampler that was chosen."""
    from comfy.samplers import sampler_object

    samplers = []

    def sample(executor, *args):
        samplers.append((executor.class_obj, executor.class_obj.sampler_function))
        return executor(*args)

    sampler = sampler_object("uni_pc")
    still = Shifting(part, shift)
    still.moves_latent = False
    models = [sd1.model, moving(sd1, still), moving(sd1, Shifting(part, shift))]
    latents = [custom(sd1, around_sampler(model, sample), sampler)[0] for model in models]
    assert torch.equal(latents[0], latents[1])
    assert not torch.equal(latents[0], latents[2])
    assert [found is sampler and function is sampler.sampler_function for found, function in samplers] == [
        *[True, True, False],
    ]
