"""Data sets by their configuration: `load(config)` for any entry of `KINDS`."""

from seqlab.data import arithmetic, memorisation, music, ptb, xml
from seqlab.data.arithmetic import Arithmetic
from seqlab.data.memorisation import Memorisation
from seqlab.data.music import Music
from seqlab.data.ptb import Ptb
from seqlab.data.stream import Dataset
from seqlab.data.xml import Xml

KINDS = {
    Arithmetic: arithmetic.load,
    Memorisation: memorisation.load,
    Music: music.load,
    Ptb: ptb.load,
    Xml: xml.load,
}

CHANNELS = {
    Arithmetic: len(arithmetic.SYMBOLS),
    Memorisation: len(memorisation.SYMBOLS),
    Music: music.NOTES,
    Ptb: ptb.VOCABULARY,
    Xml: len(xml.SYMBOLS),
}
"""V or C of each kind, known before anything is loaded."""

DataConfig = Arithmetic | Memorisation | Music | Ptb | Xml


def load(config: DataConfig) -> Dataset:
    """The three streams that a configuration stands for; the same configuration, the same bits.

    Raises:
        InputError: the data is not there or is damaged.
    """
    return KINDS[type(config)](config)


def check(config: DataConfig) -> None:
    """Raise the InputError that `load` would, without the work."""
    if isinstance(config, Music):
        music.check(config)
    elif isinstance(config, Ptb):
        ptb.check(config)
