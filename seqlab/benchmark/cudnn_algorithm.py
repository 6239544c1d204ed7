"""Which of cuDNN's algorithms PyTorch chooses for a recurrent layer, as its source says it does."""

from seqlab.benchmark.case import Shape

STANDARD, PERSIST_STATIC, SMALL_H = "STANDARD", "PERSIST_STATIC", "PERSIST_STATIC_SMALL_H"

# By cell and way, the backward one being True.
SMALL_H_UNITS = {
    ("rnn", False): 384,
    ("rnn", True): 256,
    ("lstm", False): 192,
    ("lstm", True): 128,
    ("gru_reset_after", False): 192,
    ("gru_reset_after", True): 128,
}


def cudnn_algorithm(cell: str, shape: Shape, dtype: str, backward: bool) -> str:
    """The algorithm of one unidirectional layer over padded sequences on an A100 or later.

    Args:
        cell: rnn, lstm or gru_reset_after.
        shape: B, T, D, H.
        dtype: float16, bfloat16, float32 or float64.
        backward: the algorithm of the way back; it may be another one.

    Source: `get_algo` in aten/src/ATen/native/cudnn/RNN.cpp, for compute capability 8.0 and 9.0.
    """
    batch_size, units = shape.batch_size, shape.hidden_dim
    if dtype != "float64" and units <= SMALL_H_UNITS[cell, backward]:
        return SMALL_H
    fits = units <= 1024 and units % 128 == 0 and shape.input_dim % 128 == 0
    batch_fits = batch_size % 8 == 0 and batch_size <= 128
    if cell == "rnn":
        batch_fits = batch_fits and (batch_size < 96 or units < 896)
    if dtype == "float16" and fits and batch_fits and cell != "gru_reset_after":
        return PERSIST_STATIC
    return STANDARD
