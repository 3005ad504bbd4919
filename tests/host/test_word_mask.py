"""Word Mask: what attention gives words, on U-Nets and on every family of transformers, and the masks that come of it."""

import pytest
import torch
from torch.nn import functional as F

from devtools.transformers import NETWORKS, Case, World

KNOWN = [name for name in NETWORKS if name != "HiDream"]
WORDS = "hair, a red hat"


class Words:
    """A text encoder for networks whose own ones are too large for a test: every word has an embedding of its own."""

    def __init__(self, prompt: list):
        self._prompt = prompt

    def tokenize(self, text: str, return_word_ids: bool = False) -> dict:
        """Begin, words, end, and padding to ten."""
        ids = [1, *(sum(map(ord, word)) for word in text.split()), 2]
        return {"t": [[(one, 1.0) for one in [*ids, *[0] * (10 - len(ids))]]]}

    def encode_from_tokens_scheduled(self, tokens: dict) -> list:
        """Random vectors by token, and what else stands in the prompt of the network."""
        width = self._prompt[0][0].shape[-1]
        ids = [one for one, _ in tokens["t"][0]]
        rows = [torch.randn(width, generator=torch.Generator().manual_seed(one)) for one in ids]
        return [[torch.stack(rows)[None], dict(self._prompt[0][1])]]


@pytest.fixture(params=KNOWN)
def world(executor, request):
    return World(executor, Case(request.param))


def parts(world):
    """Modules of the pack that the tests call."""
    return [world.executor.module(f"nodes.host.model.{name}") for name in ("word_attention", "word_maps", "words")]


def question(world, **more):
    maps = world.executor.module("nodes.host.model.word_maps")
    given = {"sigma": 0.0, "draws": 2, "seed": 0, **more}
    return maps.Question(world.model, Words(world.positive), world.x, world.positive, **given)


def test_looking_changes_no_bit(world):
    _, maps, _ = parts(world)

    def work(denoiser):
        plain = denoiser(world.x, world.sigma)
        seen, first = maps._looked_at(denoiser, world.x, world.sigma)
        return plain, seen, denoiser(world.x, world.sigma), first

    plain, seen, after, first = world.inside(work, gradients=False)
    assert torch.equal(seen, plain)
    assert torch.equal(after, plain)
    assert len(first.kept) == len(first.places)


def test_nothing_stays_on_the_network(world):
    attention, maps, _ = parts(world)
    net = world.model.model.diffusion_model

    def forwards():
        return [name for name, module in net.named_modules() if "forward" in vars(module)]

    before = forwards()
    maps.attention_maps(question(world), [["hair"], ["hat"]])
    assert forwards() == before
    with pytest.raises(KeyError), attention.watched(net, attention.places_of(net, world.x), lambda *_: None):
        raise KeyError
    assert forwards() == before


def test_maps_are_of_the_words(world):
    _, maps, _ = parts(world)
    with torch.inference_mode():
        found = torch.stack(maps.attention_maps(question(world), [["hair"], ["hat", "cap"]]))
        other = torch.stack(maps.attention_maps(question(world), [["nose"], ["hat", "cap"]]))
    assert found.dim() == 3 and torch.isfinite(found).all()
    assert float(found.std((1, 2)).min()) > 0
    assert not torch.equal(found, other)


def test_two_words_share_every_place(executor):
    world = World(executor, Case("Flux.1"))
    _, maps, _ = parts(world)
    with torch.inference_mode():
        found = torch.stack(maps.attention_maps(question(world), [["hair"], ["hat"]]))
    assert torch.allclose(found.sum(0), torch.ones_like(found[0]), atol=1e-5)


@pytest.mark.parametrize("family", ["Flux.1", "SD 3", "Z-Image", "Ernie", "Wan 2.1"])
def test_the_node_runs(executor, family):
    world = World(executor, Case(family))
    image = torch.rand(1, *(side * 8 for side in world.x.shape[-2:]), 3)
    vae = Encoder(world)
    mask, sheet = executor.call("HSpaceWordMask", model=world.model, clip=Words(world.positive), image=image, words=WORDS,
                                method="attention", vae=vae, positive=world.positive, draws=1)  # fmt: skip
    assert mask.shape == image.shape[:3] and set(mask.unique().tolist()) <= {0.0, 1.0}
    assert sheet.shape[-1] == 3


def test_the_streams_are_the_papers(executor):
    """Against the equations written out in float64, on Flux, whose blocks keep the words apart."""
    world = World(executor, Case("Flux.1"))
    attention, maps, words = parts(world)
    net, clip = world.model.model.diffusion_model, Words(world.positive)
    tokens = [words.word_tokens(clip, word) for word in ("hair", "a red hat")]
    groups = [slice(0, 1), slice(1, 4)]
    assert [len(one) for one in tokens] == [1, 3]
    inputs = []
    hook = net.double_blocks[0].register_forward_pre_hook(
        lambda module, given, named: inputs.append({k: named[k].double().clone() for k in ("img", "txt", "vec", "pe")}),
        with_kwargs=True,
    )
    first = world.inside(lambda denoiser: maps._looked_at(denoiser, world.x, world.sigma)[1], gradients=False)
    second = attention.SecondCall(first, groups)

    def read(denoiser):
        with second():
            denoiser(world.x, world.sigma)

    run = world.executor.module("nodes.host.model.run")
    with torch.inference_mode():
        prompt = run.Prompts(words.words_prompt(world.positive, tokens))
        run.with_denoiser(world.model, world.x.shape, prompt, read, again=False)
    hook.remove()
    plain, beside = inputs[0], inputs[-1]
    img, txt, concepts = plain["img"], plain["txt"], beside["txt"]
    for block in net.double_blocks:
        out, concept_out, img, txt, concepts = written_out(block, img, txt, concepts, plain, beside)
    means = torch.stack([concept_out[0, group].mean(0) for group in groups])
    expected = (means @ out[0].T).softmax(0)
    assert len(second.maps) == 1
    assert torch.allclose(second.maps[0].flatten(1).double(), expected, atol=1e-5)


def written_out(block, img, txt, concepts, plain, beside):
    """A double block in float64: the picture's output of attention, the concepts', and the three streams behind it."""
    heads = block.num_heads

    def linear(layer, x):
        return F.linear(x, layer.weight.double(), layer.bias.double())

    def modulated(layer, x, part, vec):
        shift, scale, gate = linear(layer.lin, F.silu(vec))[:, None].chunk(6, -1)[3 * part : 3 * part + 3]
        return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift, gate

    def rms(norm, x):
        weight = norm.weight if hasattr(norm, "weight") else norm.scale
        return x * (x.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt() * weight.double()

    def rope(x, pe):
        pairs = x.reshape(*x.shape[:-1], -1, 1, 2)
        return (pe[..., 0] * pairs[..., 0] + pe[..., 1] * pairs[..., 1]).reshape(x.shape)

    def qkv(attn, x, pe):
        q, k, v = linear(attn.qkv, x).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        return rope(rms(attn.norm.query_norm, q), pe), rope(rms(attn.norm.key_norm, k), pe), v

    def attend(q, k, v):
        scores = (q @ k.mT) * q.shape[-1] ** -0.5
        return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)

    def behind(x, out, attn, mod, mlp, vec):
        x = x + modulated(mod, x, 0, vec)[1] * linear(attn.proj, out)
        inner, gate = modulated(mod, x, 1, vec)
        return x + gate * linear(mlp[2], F.gelu(linear(mlp[0], inner), approximate="tanh"))

    count, own = txt.shape[1], concepts.shape[1]
    picture = qkv(block.img_attn, modulated(block.img_mod, img, 0, plain["vec"])[0], plain["pe"][:, :, count:])
    text = qkv(block.txt_attn, modulated(block.txt_mod, txt, 0, plain["vec"])[0], plain["pe"][:, :, :count])
    words = qkv(block.txt_attn, modulated(block.txt_mod, concepts, 0, beside["vec"])[0], beside["pe"][:, :, :own])
    both = attend(*(torch.cat([t, p], 2) for t, p in zip(text, picture, strict=True)))
    out = both[:, count:]
    concept_out = attend(words[0], *(torch.cat([w, p], 2) for w, p in zip(words[1:], picture[1:], strict=True)))
    text_parts = block.txt_attn, block.txt_mod, block.txt_mlp
    return (
        out,
        concept_out,
        behind(img, out, block.img_attn, block.img_mod, block.img_mlp, plain["vec"]),
        behind(txt, both[:, :count], *text_parts, plain["vec"]),
        behind(concepts, concept_out, *text_parts, beside["vec"]),
    )


def test_other_classes_are_refused_by_name(executor):
    world = World(executor, Case("HiDream"))
    _, maps, _ = parts(world)
    with pytest.raises(ValueError, match="HiDreamImageTransformer2DModel"):
        maps.attention_maps(question(world), [["hair"]])


@pytest.mark.parametrize("family", ["Flux.1", "HiDream"])
def test_contrast_runs_on_any_class(executor, family):
    world = World(executor, Case(family))
    _, maps, _ = parts(world)
    with torch.inference_mode():
        found = maps.contrast_maps(question(world), [["hair"], ["hat", "cap"]])
    assert [tuple(one.shape) for one in found] == [tuple(world.x.shape[-2:])] * 2
    assert all(float(one.std()) > 0 for one in found)


def test_the_face_model_finds_hair_and_changes_no_bit(executor):
    """On a U-Net: where hair can be, and nothing left behind."""
    model, clip = executor.call("HSpaceLoadFaceTextModel")[:2]
    image, _, _, hair = executor.call("HSpaceDemoFace", source="random", seed=35, count=1)[:4]
    run, maps = (executor.module(f"nodes.host.model.{name}") for name in ("run", "word_maps"))
    words = "a person with red hair / a person with blond hair / a person with black hair"
    asked = {"model": model, "clip": clip, "image": image, "draws": 2}
    mask, _ = executor.call("HSpaceWordMask", words=words, method="contrast", **asked)
    both = (mask > 0.5) & (hair > 0.5)
    assert float(both.sum() / ((mask > 0.5) | (hair > 0.5)).sum()) > 0.5
    background, _ = executor.call("HSpaceWordMask", words="background", method="attention", **asked)
    assert float((background * (1 - hair)).sum() / background.sum()) > 0.6
    x, sigma = image.movedim(-1, 1) * 2 - 1, torch.ones(1)

    def work(denoiser):
        return denoiser(x, sigma), maps._looked_at(denoiser, x, sigma)[0], denoiser(x, sigma)

    with torch.inference_mode():
        prompt = run.Prompts(executor.module("nodes.host.model.words").encoded_text(clip, ""))
        plain, seen, after = run.with_denoiser(model, x.shape, prompt, work, again=False)
    assert torch.equal(seen, plain) and torch.equal(after, plain)


def test_what_cannot_act_is_refused_by_name(executor):
    model, clip = executor.call("HSpaceLoadFaceTextModel")[:2]
    image = executor.call("HSpaceDemoFace", source="random", seed=35, count=1)[0]
    positive = executor.module("nodes.host.model.words").encoded_text(clip, "a face")
    asked = {"model": model, "clip": clip, "image": image, "method": "contrast", "draws": 1}
    with pytest.raises(ValueError, match="'positive' is connected"):
        executor.call("HSpaceWordMask", words="red hair / blond hair", positive=positive, **asked)
    with pytest.raises(ValueError, match="2 pictures"):
        executor.call("HSpaceWordMask", words="hair", **{**asked, "image": image.repeat(2, 1, 1, 1)})
    with pytest.raises(ValueError, match="'words' is empty"):
        executor.call("HSpaceWordMask", words=" ", **asked)


class Encoder:
    """A VAE of the right shape that knows the state."""

    crop_input = False
    latent_channels = 16
    first_stage_model = object()

    def decode(self, latent):
        raise NotImplementedError

    def __init__(self, world):
        self._x = world.x
        self.latent_dim = 3 if world.framed else 2

    def encode(self, image):
        return self._x.unsqueeze(2) if self.latent_dim == 3 else self._x

    def spacial_compression_encode(self):
        return 8
