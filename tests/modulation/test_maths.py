"""The tensor functions of attention modulation, against examples computed by hand and slow versions of themselves."""

import math

import pytest
import torch

from modulation_reference import attention as slow_attention
from modulation_reference import probabilities as slow_probabilities

WORDS = ["red", "car", "white", "sheep", "on"]
LOGITS = torch.tensor([[1, 0.5, 2, 0.3, 1.5, 0.2], [1, 0.4, 0.8, 1.2, 1.6, 0.2]])


@pytest.fixture(scope="module")
def maths(part):
    """Modules of the pack's attention, by name."""
    return lambda name: part(f"attention.{name}")


@pytest.fixture(scope="module")
def example(part):
    """The columns start, red, car, white, sheep, on, with the groups red car and white sheep; no end, no padding."""
    module = part("parsing.binding")
    text, rows, spans = " ".join(WORDS), [module.Row("start")], {}
    for word in WORDS:
        spans[word] = module.Span(text.index(word), text.index(word) + len(word))
        rows.append(module.Row("text", word, spans[word]))
    phrases = {word: module.Phrase(word, (span,)) for word, span in spans.items()}
    entities = tuple(module.Entity(b, phrases[b], (phrases[a],)) for a, b in (("red", "car"), ("white", "sheep")))
    return module.Binding("key", text, text, entities, (module.EncoderTokens("l", tuple(rows)),), "by hand")


class OneCall:
    """One pass with two patches of known logits, and the interventions of techniques in it."""

    def __init__(self, maths, binding, step=0, steps=1):
        calls, rows = maths("engine.calls"), maths("engine.rows")
        self.layer = calls.Layer("input", 1, 0, 0)
        sigmas = tuple(float(steps - n) for n in range(steps + 1))
        self.run = maths("engine.run").Run((self.layer,), sigmas, 1, 1, 2, 8, given={0: binding.key})
        self.chunk = rows.Chunk(0, 1, rows.BoundCond(binding.key, 6, None))
        self.call = calls.Call(step, 1, (0,), (self.chunk,), 6)
        q, k = torch.eye(2)[None] * 2**0.5, LOGITS.T[None].contiguous()
        self.attention = calls.Attention(self.layer, (1, 2), 1, q, k)
        self.mean_probabilities = maths("engine.probabilities").mean_probabilities

    def probabilities(self, *settings):
        bias = torch.zeros(1, 1, 2, 6)
        for participant in (one.begin(self.run) for one in settings):
            if participant.wants(self.call):
                for chunk, added in participant.bias_cross(self.call, self.attention):
                    bias[chunk.rows, 0] += added
        return self.mean_probabilities(self.attention.q, self.attention.k, 1, None, bias)[0]


def focus(maths, binding, **changes):
    given = {"same_layer": True, "score": "sum", "min_share": 0.0, "close_background": False, "close_end": False}
    given |= {"penalty": maths("modulation.object_focus").CLOSED, "start": 0.0, "end": 1.0}
    return maths("modulation.object_focus").FocusSettings(binding, **{**given, **changes})


def weights(maths, binding, words=(1.2, 0.8), entities=(0.8, 1.2)):
    module = maths("modulation.stage_weights")
    shapes = module.Shape("linear", *words), module.Shape("linear", *entities)
    return module.WeightSettings(binding, *shapes, False, lambda plan: None)


@pytest.mark.parametrize(
    ("tau", "expected", "entropy"),
    [
        (1.0, (0.665241, 0.244728, 0.090031), 0.832396),
        (0.5, (0.866813, 0.117310, 0.015876), 0.441057),
        (2.0, (0.506480, 0.307196, 0.186324), None),
    ],
)
def test_temperature_on_three_logits(maths, example, tau, expected, entropy):
    one = OneCall(maths, example)
    participant = maths("modulation.temperature").TemperatureSettings(tau, "all", 0.0, 1.0, True).begin(one.run)
    factors = participant.scale_self(one.call) if participant.wants(one.call) else [1.0]
    q, k = torch.ones(1, 1, 1) * factors[0], torch.tensor([2.0, 1.0, 0.0]).view(1, 3, 1)
    found = one.mean_probabilities(q, k, 1)[0, 0]
    assert found.tolist() == pytest.approx(expected, abs=1e-6)
    if entropy is not None:
        assert -(found * found.log()).sum().item() == pytest.approx(entropy, abs=1e-6)


def test_two_patches_see_their_own_entity(maths, example):
    one = OneCall(maths, example)
    groups = maths("engine.rows").membership([((1, 2), 1.0), ((3, 4), 1.0)], 6, 6, 6, torch.device("cpu"))
    scores = one.attention.probabilities(one.chunk, groups)[0]
    assert scores.flatten().tolist() == pytest.approx((0.480503, 0.310040, 0.233353, 0.519337), abs=1e-6)
    found = one.probabilities(focus(maths, example))
    assert found[0].tolist() == pytest.approx((0.209462, 0.127045, 0.569376, 0, 0, 0.094117), abs=1e-6)
    assert found[1].tolist() == pytest.approx((0.222576, 0, 0, 0.271855, 0.405560, 0.100010), abs=1e-6)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, (0.238149, 0.115556, 0.517886, 0, 0, 0.128409)),
        (1, (0.209462, 0.127045, 0.569376, 0, 0, 0.094117)),
        (2, (0.186943, 0.136064, 0.609795, 0, 0, 0.067199)),
    ],
)
def test_weights_of_the_first_the_middle_and_the_last_step(maths, example, step, expected):
    one = OneCall(maths, example, step, steps=3)
    found = one.probabilities(focus(maths, example), weights(maths, example))
    assert found[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_weights_of_the_middle_step_do_nothing(maths, example):
    one = OneCall(maths, example, 1, steps=3)
    assert not weights(maths, example).begin(one.run).wants(one.call)


def test_temperature_of_the_positive_leaves_the_negative(maths, example):
    one = OneCall(maths, example)
    settings = maths("modulation.temperature").TemperatureSettings
    call = one.call._replace(negative=(True, False, False))
    assert settings(0.5, "all", 0.0, 1.0, False).begin(one.run).scale_self(call) == (1, 2, 2)
    assert settings(0.5, "all", 0.0, 1.0, True).begin(one.run).scale_self(call) == (2, 2, 2)
    assert not settings(0.5, "all", 0.0, 1.0, False).begin(one.run).wants(one.call._replace(negative=(True,)))


def test_factors_of_rows_that_were_tiled(part):
    by_row = part("attention.engine.patching")._by_row
    q = torch.ones(6, 2, 4)
    assert by_row((2.0, 2.0), q) == 2.0
    assert by_row((1.0, 3.0), q).flatten().tolist() == [1, 1, 1, 3, 3, 3]


def test_roles_of_a_prompt_with_two_encoders(maths, part, tiny):
    """SDXL: an embedding of one row each, and a second chunk; the start tokens are in no role."""
    from attention_reference import bind

    bound = bind(part, tiny("sdxl").clip, "a red cat " + "in a park " * 30 + "and a blue dog", "cat: red | dog: blue")
    roles = maths("engine.roles").roles_of(bound.binding, bound.binding.entities)
    assert roles.groups == ((2, 3), (98, 99))
    assert roles.words == (1, *range(4, 76), *range(78, 98))
    assert roles.end == (76, *range(100, 154))


def test_encoders_that_cut_a_prompt_differently(maths, part, example):
    """One has two rows for "car": then a position is a group's before a word's, and a word's before the end's."""
    from dataclasses import replace

    module = part("parsing.binding")
    rows = list(example.encoders[0].rows)
    longer = [*rows[:3], rows[2], *rows[3:], module.Row("end"), module.Row("padding")]
    shorter = [*rows, module.Row("end"), module.Row("padding"), module.Row("padding")]
    both = replace(
        example, encoders=tuple(module.EncoderTokens(n, tuple(r)) for n, r in (("l", shorter), ("g", longer)))
    )
    roles = maths("engine.roles").roles_of(both, both.entities)
    assert roles.groups == ((1, 2, 3), (3, 4, 5))
    assert roles.words == (6,)
    assert roles.end == (7, 8)
    one_entity = maths("engine.roles").roles_of(both, both.entities[:1])
    assert one_entity.groups == ((1, 2, 3),)
    assert one_entity.words == (4, 5, 6)


def test_a_shared_token_is_open_to_both_entities(maths, example):
    from dataclasses import replace

    red = example.entities[0].attributes
    both = replace(example, entities=tuple(replace(entity, attributes=red) for entity in example.entities))
    roles = maths("engine.roles").roles_of(both, both.entities)
    assert roles.groups == ((1, 2), (1, 4))
    table = maths("modulation.object_focus").penalties(
        roles, 2, 6, focus(maths, both, penalty=3.0, close_background=True)
    )
    assert table.tolist() == [[0, 0, 0, 0, -3, 0], [0, 0, -3, 0, 0, 0], [0, -3, -3, 0, -3, 0]]


def test_penalties(maths, example):
    roles = maths("engine.roles").Roles(((1,), (2, 3)), (4,), (5, 6))
    table = maths("modulation.object_focus").penalties
    assert table(roles, 2, 7, focus(maths, example, penalty=2.0)).tolist() == [
        [0, 0, -2, -2, 0, 0, 0],
        [0, -2, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ]
    closed = focus(maths, example, penalty=2.0, close_end=True, close_background=True)
    assert table(roles, 2, 7, closed).tolist() == [
        [0, 0, -2, -2, 0, -2, -2],
        [0, -2, 0, 0, 0, -2, -2],
        [0, -2, -2, -2, 0, 0, 0],
    ]


def test_penalties_where_only_the_first_entity_has_patches(maths, example):
    """The second may be anywhere else: the background is closed to the first alone."""
    roles = maths("engine.roles").Roles(((1, 4), (2, 3, 4)), (), (5, 6))
    closed = focus(maths, example, penalty=2.0, close_background=True)
    assert maths("modulation.object_focus").penalties(roles, 1, 7, closed).tolist() == [
        [0, 0, -2, -2, 0, 0, 0],
        [0, -2, 0, 0, 0, 0, 0],
    ]


def test_values_of_rows_over_all_columns(maths):
    over = maths("engine.roles").over_columns
    row = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert over(row, 3, 3).tolist() == row.tolist()
    assert over(row, 6, 8).tolist() == [[1, 2, 3, 1, 2, 3, 0, 0], [4, 5, 6, 4, 5, 6, 0, 0]]


def test_weights_on_rows(maths):
    module, roles = maths("modulation.stage_weights"), maths("engine.roles").Roles(((1,), (2, 3)), (4,), (5,))
    found = module.log_weights(roles, 7, 2.0, 0.5, 1.5)
    assert found.exp().tolist() == pytest.approx([1, 0.5, 0.5, 0.5, 2, 1.5, 1])
    assert module.log_weights(roles, 7, 0.0, 1.0, 1.0).tolist() == [0, 0, 0, 0, -module.CLOSED, 0, 0]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("linear", (1.2, 1.1, 1.0, 0.9, 0.8)),
        ("cosine", (1.2, 1 + 0.2 * math.cos(math.pi / 4), 1.0, 1 - 0.2 * math.cos(math.pi / 4), 0.8)),
        ("step", (1.2, 1.2, 0.8, 0.8, 0.8)),
    ],
)
def test_shapes(maths, kind, expected):
    shape = maths("modulation.stage_weights").Shape(kind, 1.2, 0.8)
    assert [shape(stage) for stage in (0, 0.25, 0.5, 0.75, 1)] == pytest.approx(expected)


def test_step_where_it_switches(maths):
    shape = maths("modulation.stage_weights").Shape
    assert [shape("step", 0, 1, at)(0.3) for at in (0.0, 0.3, 0.31, 1.0)] == [1, 1, 0, 0]
    assert [shape("step", 0, 1, 1.0)(stage) for stage in (0, 1)] == [0, 1]


def test_stages_are_from_the_first_to_the_last_step(maths):
    stage_of = maths("modulation.stage_weights").stage_of
    assert [stage_of(step, 5) for step in range(5)] == [0, 0.25, 0.5, 0.75, 1]
    assert stage_of(0, 1) == 0


@pytest.mark.parametrize(
    ("name", "levels"), [("all", {0, 1, 2, 3}), ("latent/2 and latent/4", {1, 2}), ("latent/8", {3})]
)
def test_layers_by_their_grid(maths, tiny, name, levels):
    layers = maths("engine.layers").layers_of(tiny("sd1").model)
    assert {layer.level for layer in maths("modulation.temperature").layers_at(name, layers)} == levels


def test_probabilities_with_a_bias(maths, monkeypatch):
    module, generator = maths("engine.probabilities"), torch.Generator().manual_seed(1)
    q, k = (torch.randn(2, n, 64, generator=generator) for n in (300, 77))
    bias = torch.where(torch.rand(2, 1, 300, 77, generator=generator) < 0.3, -1e4, 0.5)
    groups = torch.rand(77, 3, generator=generator)
    expected = slow_probabilities(q.double(), k.double(), 4, bias[:, 0].double()).mean(1)
    for elements in (module.WORKING_ELEMENTS, 5000):
        monkeypatch.setattr(module, "WORKING_ELEMENTS", elements)
        assert (module.mean_probabilities(q, k, 4, None, bias) - expected).abs().max() < 1e-6
        found = module.mean_probabilities(q, k, 4, groups, bias)
        assert (found - expected @ groups.double()).abs().max() < 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["attention_basic", "attention_sub_quad", "attention_split", "attention_pytorch"])
def test_half_precision_with_a_closed_token(maths, comfy, name, dtype):
    """The bias is in the precision of the queries: -1e4 twice is within its range, and closed is closed."""
    from comfy.ldm.modules import attention as core

    closed = maths("modulation.object_focus").CLOSED
    generator = torch.Generator().manual_seed(2)
    q, k, v = (torch.randn(2, n, 32, generator=generator).to(dtype) for n in (50, 9, 9))
    bias = torch.zeros(2, 1, 50, 9)
    bias[0, :, :25, 2:5] = -2 * closed
    bias[1, :, :, 7] = math.log(0.8)
    v[0, 2:5] = 100
    bias = bias.to(dtype)
    assert bias.isfinite().all()
    found = getattr(core, name)(q, k, v, 2, mask=bias).double()
    expected = slow_attention(q.double(), k.double(), v.double(), 2, bias[:, 0].double())
    assert (found - expected).abs().amax((1, 2)).tolist() < [1.0, 0.05]
    assert (found - expected)[0, :25].abs().max() < 0.05, "nothing of the closed tokens' hundreds"
    assert found[0, 25:].abs().max() > 10
