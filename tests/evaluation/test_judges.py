"""What judges answer, against transformers' own classes called plainly."""

import pytest
import torch

TEXTS = ["Is the cat black?", "are there two dogs?"]


@pytest.fixture
def asked(part):
    question = part("evaluation.judges.questions").Question
    return [question(text, "cat", "own", True, text.rstrip("?")) for text in TEXTS]


@pytest.fixture
def pixels(noise):
    return (noise[0] * 255).round().to(torch.uint8).numpy()


def share(logits, yes, no):
    """P(yes) of the two."""
    probabilities = logits.double().softmax(-1)
    yes, no = probabilities[yes].sum().item(), probabilities[no].sum().item()
    return yes / (yes + no)


def blip_answer(folder, pixels, text, size, monkeypatch):
    """By transformers' BlipForQuestionAnswering, with the first token that its authors give."""
    from transformers import BlipForQuestionAnswering, BlipProcessor

    processor = BlipProcessor.from_pretrained(folder, local_files_only=True)
    module = BlipForQuestionAnswering.from_pretrained(folder, local_files_only=True).eval()
    kept = {}
    forward = module.text_decoder.forward
    monkeypatch.setattr(
        module.text_decoder, "forward", lambda *args, **kwargs: kept.setdefault("out", forward(*args, **kwargs))
    )
    inputs = processor(images=pixels, text=text.lower(), size={"height": size, "width": size}, return_tensors="pt")
    start = module.config.text_config.bos_token_id
    inputs["input_ids"][:, 0] = start + 1
    assert module.decoder_start_token_id == start == module.config.text_config.vocab_size - 2
    with torch.no_grad():
        module(**inputs, decoder_input_ids=torch.tensor([[start]]), interpolate_pos_encoding=size != 32)
    yes, no = processor.tokenizer.convert_tokens_to_ids(["yes", "no"])
    return share(kept["out"].logits[0, 0], [yes], [no])


@pytest.mark.parametrize(("published", "size"), [(False, 32), (True, 480)])
def test_blip_answers_as_transformers_blip(
    load_judge, judges_folder, noise, pixels, asked, monkeypatch, published, size
):
    from dataclasses import replace

    judge = replace(load_judge("blip"), as_published=published)
    expected = [blip_answer(judges_folder / "blip", pixels, text, size, monkeypatch) for text in TEXTS]
    assert judge.answer(noise[0], asked) == pytest.approx(expected, rel=1e-4)
    assert abs(expected[0] - expected[1]) > 0.001


def test_blip_s_published_questions_end_at_35_tokens(load_judge, part, noise):
    """Of this small one at the 24 that it reads; other questions are not cut."""
    from dataclasses import replace

    question = part("evaluation.judges.questions").Question
    judge = load_judge("blip")
    long, longer = (question("cat " * count + "?", "cat", "own") for count in (30, 40))
    published = replace(judge, as_published=True)
    (first, second) = published.answer(noise[0], [long, longer])
    assert first == pytest.approx(second, rel=1e-6)
    with pytest.raises(ValueError, match="reads 24 tokens and this question has 33: cat cat"):
        judge.answer(noise[0], [long])


@pytest.mark.parametrize("name", ["qwen", "paligemma"])
def test_vision_language_models_answer_as_transformers(load_judge, judges_folder, noise, pixels, asked, name):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(judges_folder / name, local_files_only=True)
    module = AutoModelForImageTextToText.from_pretrained(judges_folder / name, local_files_only=True).eval()
    expected = []
    for text in TEXTS:
        if name == "qwen":
            request = f"{text} Answer with one word: yes or no."
            prompt = (
                "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>"
                f"{request}<|im_end|>\n<|im_start|>assistant\n"
            )
            yes, no = [9693, 9454, 9834, 7414], [2152, 2753, 902, 2308]
            assert processor.tokenizer.convert_ids_to_tokens(yes + no) == [
                *("yes", "Yes", "\u0120yes", "\u0120Yes", "no", "No", "\u0120no", "\u0120No")
            ]
        else:
            prompt = f"<image>answer en {text}"
            yes, no = (processor.tokenizer.convert_tokens_to_ids([word, f"\u2581{word}"]) for word in ("yes", "no"))
        inputs = processor(images=pixels, text=prompt, return_tensors="pt")
        with torch.no_grad():
            made = module.generate(
                **{key: value for key, value in inputs.items() if key != "labels"},
                max_new_tokens=1,
                output_logits=True,
                return_dict_in_generate=True,
                do_sample=False,
            )
        expected.append(share(made.logits[0][0], yes, no))
    assert load_judge(name).answer(noise[0], asked) == pytest.approx(expected, rel=1e-3)
    assert abs(expected[0] - expected[1]) > 1e-4


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_captions_have_the_cosine_of_transformers(load_judge, judges_folder, noise, pixels, asked, name):
    from transformers import AutoModel, AutoProcessor

    processor = AutoProcessor.from_pretrained(judges_folder / name, local_files_only=True)
    module = AutoModel.from_pretrained(judges_folder / name, local_files_only=True).eval()
    seen = processor(images=pixels, return_tensors="pt")
    expected = []
    for text in TEXTS:
        padding = {"padding": "max_length", "max_length": 16} if name == "siglip" else {}
        read = processor.tokenizer(text.rstrip("?").lower(), truncation=True, return_tensors="pt", **padding)
        with torch.no_grad():
            outputs = module(input_ids=read["input_ids"], **seen)
        picture, caption = outputs.image_embeds[0].double(), outputs.text_embeds[0].double()
        expected.append((picture @ caption / picture.norm() / caption.norm()).item())
    assert load_judge(name).answer(noise[0], asked) == pytest.approx(expected, abs=1e-5)
    assert abs(expected[0] - expected[1]) > 1e-3


def test_clip_cuts_captions_at_77_tokens(load_judge, part, noise):
    question = part("evaluation.judges.questions").Question
    captions = ["b " * 80, "b " * 80 + "cat", "cat"]
    first, second, other = load_judge("clip").answer(
        noise[0], [question("", "", "own", True, each) for each in captions]
    )
    assert first == pytest.approx(second, abs=1e-6)
    assert abs(first - other) > 1e-3


def test_pictures_matter(load_judge, noise, asked):
    for name in ("blip", "qwen", "paligemma", "clip", "siglip"):
        judge = load_judge(name)
        first, second = (judge.answer(picture, asked)[0] for picture in noise)
        assert abs(first - second) > 1e-5, name


def test_a_model_without_a_way_to_be_asked_is_told(judge_files, judges_folder, noise, asked):
    import tiny_judges

    tiny_judges.write_qwen(judges_folder / "untaught", None)
    with pytest.raises(ValueError, match=r"untaught \(qwen2_5_vl\) has no chat template"):
        judge_files.load("untaught", False).answer(noise[0], asked)


def test_a_tokenizer_without_yes_is_told(judge_files, judges_folder, noise, asked):
    import tiny_judges

    tiny_judges.write_blip(judges_folder / "mute", ["no", "cat", "?"])
    with pytest.raises(ValueError, match='no single token for "yes"'):
        judge_files.load("mute", False).answer(noise[0], asked)


@pytest.fixture(scope="module")
def scene(part):
    """A red circle with a dot, a blue square and two green stars, as the detector finds them."""
    world, detect = part("world.scenes"), part("evaluation.detect").detect
    things = (
        world.Thing("circle", "red", "dot", 30.0, 32.0, 19.0),
        world.Thing("square", "blue", None, 92.0, 32.0, 19.0),
        world.Thing("star", "green", None, 34.0, 94.0, 19.0),
        world.Thing("star", "green", None, 92.0, 94.0, 19.0),
    )
    return detect(world.render(world.Scene(things, (0.7, 0.7, 0.7))))


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("is there a circle?", True),
        ("is there a heart?", False),
        ("is the circle red?", True),
        ("is the circle blue?", False),
        ("does the circle have a dot?", True),
        ("does the square have a dot?", False),
        ("Is there a blue square", True),
        ("a red circle with a white dot?", True),
        ("are there exactly two stars?", True),
        ("are there two green stars?", True),
        ("are there three stars?", False),
        ("are there any crosses?", False),
        ("do the stars have a bar?", False),
        ("a dot?", True),
        ("a bar?", False),
        ("is there any orange?", False),
    ],
)
def test_the_demo_world_s_judge(part, scene, question, expected):
    assert part("evaluation.judges.shapes").holds(question, scene) is expected


@pytest.mark.parametrize(
    ("question", "told"),
    [
        ("is the dog red?", "it does not know: dog"),
        ("is there a red thing?", "it does not know: thing"),
        ("is it red?", "it does not know: it"),
        ("is there a circle and a square?", "names several shapes"),
        ("are there two?", "names neither shape, colour nor mark"),
    ],
)
def test_the_demo_world_s_judge_says_what_it_does_not_know(part, scene, question, told):
    with pytest.raises(ValueError, match=told):
        part("evaluation.judges.shapes").holds(question, scene)
