"""Special tokens, which have the same ids in every vocabulary."""

SPECIAL_TOKENS = ("<pad>", "<unk>", "<s>", "</s>")
PAD, UNK, BEGIN, END = range(4)
UNKNOWN = SPECIAL_TOKENS[UNK]
