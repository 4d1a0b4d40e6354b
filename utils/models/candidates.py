"""How clearly the values of candidates tell them apart, without knowing which is the best."""

import numpy as np
import scipy  # its stats are loaded where they are first used: half a second


def effective_number(logits: np.ndarray) -> np.ndarray:
    """Returns how many candidates a softmax pick is spread over: the exponential of its entropy.

    Args:
        logits: (n, n_pi), at most 0, the greatest of each row 0; -inf: never picked.

    Returns:
        (n,), from 1, a greedy pick, to n_pi, where the values do not matter.
    """
    return np.exp(scipy.stats.entropy(np.exp(logits), axis=1))


def rank_agreement(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns Spearman's correlation over the candidates of two (n, n_pi) values, (n,).

    Nan where all candidates of a row have the same value.
    """
    ranks, other_ranks = (scipy.stats.rankdata(x, axis=1) for x in (values, others))
    ranks, other_ranks = (x - x.mean(axis=1, keepdims=True) for x in (ranks, other_ranks))
    norms = np.sqrt((ranks**2).sum(axis=1) * (other_ranks**2).sum(axis=1))
    with np.errstate(invalid='ignore'):
        return (ranks * other_ranks).sum(axis=1) / norms
