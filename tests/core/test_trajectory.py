"""One image of a batch of trajectories."""

import torch

from core.trajectory import StoredPrompts, Trajectory


def test_an_image_keeps_the_prompt_that_is_its_own():
    codes, shared, pooled = torch.randn(3, 1, 8), torch.randn(1, 7, 8), torch.randn(3, 5)
    prompts: StoredPrompts = {
        "positive": [[codes, {"pooled_output": pooled, "mark": 1}]],
        "negative": [[shared, {}]],
        "cfg": 2.0,
    }
    path = Trajectory(
        torch.tensor([1.0, 0.0], dtype=torch.float64),
        torch.randn(2, 3, 3, 4, 4),
        "0123456789ab",
        "ddim A",
        prompts=prompts,
    )
    for i in range(3):
        prompts = path.image(i).prompts
        ((own, more),), ((other, _),) = prompts["positive"], prompts["negative"]
        assert (
            torch.equal(own, codes[i : i + 1])
            and torch.equal(more["pooled_output"], pooled[i : i + 1])
            and more["mark"] == 1
        )
        assert other is shared and prompts["cfg"] == 2.0
    alone = path.image(1)
    assert torch.equal(alone.image(0).prompts["positive"][0][0], codes[1:2])
    assert path.prompts["positive"][0][0] is codes
