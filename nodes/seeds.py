"""What a seed of noise means, in the whole pack; said at every one of them."""

EACH = "Every picture of a batch gets the same noise, which is the one that it would get alone."
ONE_BY_ONE = "They are drawn one after another, so that more of them leave the first as they were."
