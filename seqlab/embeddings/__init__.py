"""Word vectors: counted, or learnt by word2vec; and their evaluation."""
