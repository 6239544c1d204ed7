"""Tokenisation of typed lines, as the published texts are tokenised."""

import re

# In this order: "n't" and the word before it, "'s" and its like, words and their hyphens, signs.
_WORD = re.compile(
    r"n't\b|\w+?(?=n't\b)|'(?:s|m|d|re|ve|ll)\b|\w+(?:[-.]\w+)*|[^\w\s]", re.IGNORECASE
)


def words(line: str, lower: bool = True) -> list[str]:
    """Split as Penn Treebank is: `It's fun, isn't it?` is `it 's fun , is n't it ?`.

    Args:
        line: text, or words with spaces between.
        lower: make capitals small, as all texts here are but for UD EWT and WikiText-2.
    """
    found = _WORD.findall(line.replace("’", "'"))
    return [word.lower() for word in found] if lower else found
