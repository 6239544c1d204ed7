"""Vectors of words: counted, or learnt by word2vec; and what they are asked."""
