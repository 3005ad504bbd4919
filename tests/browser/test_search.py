"""The editor's search: the words that people type find the node that they mean."""

import pytest

# Each word, or phrase, and the nodes of which one must be among the first five that the search shows.
DIALS = """expression, face expression, emotion, smile, make smile, age, glasses, hair, slider, concept slider, dial,
    edit photo, semantic edit, face edit, edit region, edit image"""
WORDS = {
    **{" ".join(words.split()): ["HSpaceDials"] for words in DIALS.split(",")},
    **{words: ["HSpaceCheckModel"] for words in ("check model", "compatible", "checkpoint info", "model info")},
    "change one region": ["HSpaceDiscoverRegion"],
    "invert image": ["HSpaceInvertImage"],
    "inversion": ["HSpaceInvertImage"],
    "ddim inversion": ["HSpaceInvertImage"],
    "real image": ["HSpaceInvertImage"],
    "invert": ["HSpaceInvertImage"],
    "reverse": ["HSpaceInvertImage"],
    "crop face": ["HSpaceFitPhoto"],
    "inpaint crop": ["HSpaceFitPhoto"],
    "stitch": ["HSpacePasteBack"],
    "paste back": ["HSpacePasteBack"],
    "mask edit": ["HSpaceDiscoverRegion"],
    "local edit": ["HSpaceDiscoverRegion"],
    "direction": ["HSpaceDirectionAtlas", "HSpaceLoadDirections"],
    "discover": ["HSpaceDiscoverRegion"],
    "latent direction": ["HSpaceDiscoverRegion"],
    "h-space": ["HSpaceSteer", "HSpaceDiscoverRegion"],
    "jacobian": ["HSpaceDiscoverRegion"],
    "rbe": ["HSpaceDiscoverRegion"],
    "prompt to prompt": ["HSpacePromptToPrompt"],
    "p2p": ["HSpacePromptToPrompt"],
    "word swap": ["HSpacePromptToPrompt"],
    "pnp": ["HSpaceInjectFeatures"],
    "plug and play": ["HSpaceInjectFeatures"],
    "masactrl": ["HSpaceInjectFeatures"],
    "ledits": ["HSpaceEditConcept"],
    "asyrp": ["HSpaceTrainAsyrp"],
    "null text": ["HSpaceNullTextOptimise"],
    "sdedit": ["HSpaceSDEditSigmas"],
    "diffae": ["HSpaceLoadDiffAE"],
    "morph": ["HSpaceMorphFrames"],
    "before after": ["HSpaceMeasureEdit"],
    "compare": ["HSpaceMeasureEdit"],
    "metrics": ["HSpaceMeasureEdit"],
    "lpips": ["HSpaceMeasureEdit", "HSpaceEditMetrics"],
    "psnr": ["HSpaceMeasureEdit"],
    "disentangle": ["HSpaceDeltaEdit"],
    "text edit": ["HSpaceDeltaEdit"],
}


@pytest.mark.parametrize("words", WORDS)
def test_the_words_find_their_node(shared_editor, words):
    first = shared_editor.search(words)[:5]
    assert set(WORDS[words]) & set(first), f"{words!r} finds {first}"
