"""Prompt-to-Prompt in stock samplers: against maps written out, with everything else that may be in a graph."""

import json

import pytest

from .graphs import node, pictures, refused, save
from .pair_graphs import SOURCE, TARGET, TEXTS, differences, faces, p2p, sample, small
from .unet_graphs import lora


@pytest.mark.sweep("")
@pytest.mark.parametrize(
    ("network", "mode", "targets", "cfg", "size"),
    [
        ("sd15", "replace", 1, 5.0, (128, 128)),
        ("sd15", "refine", 2, 1.0, (128, 128)),
        ("sd2 v", "replace", 2, 4.0, (192, 128)),
        ("sdxl", "refine", 2, 4.0, (128, 160)),
    ],
)
def test_equals_maps_written_out(server, network, mode, targets, cfg, size):
    prompt = small(network, targets, *size)
    dials = {"mode": mode, "cross_end": 0.8, "self_end": 0.5}
    prompt |= {
        "edited": p2p(**dials, reweights="sat: 2.5", self_resolution="half"),
        "dense": node(
            "HSpaceTestDense",
            model=["model", 0],
            tokens=["pair", 1],
            **dials,
            word="sat",
            weight=2.5,
            largest=size[0] * size[1] // 64 // 4,
        ),
        "alone": node("HSpaceTestAlone", model=["edited", 0]),
    }
    for name in ("model", "edited", "dense", "alone"):
        prompt[f"sample {name}"] = sample((name, 0), negative=("model", 2), cfg=cfg)
    dense, split, plain = differences(
        server,
        prompt,
        ("sample dense", "sample edited"),
        ("sample edited", "sample alone"),
        ("sample model", "sample edited"),
    )
    assert max(dense["rows"]) < 2e-5 and max(split["rows"]) < 2e-5
    assert plain["rows"][0] < 1e-6 and min(plain["rows"][1:]) > 1e-3  # the source is not edited


@pytest.mark.sweep("")
@pytest.mark.parametrize("beside", ["window", "lora", "controlnet", "owner"])
def test_equals_maps_written_out_beside(server, beside):
    """A word's own window, and whatever else may be in the graph, in prompts that run together and one by one, on a
    picture that is not square."""
    prompt, model, positive = (
        small("sdxl" if beside == "controlnet" else "sd15", 2, 160, 128),
        ("model", 0),
        ("pair", 0),
    )
    if beside == "lora":
        prompt |= lora(server)
        model = ("lora", 0)
    if beside == "controlnet":
        prompt["controlled"] = node("HSpaceTestControl", conditioning=["pair", 0], strength=0.3)
        positive = ("controlled", 0)
    dials = {"mode": "refine", "cross_end": 0.8, "self_end": 0.5}
    end = 0.4 if beside == "window" else 1.0
    prompt |= {
        "edited": p2p(model, **dials, reweights="sat: 2.5", windows="sat: 0-0.4" if beside == "window" else ""),
        "wide": p2p(model, **dials, reweights="sat: 2.5"),
        "dense": node(
            "HSpaceTestDense",
            model=list(model),
            tokens=["pair", 1],
            **dials,
            word="sat",
            weight=2.5,
            word_end=end,
            largest=80,
        ),
    }
    plain, ends = {"model": "model", "lora": "lora"}[model[0]], {"edited": "edited", "dense": "dense"}
    if beside == "owner":
        for name in ("edited", "dense"):
            prompt[f"{name} owned"] = node("HSpaceTestOwner", model=[name, 0], scale=0.5)
            ends[name] = f"{name} owned"
    prompt["alone"] = node("HSpaceTestAlone", model=[ends["edited"], 0])
    for name, source in {**ends, "alone": "alone", "plain": plain, "wide": "wide"}.items():
        prompt[f"sample {name}"] = sample((source, 0), positive, negative=("model", 2))
    pairs = [("sample edited", f"sample {name}") for name in ("dense", "alone", "plain", "wide")]
    dense, split, acts, wide = differences(server, prompt, *pairs)
    assert max(dense["rows"]) < 2e-5 and max(split["rows"]) < 2e-5 and min(acts["rows"][1:]) > 1e-3
    assert wide["same"] == (beside in ("lora", "controlnet"))  # the window and the owner change something


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_half_precision(server, dtype):
    prompt = small("sdxl", 2)
    prompt["model"]["inputs"]["dtype"] = dtype
    dials = {"mode": "refine", "cross_end": 0.8, "self_end": 0.5}
    prompt |= {
        "edited": p2p(**dials),
        "dense": node(
            "HSpaceTestDense", model=["model", 0], tokens=["pair", 1], **dials, word="", weight=1.0, largest=64
        ),
    }
    prompt |= {f"sample {n}": sample((n, 0), negative=("model", 2)) for n in ("model", "edited", "dense")}
    dense, acts = differences(server, prompt, ("sample dense", "sample edited"), ("sample model", "sample edited"))
    assert max(dense["rows"]) < 0.1 * min(acts["rows"][1:])


def test_nothing_asked_is_the_plain_sampler_bit_for_bit(server):
    prompt = faces() | {
        "off": p2p(cross_end=0.0, self_end=0.0),
        "same": node("HSpacePairConditioning", clip=["model", 1], source=SOURCE, targets=SOURCE),
        "itself": p2p(tokens=("same", 1), cross_end=1.0, self_end=1.0),
    }
    prompt |= {"plain": sample(("model", 0)), "none": sample(("off", 0))}
    prompt |= {
        "twice": sample(("itself", 0), positive=("same", 0)),
        "twice plain": sample(("model", 0), positive=("same", 0)),
    }
    none, itself = differences(server, prompt, ("plain", "none"), ("twice plain", "twice"))
    assert none["same"]
    assert max(itself["rows"]) < 1e-5  # a prompt edited into itself


def test_rows_have_one_noise_and_split_again(server):
    prompt = faces(targets=f"{TARGET}\na sad person with glasses", rows=3, batch=2)
    prompt |= {"plain": sample(("model", 0)), "split": node("HSpaceSplitPair", rows=["pair", 2], latent=["plain", 0])}
    single = {
        "one": node("CLIPTextEncode", clip=["model", 1], text=SOURCE),
        "alone": sample(("model", 0), ("one", 0), ("latent", 0)),
    }
    (difference,) = differences(
        server,
        {**prompt, **single, "sources": node("HSpaceSplitPair", rows=3, latent=["plain", 0])},
        ("plain", "plain"),
    )
    assert difference["count"] == 6
    prompt["images"] = node("VAEDecode", samples=["plain", 0], vae=["model", 2])
    prompt["parts"] = node("HSpaceSplitPair", rows=3, image=["images", 0])
    result = server.queue({**prompt, "a": save(["parts", 0]), "b": save(["parts", 1])}, timeout=300)
    assert len(pictures(server, result, "a")) == 2 and len(pictures(server, result, "b")) == 4


def test_a_source_row_is_what_its_prompt_gives_alone(server):
    prompt = faces() | {"edited": p2p(), "pair sample": sample(("edited", 0))}
    prompt |= {
        "one": node("CLIPTextEncode", clip=["model", 1], text=SOURCE),
        "alone": sample(("model", 0), ("one", 0), ("latent", 0)),
    }
    prompt |= {
        "split": node("HSpaceSplitPair", rows=2, latent=["pair sample", 0]),
        "picked": node("LatentFromBatch", samples=["split", 2], batch_index=0, length=1),
    }
    prompt["source output"] = sample(("model", 0), ("pair", 3), ("latent", 0))
    split, output = differences(server, prompt, ("alone", "picked"), ("alone", "source output"))
    assert max(split["rows"]) < 1e-4 and output["same"]


@pytest.mark.parametrize("network", ["sd15", "sdxl"])
def test_rows_of_encoded_prompts_are_the_prompts_alone(server, network):
    """Pooled text of SDXL included; and the source output is the first of them."""
    prompt = small(network) | {
        "pair": node("HSpacePairConditioning", **TEXTS, source_encoded=["model", 1], targets_encoded=["model", 2]),
        "both": sample(("model", 0), negative=("model", 2)),
        "source": sample(("model", 0), ("pair", 3), ("latent", 0), ("model", 2)),
    }
    for row in (0, 1):
        prompt[f"row {row}"] = node("LatentFromBatch", samples=["both", 0], batch_index=row, length=1)
        prompt[f"alone {row}"] = sample(("model", 0), ("model", 1 + row), ("latent", 0), ("model", 2))
    zero, one, source, apart = differences(
        server, prompt, ("row 0", "alone 0"), ("row 1", "alone 1"), ("source", "alone 0"), ("row 0", "row 1")
    )
    assert zero["rows"][0] < 1e-4 and one["rows"][0] < 1e-4 and source["same"] and apart["rows"][0] > 1e-3


def test_a_negative_prompt_that_is_longer(server):
    """The host then repeats the pair's tokens in a common call, and does not when prompts come alone."""
    prompt = small(targets=2) | {
        "edited": p2p(mode="refine", reweights="sat: 2"),
        "alone": node("HSpaceTestAlone", model=["edited", 0]),
        "long": node("ConditioningConcat", conditioning_to=["model", 1], conditioning_from=["model", 2]),
    }
    prompt |= {n: sample((m, 0), negative=("long", 0)) for n, m in (("a", "edited"), ("b", "alone"), ("c", "model"))}
    split, acts = differences(server, prompt, ("a", "b"), ("a", "c"))
    assert max(split["rows"]) < 1e-5 and min(acts["rows"][1:]) > 1e-3


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_words_of_the_stock_tokenizers(server, family):
    long = ", ".join(["an (astronaut:1.3) riding a bioluminescent jellyfish-like creature"] * 8)
    texts = "a (smiling:1.2) person with strawberry-blond hair, 85mm\n" + long
    figures = json.loads(
        server.queue({"w": node("HSpaceTestWords", family=family, texts=texts)}).outputs["w"]["text"][0]
    )
    assert figures["words"][0] == [
        "a",
        "smiling",
        "person",
        "with",
        "strawberry",
        "-",
        "blond",
        "hair",
        ",",
        "8",
        "5",
        "mm",
    ]
    assert "bioluminescent" in figures["words"][1] and figures["words"][1].count("astronaut") == 8
    assert len(set(figures["tokens"])) == 1 and figures["tokens"][0] == 154
    for ids, content in zip(figures["ids"], figures["content"], strict=True):
        assert not {49406, 49407} & {ids[i] for i in content} and all(
            ids[i] in (49406, 49407, 0) for i in range(len(ids)) if i not in content
        )
    for ids in figures["towers"].values():  # both towers of SDXL cut alike: one map serves both
        assert [[row[i] for i in at] for row, at in zip(ids, figures["content"], strict=True)] == [
            [row[i] for i in at] for row, at in zip(figures["ids"], figures["content"], strict=True)
        ]
    assert 1.2 in figures["weights"][0] and figures["weights"][0].count(1.2) == 1


def test_long_weighted_prompts_and_words(server):
    long = ", ".join(["a smiling person with glasses and long (red:1.3) hair"] * 9)
    prompt = faces(targets=TARGET, source=long)
    prompt |= {"edited": p2p(reweights="blond: 2, hair: 1.5", windows="blond: 0-0.5, smiling person: 0.7")}
    prompt |= {"plain": sample(("model", 0)), "long": sample(("edited", 0), sampler_name="dpmpp_2m", steps=5)}
    (difference,) = differences(server, prompt, ("plain", "long"))
    assert not difference["same"]


def test_another_owner_of_cross_attention_in_either_order(server):
    prompt = small(targets=2)
    prompt |= {
        "owner": node("HSpaceTestOwner", model=["model", 0], scale=0.5),
        "after": p2p(("owner", 0), mode="refine"),
        "before": p2p(mode="refine"),
        "joined": node("HSpaceTestOwner", model=["before", 0], scale=0.5),
    }
    prompt["late"] = node("HSpaceTestOwner", model=["before", 0], scale=0.5, late=True)
    for name in ("owner", "after", "before", "joined", "late"):
        prompt[f"sample {name}"] = sample((name, 0), negative=("model", 2))
    order, acts, owns, late = differences(
        server,
        prompt,
        ("sample after", "sample joined"),
        ("sample owner", "sample after"),
        ("sample before", "sample after"),
        ("sample after", "sample late"),
    )
    assert order["same"] and late["same"]
    assert acts["rows"][0] < 1e-6 and min(acts["rows"][1:]) > 1e-3 and min(owns["rows"]) > 1e-3


def test_a_lora_before_or_after_is_the_same(server):
    prompt = small(targets=2) | lora(server) | {"after": p2p(("lora", 0)), "before": p2p()}
    prompt["joined"] = {**prompt["lora"], "inputs": {**prompt["lora"]["inputs"], "model": ["before", 0]}}
    prompt |= {f"sample {n}": sample((n, 0), negative=("model", 2)) for n in ("lora", "after", "before", "joined")}
    order, acts, weights = differences(
        server,
        prompt,
        ("sample after", "sample joined"),
        ("sample lora", "sample after"),
        ("sample before", "sample after"),
    )
    assert order["same"]
    assert acts["rows"][0] < 1e-6 and min(acts["rows"][1:]) > 1e-3 and min(weights["rows"]) > 1e-3


@pytest.mark.parametrize("network", ["sd15", "sdxl"])
def test_controlnet(server, network):
    prompt = small(network)
    prompt |= {"controlled": node("HSpaceTestControl", conditioning=["pair", 0], strength=0.3), "edited": p2p()}
    prompt |= {f"sample {n}": sample((n, 0), ("controlled", 0), negative=("model", 2)) for n in ("model", "edited")}
    prompt["without"] = sample(("edited", 0), negative=("model", 2))
    acts, controlled = differences(server, prompt, ("sample model", "sample edited"), ("without", "sample edited"))
    assert acts["rows"][0] < 1e-6 and acts["rows"][1] > 1e-3 and min(controlled["rows"]) > 1e-3


def test_attention_kernels_of_other_nodes_stay(server):
    """FreeU, whose levels are those of SD's widths, runs beside it."""
    prompt, negative = small(width=192) | {"edited": p2p()}, {"negative": ("model", 2)}
    prompt |= {"freeu": node("FreeU_V2", model=["edited", 0], b1=1.3, b2=1.4, s1=0.9, s2=0.2)}
    prompt |= {
        "a": sample(("edited", 0), **negative),
        "b": sample(("freeu", 0), **negative),
        "c": sample(("model", 0), **negative),
    }
    one, two = differences(server, prompt, ("a", "b"), ("a", "c"))
    assert one["count"] == 2 and not one["same"] and two["rows"][0] < 1e-5 < two["rows"][1]


def test_bad_input(server):
    prompt = faces()
    run = {
        "s": sample(("edited", 0)),
        "image": node("VAEDecode", samples=["s", 0], vae=["model", 2]),
        "save": save(["image", 0]),
    }
    refused(server, {**prompt, "edited": p2p(reweights="moustache: 2"), **run}, "moustache", "smiling")
    refused(server, {**prompt, "edited": p2p(reweights="blond = 2"), **run}, "must read like")
    refused(server, {**prompt, "once": p2p(), "edited": p2p(("once", 0)), **run}, "already carries")
    alone = {**prompt, "edited": p2p(), **run, "s": sample(("edited", 0), latent=("latent", 0))}
    refused(server, alone, "multiple of 2", "Pair Latent")
    encoded = {
        "pair": node("HSpacePairConditioning", **TEXTS, source_encoded=["positive", 0], targets_encoded=["negative", 0])
    }
    refused(server, {**prompt, **encoded, "edited": p2p(), **run}, "no map between words", "connect CLIP")
    more = node("HSpacePairConditioning", clip=["model", 1], source="a", targets=", ".join(["word"] * 60))
    refused(
        server,
        {**prompt, "more": more, "edited": p2p(tokens=("more", 1)), **run},
        "154 tokens",
        "Pair Conditioning itself",
    )
    refused(
        server,
        {**prompt, "other": node("HSpaceLoadFaceModel"), "edited": p2p(("other", 0)), **run},
        "U-Net",
        "Load Face Text Model",
    )
    refused(
        server,
        {
            **prompt,
            "pair": node("HSpacePairConditioning", clip=["model", 1], source="a", targets="\n"),
            "edited": p2p(),
            **run,
        },
        "targets",
    )
