"""Discovery in a real ComfyUI: bases, steps and pictures together, and the other published ways."""

import numpy as np

from .graphs import base, face, node, pictures, refused, render, save, steer


def test_the_dials_of_a_basis_run_without_the_network(server):
    """Region Basis is the costly part: with another mode only the cheap node runs again."""

    def prompt(**dials):
        inputs = {"k": 2, "mode": "generalized", "tau": 0.01, "rank": 20, **dials}
        return {
            **base(steps=6, iterations=1),
            "basis": node(
                "HSpaceRegionBasis",
                model=["model", 0],
                trajectory=["invert", 0],
                mask=["face", 1],
                max_k=2,
                max_rank=3,
                sigma=1.0,
            ),
            "directions": node("HSpaceBasisDirections", basis=["basis", 0], **inputs),
            "show": save(["directions", 1], "spectrum"),
        }

    first = server.queue(prompt(), timeout=300)
    again = server.queue(prompt(mode="constrained", rank=3), timeout=300)
    ran = {data["node"] for kind, data in again.events if kind == "executing" and data.get("node")}
    assert "directions" in ran and not ran & {"basis", "invert", "model"}
    assert first.outputs["show"]["images"] and again.outputs["show"]["images"]


def test_directions_over_steps_and_over_pictures(server):
    """Track, average over a batch, carry to another picture; each is rendered."""
    prompt = base(steps=8, iterations=1)
    prompt["face"] = {**prompt["face"], "inputs": {**prompt["face"]["inputs"], "count": 2}}
    look = {"model": ["model", 0], "trajectory": ["invert", 0], "mask": ["one mask", 0]}
    dials = {"k": 2, "mode": "generalized", "tau": 0.01, "rank": 20, "layer": "middle", "iterations": 2, "seed": 0}
    prompt |= {
        "one mask": node("ImageToMask", image=["mask image", 0], channel="red"),
        "mask image": node("ImageFromBatch", image=["mask images", 0], batch_index=0, length=1),
        "mask images": node("MaskToImage", mask=["face", 1]),
        "track": node(
            "HSpaceTrackDirections", **look, **dials, sigma_start=20.0, sigma_end=0.5, levels=3, image_index=0
        ),
        "global": node("HSpaceGlobalDirections", **{**look, "mask": ["face", 1]}, **dials, how="match", sigma=1.0),
        "basis": node(
            "HSpaceRegionBasis",
            **look,
            max_k=2,
            max_rank=0,
            sigma=1.0,
            image_index=1,
            layer="middle",
            iterations=2,
            seed=0,
        ),
        "moved": node("HSpaceTransportDirections", directions=["global", 0], basis=["basis", 0]),
    }
    for name in ("track", "global", "moved"):
        prompt[f"steer {name}"] = steer(20.0, directions=(name, 0))
        prompt[f"render {name}"] = render(f"steer {name}")
        prompt[f"save {name}"] = save([f"render {name}", 0], name)
        prompt[f"say {name}"] = node("PreviewAny", source=[name, 1 if name == "moved" else 2])
    prompt["plain"] = save(["invert", 2], "plain")
    result = server.queue(prompt, timeout=300)
    plain = pictures(server, result, "plain")
    for name in ("track", "global", "moved"):
        edited = pictures(server, result, f"save {name}")
        assert len(edited) == len(plain) == 2
        assert all(np.abs(a.astype(float) - b).mean() > 0.5 for a, b in zip(edited, plain, strict=True)), name
    said = {name: result.outputs[f"say {name}"]["text"][0] for name in ("track", "global", "moved")}
    assert said["track"].count("Jacobian products") == 3
    assert "mean of 2 (match)" in said["global"] and "cosine" in said["global"]
    assert "of its length kept" in said["moved"]


def test_the_other_published_ways(server):
    """LOCO, pullback, PCA and mean difference: each finds, is applied and shows."""
    prompt = base(steps=8, iterations=5)
    prompt["face"] = {**prompt["face"], "inputs": {**prompt["face"]["inputs"], "count": 4}}
    prompt["other face"] = face(77)
    prompt["other face"]["inputs"]["count"] = 3
    prompt["other"] = {**prompt["invert"], "inputs": {**prompt["invert"]["inputs"], "image": ["other face", 0]}}
    prompt["pictures"] = node("MaskToImage", mask=["face", 1])
    prompt["first"] = node("ImageFromBatch", image=["pictures", 0], batch_index=0, length=1)
    prompt["mask"] = node("ImageToMask", image=["first", 0], channel="red")
    look = {"model": ["model", 0], "trajectory": ["invert", 0], "k": 2, "rank": 5, "sigma": 1.0}
    advanced = {"layer": "middle", "image_index": 0, "seed": 0}
    masked = {"mask": ["mask", 0]}
    for name, method, how, strength in (
        ("loco", "LOCO Edit (x)", "step", 4.0),
        ("pullback", "pullback (x)", "guidance", 0.5),
    ):
        more = {"rank": 3, **masked} if name == "loco" else {}
        prompt[name] = node("HSpaceBaselineDirections", **{**look, **more}, **advanced, iterations=3, method=method)
        edit = {
            "model": ["model", 0],
            "trajectory": ["invert", 0],
            "directions": [name, 0],
            "direction": 1,
            "how": how,
            "repeats": 4 if how == "guidance" else 16,
        }
        for part, amount in (("", strength), (" off", 0.0)):
            prompt[f"edit {name}{part}"] = node("HSpaceEditState", **edit, strength=amount)
            prompt[f"render {name}{part}"] = {
                **render("model"),
                "inputs": {**render("model")["inputs"], "trajectory": [f"edit {name}{part}", 0]},
            }
            prompt[f"save {name}{part}"] = save([f"render {name}{part}", 0], name)
    preset = {**look, **masked, "k": 5, "sigma": 0.0}
    prompt["preset"] = node(
        "HSpaceBaselineDirections", **preset, **advanced, iterations=3, method="LOCO Edit (x)", preset="MetFaces"
    )
    edit |= {"directions": ["preset", 0], "how": "step", "repeats": 16, "strength": ["preset", 2]}
    prompt["edit preset"] = node("HSpaceEditState", **edit)
    prompt["render preset"] = {
        **render("model"),
        "inputs": {**render("model")["inputs"], "trajectory": ["edit preset", 0]},
    }
    prompt["save preset"] = save(["render preset", 0], "preset")
    prompt["render lagged"] = render("steer pca", lagged=True)
    prompt["save lagged"] = save(["render lagged", 0], "lagged")
    prompt["pca"] = node("HSpaceBaselineDirections", **look, **advanced, iterations=8, method="PCA of h")
    prompt["difference"] = node(
        "HSpaceMeanDifference",
        model=["model", 0],
        positive=["invert", 0],
        negative=["other", 0],
        sigma=1.0,
        layer="middle",
    )
    for name in ("pca", "difference"):
        prompt[f"steer {name}"] = steer(30.0, directions=(name, 0))
        prompt[f"render {name}"] = render(f"steer {name}")
        prompt[f"save {name}"] = save([f"render {name}", 0], name)
    prompt |= {"plain": save(["invert", 2], "plain"), "faces": save(["face", 0], "faces")}
    result = server.queue(prompt, timeout=300)
    plain, faces, off = (
        pictures(server, result, "plain"),
        pictures(server, result, "faces"),
        ("loco off", "pullback off"),
    )
    for name in ("loco", "preset", "pullback", "pca", "lagged", "difference"):
        edited = pictures(server, result, f"save {name}")
        change = [np.abs(a.astype(float) - b).mean() for a, b in zip(edited, plain, strict=True)]
        assert change[0] > 0.3, (name, change)
    assert any(
        (a != b).any()
        for a, b in zip(pictures(server, result, "save lagged"), pictures(server, result, "save pca"), strict=True)
    )
    # With strength 0 the way back begins at a stored state instead of the noisiest one, so it misses the picture by no
    # more.
    away = {
        name: [
            np.abs(a.astype(float) - b).mean()
            for a, b in zip(pictures(server, result, f"save {name}"), faces, strict=True)
        ]
        for name in off
    }
    missed = [np.abs(a.astype(float) - b).mean() for a, b in zip(plain, faces, strict=True)]
    assert all(max(a) < max(missed) + 0.3 for a in away.values()), (away, missed)


def test_directions_of_the_state_are_not_steered_with(server):
    prompt = base(steps=6, iterations=1)
    look = {"model": ["model", 0], "trajectory": ["invert", 0], "mask": ["face", 1], "k": 1, "rank": 2, "sigma": 1.0}
    prompt["loco"] = node(
        "HSpaceBaselineDirections", **look, layer="middle", image_index=0, iterations=2, seed=0, method="LOCO Edit (x)"
    )
    prompt["steer"] = steer(5.0, directions=("loco", 0))
    refused(server, {**prompt, "render": render("steer"), "save": save(["render", 0])}, "Edit State")
