"""Subjects in numbers: the examples of the specification, and every part against a slow version of it."""

import pytest
import torch

from injecting import slow_fusion, slow_pixels
from tiny_adapter import Sizes, weights_of


@pytest.fixture(scope="module")
def fusion(part):
    """``fusion(weights)``: a fusion head with a checkpoint's weights."""

    def of(weights):
        prefix = "postfuse_module."
        own = {name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)}
        head = part("subjects.fusion").FusionHead.for_weights(own)
        head.load_state_dict(own)
        return head

    return of


def test_the_toy_example_of_the_fusion_head(fusion):
    """Two columns: the first perceptron picks one column of the row and one of the picture, the second is the
    identity."""
    identity = torch.eye(2)
    weights = {
        "mlp1.fc1.weight": torch.tensor([[1.0, 0, 0, 0], [0, 0, 1, 0]]),
        **{f"{name}.weight": identity for name in ("mlp1.fc2", "mlp2.fc1", "mlp2.fc2")},
        **{f"{name}.bias": torch.zeros(2) for name in ("mlp1.fc1", "mlp1.fc2", "mlp2.fc1", "mlp2.fc2")},
    }
    for name, width in {"mlp1.layernorm": 4, "mlp2.layernorm": 2, "layer_norm": 2}.items():
        weights |= {f"{name}.weight": torch.ones(width), f"{name}.bias": torch.zeros(width)}
    head = fusion({f"postfuse_module.{name}": value for name, value in weights.items()})
    row, embedding = torch.tensor([1.0, -1.0]), torch.tensor([2.0, 0.0])
    both = torch.tensor([1.0, -1.0, 2.0, 0.0])
    first = head.mlp1(both) + row
    assert head.mlp1.layernorm(both).tolist() == pytest.approx([0.447212, -1.341635, 1.341635, -0.447212], abs=2e-6)
    assert first.tolist() == pytest.approx([1.300812, 0.221080], abs=2e-6)
    assert (first + head.mlp2(first)).tolist() == pytest.approx([2.142138, 0.062423], abs=2e-6)
    assert head(row, embedding).tolist() == pytest.approx([0.999995, -0.999995], abs=2e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float16, 2e-2)])
def test_the_fusion_head_is_the_published_one(fusion, dtype, tolerance):
    weights = weights_of(Sizes(width=24))
    head = fusion({name: value.to(dtype) for name, value in weights.items() if value.is_floating_point()})
    generator = torch.Generator().manual_seed(3)
    rows, embeddings = torch.randn(2, 3, 24, generator=generator), torch.randn(3, 24, generator=generator)
    found = head(rows.to(dtype), embeddings)
    assert found.dtype == torch.float32
    for latent in range(2):
        for place in range(3):
            expected = slow_fusion(weights, rows[latent, place], embeddings[place])
            assert (found[latent, place] - expected).abs().max() < tolerance
            assert (expected - rows[latent, place]).abs().max() > 0.3


@pytest.mark.parametrize(
    ("alpha", "published", "corrected"), [(0.7, 16, 15), (0.75, 13, 12), (0.6, 21, 20), (0.5, 26, 25), (1.0, 1, 0)]
)
def test_steps_with_the_text_alone(part, alpha, published, corrected):
    count = part("attention.subjects").text_only_steps
    assert count(1 - alpha, 50, published=True) == published
    assert count(1 - alpha, 50, published=False) == corrected
    steps = [step for step in range(50) if step <= round((1 - alpha) * 50, 6)]
    assert len(steps) == published


def test_text_only_steps_of_any_number(part):
    count = part("attention.subjects").text_only_steps
    assert count(10 / 50, 50, published=True) == 11
    for steps in range(1, 60):
        for delay in (0.0, 0.1, 0.29, 1 / 3, 0.5, 0.999, 1.0):
            assert 1 <= count(delay, steps, published=True) <= steps
            assert abs(count(delay, steps, published=False) - delay * steps) <= 0.5


@pytest.mark.parametrize("size", [(40, 40), (16, 16), (41, 20), (20, 41), (7, 9), (5, 50)])
def test_pictures_are_prepared_as_published(part, size):
    """Larger and smaller than the encoder's 16 pixels, square and not, with an odd number of pixels to pad."""
    image = torch.rand(1, *size, 4, generator=torch.Generator().manual_seed(1))
    preprocess = part("subjects.preprocess")
    (picture,) = preprocess.references(image, None)
    assert abs(picture.shape[1] - picture.shape[2]) <= 1
    expected = slow_pixels(image[0, :, :, :3], 16)
    assert (preprocess.normalised(picture, 16) - expected).abs().max() < 1e-5


def test_nothing_is_rounded_to_8_bits(part):
    preprocess = part("subjects.preprocess")
    image = torch.full((2, 8, 8, 3), 0.5)
    image[1] += 1e-4
    one, other = (preprocess.normalised(picture, 4) for picture in preprocess.references(image, None))
    assert (other - one).amin() > 1e-4


def test_a_mask_makes_the_rest_black(part):
    references = part("subjects.preprocess").references
    images = torch.rand(2, 6, 4, 3, generator=torch.Generator().manual_seed(1)) + 0.1
    mask = torch.zeros(1, 6, 4)
    mask[:, :, 2:] = 1
    for picture, image in zip(references(images, mask), images, strict=True):
        assert torch.equal(picture[:, :, 3:5], image[:, 2:].movedim(-1, 0))
        assert picture[:, :, [0, 1, 2, 5]].count_nonzero() == 0
    small = torch.tensor([[[0.0, 1.0]]])
    assert torch.equal(references(images, small)[0][:, :, 4], images[0, :, 3].movedim(-1, 0))
    for masks, message in (
        (torch.ones(3, 6, 4), "There are 3 masks for 2 reference pictures"),
        (torch.stack([mask[0], torch.zeros(6, 4)]), "Mask 2 of the reference pictures is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            references(images, masks)
