"""Edit: a region from words in place of paint (ConceptAttention, arXiv 2502.04320; DiffEdit, arXiv 2210.11427)."""

from ....core.edit.attention.word_mask import map_sheet, mask_of_words, parse_phrases, unit_map
from ....core.photo.whole import spread_region
from ...dials import count_input, fit_input, seed_input, share_input, sigma_input, text_input, vae_input
from ...host.api import Node, io, ui
from ...host.model.images import encode, from_image
from ...host.model.size import CROP, fit_to_model
from ...host.model.word_attention import is_joint
from ...host.model.word_maps import Question, attention_maps, contrast_maps
from ...host.model.words import encoded_text
from ...host.prompt_checks import check_one_prompt, check_prompt
from ...unused import refuse_unused

METHODS = {"contrast": contrast_maps, "attention": attention_maps}
_REST = "background"


class HSpaceWordMask(Node):
    """Marks the region of a picture that words speak of."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="HSpaceWordMask",
            display_name="Word Mask",
            category="HSpace/edit/attention",
            description="Makes a mask from words, such as 'hair' or 'closed eyes / open eyes', by where the model sees them in the picture. It takes the place of a painted mask. The maps come out as a picture.",
            search_aliases=[
                "conceptattention",
                "diffedit",
                "daam",
                "text to mask",
                "auto mask",
                "segment",
                "attention map",
                "mask from prompt",
            ],
            inputs=[
                io.Model.Input("model", tooltip="A model with prompts, quantised or not."),
                io.Clip.Input("clip", tooltip="The CLIP of the same checkpoint. It reads the words."),
                io.Image.Input(
                    "image",
                    tooltip="One picture. The mask has its size, whatever fit does with it.",
                ),
                io.String.Input(
                    "words",
                    default="hair",
                    tooltip="What belongs to the region, between commas. Alternatives between slashes, such as 'closed eyes / open eyes', are better with contrast.",
                ),
                io.Combo.Input(
                    "method",
                    options=list(METHODS),
                    tooltip="contrast marks where the words change what the model draws, which suits things. attention marks where the network looks for a word, which suits backgrounds. Give it plain words.",
                ),
                vae_input(),
                io.Conditioning.Input(
                    "positive",
                    optional=True,
                    tooltip="What the picture shows. Words without alternatives are held against it. Without it the prompt is empty.",
                ),
                text_input("against", "Words of other regions. A place where one of them is stronger is left out."),
                share_input(
                    "threshold",
                    0.0,
                    "How strong a map must be, as a share of its range. 0 finds the threshold by itself (Otsu).",
                    advanced=True,
                ),
                sigma_input(
                    "sigma",
                    0.0,
                    "The noise level at which the model is asked. 0 takes the usual ones of the method.",
                    advanced=True,
                ),
                count_input("draws", 8, "The number of draws of noise over which maps are averaged.", advanced=True),
                seed_input("The seed of the noise.", advanced=True),
                fit_input(),
            ],
            outputs=[
                io.Mask.Output(
                    display_name="mask",
                    tooltip="It goes wherever a painted mask goes: Discover, P2P Local Blend, Paste Back.",
                ),
                io.Image.Output(display_name="maps", tooltip="The picture, the map of each word, and the mask."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model,
        clip,
        image,
        words,
        method,
        vae=None,
        positive=None,
        against="",
        threshold=0.0,
        sigma=0.0,
        draws=8,
        seed=0,
        fit=CROP,
    ) -> io.NodeOutput:
        wanted, others = parse_phrases(words), parse_phrases(against, "against")
        _check(model, image, wanted, others)
        if method == "contrast" and all(len(phrases) > 1 for phrases in (*wanted, *others)):
            why = "is what words without alternatives are held against, and all words have some"
            refuse_unused(cls, why, positive=positive)
        if positive is not None:
            check_prompt(model, positive, "positive")
            if method == "attention":
                check_one_prompt(positive, "positive")
        rivals = others or _usual_rival(model, method, wanted)
        prompt = encoded_text(clip, "") if positive is None else positive
        image, taken = fit_to_model(model, image, fit)
        x = encode(model, vae, image)
        maps = METHODS[method](Question(model, clip, x, prompt, sigma, draws, seed), [*wanted, *rivals])
        size = (image.shape[1], image.shape[2])
        maps = [unit_map(one, size) for one in maps]
        mask = mask_of_words(maps[: len(wanted)], maps[len(wanted) :] if others else [], threshold)
        names = [" / ".join(phrases) for phrases in (*wanted, *rivals)]
        sheet = map_sheet(from_image(image)[0].cpu(), names, maps, mask)
        mask = mask if taken is None else spread_region(mask, taken)
        return io.NodeOutput(mask[None], sheet, ui=ui.PreviewImage(sheet, cls=cls))


def _check(model, image, wanted, others) -> None:
    if not wanted:
        raise ValueError("'words' is empty; write what the region shows, such as 'hair'")
    if len(image) > 1:
        raise ValueError(f"'image' holds {len(image)} pictures, and a mask is of one; pick one with Image From Batch")
    both = [phrases for phrases in wanted if phrases in others]
    if both:
        raise ValueError(f"{' / '.join(both[0])!r} stands in 'words' and in 'against'; take it out of one")


def _usual_rival(model, method, wanted) -> list[list[str]]:
    """Shares between words need a second word."""
    if method != "attention" or not is_joint(model.model.diffusion_model):
        return []
    return [] if [_REST] in wanted and len(wanted) > 1 else [[_REST]] if [_REST] not in wanted else [["object"]]


NODES = [HSpaceWordMask]
