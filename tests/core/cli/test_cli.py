"""Training from the command line: one process, and two under torchrun that come to the same weights."""

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from core.cli import train as cli
from core.cli.train import main
from core.faces.embedder import FaceEmbedder
from core.files.asyrp import load_asyrp
from core.files.diffusionclip import load_weights
from core.files.rectifier import load_rectifier, save_rectifier
from core.networks.asyrp import new_asyrp
from core.own_file import write_own
from core.train.clip import ClipEmbedder

from ..tiny import run_two_processes

pytest.importorskip("accelerate")


@pytest.fixture(scope="module")
def files(small, tmp_path_factory) -> Path:
    """A model, an embedder and pictures."""
    folder = tmp_path_factory.mktemp("cli")
    torch.save(small.net.cpu().state_dict(), folder / "model.pth")
    torch.manual_seed(4)
    facts = {"format": "hspace_face_embedder", "version": 1}
    write_own(folder / "embedder.safetensors", FaceEmbedder().state_dict(), facts)
    (folder / "pictures").mkdir()
    g = torch.Generator().manual_seed(5)
    for i in range(2):
        pixels = (torch.rand(16, 16, 3, generator=g) * 255).byte().numpy()
        Image.fromarray(pixels).save(folder / "pictures" / f"{i}.png")
    return folder


def options(files: Path, method: str, out: str, **more) -> list[str]:
    found = {
        "model": files / "model.pth",
        "pictures": files / "pictures",
        "embedder": files / "embedder.safetensors",
        "out": files / out,
        "source": "face",
        "target": "smiling face",
        "size": 16,
        "grid": 6,
        "epochs": 2,
        "batch": 2,
        "lr": 0.01,
        **more,
    }
    return [method, "--cpu", *(str(x) for k, v in found.items() for x in (f"--{k.replace('_', '-')}", v))]


def test_every_method_writes_its_file(files, capsys):
    main(options(files, "asyrp", "asyrp.safetensors"))
    main(options(files, "diffusionclip", "tuned.safetensors", steps=2, lr=1e-4, rank=2))
    main(options(files, "rectifier", "rectifier.safetensors", steps=4))
    main(
        options(
            files,
            "rectifier-edit",
            "edit.safetensors",
            steps=4,
            rectifier=files / "rectifier.safetensors",
            sigma_edit=3.0,
        )
    )
    assert load_asyrp(files / "asyrp.safetensors").label == "face > smiling face"
    assert load_weights(files / "tuned.safetensors").thin
    first, second = load_rectifier(files / "rectifier.safetensors"), load_rectifier(files / "edit.safetensors")
    assert not first.edit and second.edit
    assert not list(files.glob("*.training.safetensors")) and "loss" in capsys.readouterr().out


def test_two_processes_come_to_the_weights_of_one(small, files):
    main(options(files, "asyrp", "one.safetensors", optimiser="sgd", epochs=1))
    run_two_processes("core.cli.train", options(files, "asyrp", "two.safetensors", optimiser="sgd", epochs=1, batch=1))
    one, two = (load_asyrp(files / f"{name}.safetensors") for name in ("one", "two"))
    first = new_asyrp(small.net, 64, small.schedule.sigmas)

    def apart(a, b) -> float:
        return (
            sum(
                float((v - b.shift.state_dict()[k]).square().sum())
                for k, v in a.state_dict().items()
                if k.startswith("block")
            )
            ** 0.5
        )

    assert apart(two.shift, one) < 0.02 * apart(first, one)


def test_what_is_missing_is_said(files, tmp_path):
    with pytest.raises(SystemExit, match="give --embedder"):
        arguments = options(files, "asyrp", "x.safetensors")
        at = arguments.index("--embedder")
        main(arguments[:at] + arguments[at + 2 :])
    with pytest.raises(ValueError, match="not the face embedder"):
        main(options(files, "asyrp", "x.safetensors", embedder=tmp_path / "nothing"))


def test_a_clip_folder_is_an_embedder(tmp_path):
    transformers = pytest.importorskip("transformers")
    text = {
        "vocab_size": 1000,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "projection_dim": 16,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    seen = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
        "projection_dim": 16,
    }
    torch.manual_seed(6)
    model = transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=seen, projection_dim=16))
    model.save_pretrained(tmp_path)
    letters = [
        "<|startoftext|>",
        "<|endoftext|>",
        *"abcdefghijklmnopqrstuvwxyz",
        *(f"{c}</w>" for c in "abcdefghijklmnopqrstuvwxyz"),
    ]
    (tmp_path / "vocab.json").write_text(str({c: i for i, c in enumerate(letters)}).replace("'", '"'))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    transformers.CLIPTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")).save_pretrained(tmp_path)
    found = ClipEmbedder(tmp_path)
    pictures = (torch.rand(2, 3, 48, 32) * 2 - 1).requires_grad_(True)
    vectors = found.embed_image(pictures)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))
    vectors[:, 0].sum().backward()
    assert float(pictures.grad.abs().max()) > 0
    words = found.embed_text(["a cat", "a dog"])
    assert words.shape == (2, 16) and not torch.allclose(words[0], words[1])
    with torch.no_grad():
        rows = found.tokenizer(["a cat", "a dog"], padding=True, return_tensors="pt")
        oracle = model.get_text_features(**rows)
        oracle = getattr(oracle, "pooler_output", oracle)
    torch.testing.assert_close(words, torch.nn.functional.normalize(oracle, dim=-1))
    with pytest.raises(ValueError, match="is not a folder"):
        ClipEmbedder(tmp_path / "none")


def test_an_edit_starts_from_a_rectifier_that_rebuilds(files, tmp_path):
    with pytest.raises(SystemExit, match="give --rectifier"):
        main(options(files, "rectifier-edit", "never.safetensors", steps=2))
    main(options(files, "rectifier", "new folder/plain.safetensors", steps=2))
    plain = files / "new folder" / "plain.safetensors"
    save_rectifier(tmp_path / "edit.safetensors", replace(load_rectifier(plain), edit=True, label="a > b"))
    with pytest.raises(SystemExit, match="of an edit"):
        main(options(files, "rectifier-edit", "never.safetensors", steps=2, rectifier=tmp_path / "edit.safetensors"))
    save_rectifier(tmp_path / "other.safetensors", replace(load_rectifier(plain), fingerprint="0" * 12))
    with pytest.raises(ValueError, match="was trained on model"):
        main(options(files, "rectifier-edit", "never.safetensors", steps=2, rectifier=tmp_path / "other.safetensors"))


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(files, monkeypatch):
    (files / "taken").write_bytes(b"")

    def never(*_, **__):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(cli, "load_denoiser", never)
    with pytest.raises(SystemExit, match="cannot write into"):
        main(options(files, "asyrp", "taken/asyrp.safetensors"))


def test_a_result_that_cannot_be_written_at_the_end_is_put_aside(files, tmp_path, monkeypatch, capsys):
    (files / "taken").write_bytes(b"")
    monkeypatch.setattr(cli, "check_writable", lambda _: None)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    main(options(files, "asyrp", "taken/asyrp.safetensors", save_every=0))
    (aside,) = tmp_path.rglob("asyrp.safetensors")
    main(options(files, "asyrp", "asyrp.safetensors"))
    assert aside.read_bytes() == (files / "asyrp.safetensors").read_bytes()
    assert f"It is {aside} for now" in capsys.readouterr().out
