"""How hard the worlds of the embedded models are to denoise, by the fingerprint of the model.

Written by ``python -m scripts.measure_worlds`` from 256 faces that are drawn as the training faces were.
"""

from __future__ import annotations

from .domain import WorldReference

KNOWN_WORLDS = {
    # face_model
    "90d16bfccb42": WorldReference(0.85, (0.07127, 0.07461, 0.08471, 0.09478, 0.09655), "256 drawn faces"),
    # face_diffae
    "31a147ff68e9": WorldReference(0.85, (0.08256, 0.08427, 0.09047, 0.09933, 0.102), "256 drawn faces"),
    # face_hdae
    "fcdeac8afae5": WorldReference(0.85, (0.07427, 0.07654, 0.08305, 0.09215, 0.09449), "256 drawn faces"),
    # face_text
    "8656474babf2": WorldReference(0.85, (0.06644, 0.06854, 0.07639, 0.08417, 0.08698), "256 drawn faces"),
}
