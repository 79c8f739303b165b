"""Texts on which libraries for tokenization may differ."""

from pipeline.corpus.tokenization.special_tokens import SPECIAL_TOKENS

_PREFIX = "the naïve film isn't 100 % of 映画. " * 140  # longer than a prefix that is cached, 4 KB

ODD_TEXTS = (
    "",
    " ",
    "film",
    "  two  spaces\n\n and\t tabs \r\n",
    "don't we'll I'M it's o'clock ''s",
    "3.14 1,000 ½ ٣ ²",
    "a\0b",
    "a\u2028b\u2029c\u0085d\u00a0e\u200bf\ufefff\u3000g",
    "e\u0301 a\u0323\u0307 a\u0307\u0323 \u0301x \u0344 q\u0327\u0301",
    "é ﬁ Å Ω ẛ̣ \u0958 \u2126",
    "\u1100\u1161\u11a8 각 한국어 가\u11a8",
    "\u0130stanbul ISTANBUL \u0131i ß ẞ \u0391\u03a3 \u039f\u0394\u039f\u03a3. \u03a3 \u01c5",
    "👩\u200d👩\u200d👧 🇩🇪 👍🏽 ☺\ufe0f 1\ufe0f\u20e3",
    "שלום مرحبا हिन्दी ไทย 映画 русский",
    "\U0010ffff \ufffd \ue000 \ufdd0",
    "\u1aeb\u0301 a\u1df6\u0301 a\U0001e4ec\u0301 a\u0897\u0301",  # new in Unicode 14 to 16
    "<br /><br/>&amp;&lt; <b>x</b> https://example.com/a?b=c#d a_b@c.de",
    "".join(SPECIAL_TOKENS) + " " + " ".join(SPECIAL_TOKENS),
    "a" * 1500,
    "ab" * 700 + "é" * 300,
    " " * 1100 + "x" + "\n" * 1100,
    # The second text follows a text with the same beginning.
    _PREFIX + " " * 30 + "x" + _PREFIX[:50],
    _PREFIX + " " * 30 + "\n",
)
