"""What the pack uses of the host's MODEL, VAE and CLIP: for readers and type checkers, nothing at run time.

The host's own classes say less than they do: most of their attributes have no types. Here is what is relied on, so that
a change of the host has one list to be held against.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor


class Model(Protocol):
    """The host's ``ModelPatcher``: a model shared by all its clones, and the patches of this clone."""

    model: Any
    """The host's ``BaseModel``: ``diffusion_model``, ``model_sampling``, ``latent_format``."""
    model_options: dict[str, Any]
    """``transformer_options`` and the wrappers of a run."""
    load_device: Any
    """The ``torch.device`` on which it computes."""
    object_patches: dict[str, Any]
    object_patches_backup: dict[str, Any]
    patches: dict[str, Any]
    backup: dict[str, Any]
    wrappers: dict[str, Any]
    injections: dict[str, Any]

    def clone(self) -> Any:
        """Another clone, with the same patches."""
        ...

    def get_model_object(self, name: str) -> Any:
        """A part by its dotted name, such as ``model_sampling``, as this clone has it."""
        ...

    def get_wrappers(self, wrapper_type: str, key: str) -> list[Callable]:
        """Wrappers of a kind under a key."""
        ...

    def model_size(self) -> int:
        """Bytes of the weights."""
        ...

    def memory_required(self, input_shape: Any) -> Any:
        """Bytes that a call on an input of this shape needs."""
        ...


class VAE(Protocol):
    """The host's ``VAE``: pictures `[b h w c]` in 0..1 to latents and back."""

    patcher: Any
    latent_channels: int
    latent_dim: int
    crop_input: bool

    def encode(self, pixel_samples: Tensor) -> Tensor:
        """Latent of a picture."""
        ...

    def decode(self, samples_in: Tensor) -> Tensor:
        """Picture of a latent."""
        ...

    def spacial_compression_encode(self) -> Any:
        """Pixels of a side for one of the latent."""
        ...


class CLIP(Protocol):
    """The host's ``CLIP``: a tokeniser and a text encoder."""

    patcher: Any
    tokenizer: Any
    cond_stage_model: Any

    def tokenize(self, text: str, return_word_ids: bool = False) -> dict[str, Any]:
        """Tokens of a text, in chunks of (token, weight) with the number of their word if asked for."""
        ...

    def encode_from_tokens_scheduled(self, tokens: Any) -> list:
        """CONDITIONING of tokens."""
        ...
