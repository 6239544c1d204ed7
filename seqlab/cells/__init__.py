"""The cells, by name. To add your own, add a line here."""

from seqlab.cells import elman, gru, lstm, lstm_jzs, lstm_peephole, mut
from seqlab.cells.base import Cell, LSTMCarry, symbols, uniform, zeros_ch, zeros_h

__all__ = ["CELLS", "Cell", "LSTMCarry", "symbols", "uniform", "zeros_ch", "zeros_h"]

CELLS: dict[str, Cell] = {
    "rnn": elman.rnn,
    "lstm": lstm.lstm,
    "gru": gru.gru,
    "gru_flipped": gru.gru_flipped,
    "gru_reset_after": gru.gru_reset_after,
    "lstm_jzs": lstm_jzs.lstm_jzs,
    "lstm_jzs_no_forget": lstm_jzs.lstm_jzs_no_forget,
    "lstm_jzs_no_input": lstm_jzs.lstm_jzs_no_input,
    "lstm_jzs_no_output": lstm_jzs.lstm_jzs_no_output,
    "lstm_jzs_bias": lstm_jzs.lstm_jzs_bias,
    "mut1": mut.mut1,
    "mut2": mut.mut2,
    "mut3": mut.mut3,
    "lstm_peephole": lstm_peephole.lstm_peephole,
    "lstm_nig": lstm_peephole.lstm_nig,
    "lstm_nfg": lstm_peephole.lstm_nfg,
    "lstm_nog": lstm_peephole.lstm_nog,
    "lstm_niaf": lstm_peephole.lstm_niaf,
    "lstm_noaf": lstm_peephole.lstm_noaf,
    "lstm_cifg": lstm_peephole.lstm_cifg,
    "lstm_np": lstm_peephole.lstm_np,
    "lstm_fgr": lstm_peephole.lstm_fgr,
}
