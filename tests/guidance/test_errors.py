"""What ends a guided run: interrupts and errors, after which all is as it was, and what is refused."""

from dataclasses import replace

import pytest
import torch

from gradients import slowly
from guiding import STRONG, widgets
from merge import GRADIENT


def interrupt():
    import comfy.model_management

    comfy.model_management.interrupt_current_processing()


@pytest.mark.parametrize("line", slowly([1, 2, 5, 6], [2]))
def test_interrupt_at_any_update(sd1, lines, line):
    from comfy.model_management import InterruptProcessingException

    plain = sd1.run().latent
    model = sd1.guide("layout", threshold=0.0, iterations=3, end=1.0)
    lines.act = lambda number: interrupt() if number == line else None
    with torch.inference_mode(), sd1.unchanged(model), pytest.raises(InterruptProcessingException):
        sd1.run(model)
    assert len(lines) == line, "the next update is not begun"
    assert torch.equal(sd1.run().latent, plain)


@pytest.mark.parametrize("line", slowly([1, 3], [3]))
def test_error_in_the_middle(sd1, lines, line):
    def fail(number):
        if number == line:
            raise ZeroDivisionError

    plain = sd1.run().latent
    model = sd1.guide("attend and excite", thresholds="0: 1", refinements=2, end=1.0)
    lines.act = fail
    with torch.inference_mode(), sd1.unchanged(model), pytest.raises(ZeroDivisionError):
        sd1.run(model)
    assert torch.equal(sd1.run().latent, plain)


def test_gradient_that_is_no_number(sd1):
    """The error names the method and what to do, and nothing is left of the run."""

    def patch(h, options):
        return h * torch.inf if options.get(GRADIENT) else h

    model = sd1.guide("syngen", sd1.guide("layout", **STRONG["layout"]))
    model.set_model_input_block_patch(patch)
    expected = "layout guidance, SynGen is no number.*--bf16-unet"
    with torch.inference_mode(), sd1.unchanged(model), pytest.raises(ValueError, match=expected):
        sd1.run(model)


def test_nested_guidance_is_refused(sd1):
    from comfy.patcher_extension import WrappersMP

    def guided(executor, x, timestep, *args, **kwargs):
        with torch.inference_mode(False), torch.enable_grad():
            return executor(x.clone().requires_grad_(), timestep.clone(), *args, **kwargs).detach()

    model = sd1.guide("syngen").clone()
    model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "another", guided)
    with torch.inference_mode(), sd1.unchanged(model), pytest.raises(ValueError, match="Another node takes gradients"):
        sd1.run(model)


def test_syngen_of_merged_tokens_is_refused(sd1):
    model = sd1.guide("syngen", sd1.merged.model)
    with pytest.raises(ValueError, match="Semantic Token Merge has merged them already. Use one of the two"):
        sd1.run(model, sd1.merged.conditioning)


def test_sampler_without_the_bound_conditioning(sd1):
    expected = 'Attention Guidance has nothing to act on.*"a red cat and a blue dog".*Connect'
    with pytest.raises(ValueError, match=expected):
        sd1.run(sd1.guide("syngen"), sd1.encode("a red cat and a blue dog"))


def test_conditioning_that_has_lost_rows(sd1):
    ((rows, values),) = sd1.positive
    with pytest.raises(ValueError, match="has only 40 rows; its prompt has 77"):
        sd1.run(sd1.guide("syngen"), [[rows[:, :40], values]])


def test_masks_of_another_batch(sd1):
    binding = sd1.bound.binding.with_entity("cat", mask=torch.ones(3, 8, 8))
    with pytest.raises(ValueError, match="cat has 3 masks and there are 2 latents"):
        sd1.run(sd1.guide("layout", binding=binding, **STRONG["layout"]), batch=2)


REFUSED = {
    "layout without regions": ("layout", {}, "bound", "draws entities into their regions.*Assign Mask"),
    "token and pixel without": ("token and pixel", {}, "bound", "token and pixel losses draws.*Assign Mask"),
    "no attributes": ("syngen", {}, "bare", 'no entity of "a cat and a dog" has any.*Use another method'),
    "no entities": ("entropy", {}, "without", 'no entities in "a cat and a dog"'),
    "empty range": ("syngen", {"start": 0.5, "end": 0.5}, "boxed", r"start \(0.5\) must be below end \(0.5\)"),
    "range the wrong way": ("layout", {"start": 0.6, "end": 0.5}, "boxed", r"start \(0.6\) must be below end"),
    "thresholds": ("attend and excite", {"thresholds": "0, 1"}, "boxed", 'like "0: 0.05.*Found: "0, 1"'),
}


@pytest.mark.parametrize("case", REFUSED)
def test_settings_that_are_refused(sd1, case):
    """When the node runs, with what was found and what to do."""
    loss, changes, name, expected = REFUSED[case]
    bare = sd1.bind("a cat and a dog", "cat | dog").binding
    bindings = {
        "bound": sd1.bound.binding,
        "boxed": sd1.binding,
        "bare": bare,
        "without": replace(bare, entities=()),
    }
    with pytest.raises(ValueError, match=expected):
        sd1.guide(loss, binding=bindings[name], **changes)


def test_layers_that_the_model_lacks(bench):
    with pytest.raises(ValueError, match="no attention layers at latent/8. It has some at: latent/2, latent/4"):
        bench("sdxl").guide("syngen", layers="latent/8")


def test_unknown_loss(sd1, part):
    """ComfyUI leaves the input away where its choice is none of the options."""
    with pytest.raises(ValueError, match="loss must be one of: attend and excite, syngen, layout, token and pixel"):
        part("nodes.guidance.guidance").SBAttentionGuidance.execute(sd1.model, sd1.binding, None)


def test_entity_without_tokens(sd1):
    """Such as one that came with another prompt's binding."""
    binding = sd1.bound.binding
    gone = replace(binding.entities[0].noun, spans=())
    with pytest.raises(ValueError, match="no tokens in the conditioning for: cat"):
        sd1.guide("entropy", binding=binding.with_entity("cat", noun=gone))


def test_what_the_node_says(sd1, part):
    node = part("nodes.guidance.guidance").SBAttentionGuidance
    out = node.execute(sd1.model, sd1.binding.with_entity("dog", box=None), widgets("layout"))
    assert out.ui["text"] == ("layout guidance: cat",)


def test_nouns_that_were_not_merged_keep_all_their_pieces(part, tiny):
    from types import SimpleNamespace

    from attention_reference import bind

    binding = bind(part, tiny("sd1").clip, "a red cat and an axolotl", "cat: red | axolotl").binding
    whole = [binding.positions([entity.noun]) for entity in binding.entities]
    assert len(whole[1]) > 1
    method = SimpleNamespace(entities=lambda binding: binding.entities)

    def rows(merged):
        run = SimpleNamespace(merged=merged)
        objective = SimpleNamespace(binding=binding, run=run, method=method)
        return part("attention.guidance.objective").CommonObjective.nouns(objective)

    assert rows(frozenset()) == whole
    assert rows(frozenset({binding.key})) == [whole[0][:1], whole[1]]


def test_thresholds(part):
    read = part("nodes.guidance.guidance").thresholds
    assert read("0: 0.05, 0.2: 0.5, 0.4: 0.8") == ((0.0, 0.05), (0.2, 0.5), (0.4, 0.8))
    assert read("0.5:1,") == ((0.5, 1.0),)
    assert read("") == read("  ") == ()


@pytest.mark.parametrize("text", ["0.5", "half: 0.5", "0: 1.5", "-0.1: 0.5", "0: nan", "0: 0.5; 0.2: 0.8", "0: 0.5: 1"])
def test_thresholds_that_are_none(part, text):
    with pytest.raises(ValueError, match="pairs of numbers from 0 to 1.*Found: "):
        part("nodes.guidance.guidance").thresholds(text)
