"""Word vectors by counting: co-occurrences, their PPMI, and its SVD."""

from typing import TYPE_CHECKING

import numpy as np

from seqlab.embeddings.corpus import Words

if TYPE_CHECKING:
    from scipy.sparse import csr_array


def cooccurrences(words: Words, size: int, window: int) -> "csr_array":
    """How often each word stands at most `window` words from each other, in its line.

        n_ab = |{(i, j): word i is a, word j is b, 0 < |i - j| ≤ window}|

    Args:
        words: the text.
        size: V.
        window: ≥ 1.

    Returns:
        [V, V], symmetric, int64.
    """
    from scipy.sparse import coo_array

    ids, lines = words
    total = coo_array((size, size), dtype=np.int64).tocsr()
    for distance in range(1, min(window, len(ids) - 1) + 1):
        together = lines[distance:] == lines[:-distance]
        pair = (ids[:-distance][together], ids[distance:][together])
        total = total + coo_array((np.ones(len(pair[0]), np.int64), pair), (size, size)).tocsr()
    return (total + total.T).tocsr()


def ppmi(counts: "csr_array") -> "csr_array":
    """Positive pointwise mutual information: how much more often than by chance, in nats.

        m_ab = max(0, log(n_ab · n / (n_a · n_b))),    n_a = Σ_b n_ab,    n = Σ_a n_a

    Source: Church and Hanks 1990; the positive part, Bullinaria and Levy 2007.
    """
    from scipy.sparse import coo_array

    found = counts.tocoo()
    rows, columns = found.coords
    of_a = np.asarray(counts.sum(axis=1), np.float64)
    of_b = np.asarray(counts.sum(axis=0), np.float64)
    information = np.log(found.data * of_a.sum() / (of_a[rows] * of_b[columns]))
    above = information > 0
    kept = (information[above], (rows[above], columns[above]))
    return coo_array(kept, counts.shape).tocsr()


def factors(matrix: "csr_array", dim: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors whose products are the matrix of rank `dim` that is nearest to this one.

        M ≈ U_d Σ_d V_dᵀ = (U_d √Σ_d)(V_d √Σ_d)ᵀ

    Args:
        matrix: [V, V].
        dim: d < V.
        seed: of the vector that the iteration begins with.

    Returns:
        Of words and of contexts, [V, d] each, float32.

    Source: Levy and Goldberg 2014, Neural Word Embedding as Implicit Matrix Factorization.
    """
    from scipy.sparse.linalg import svds

    u, s, vt = svds(matrix, dim, rng=np.random.default_rng(seed))
    assert u is not None
    assert vt is not None
    root = np.sqrt(s)
    return (u * root).astype(np.float32), (vt.T * root).astype(np.float32)
