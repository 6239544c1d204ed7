"""Data sets by their configuration: `load(config)` for any entry of `KINDS` or `IMAGE_KINDS`."""

from typing import overload

from seqlab.data import arithmetic, images, memorisation, music, ptb, shapes, xml
from seqlab.data.arithmetic import Arithmetic
from seqlab.data.images import ImageDataset, Images, Labelled
from seqlab.data.memorisation import Memorisation
from seqlab.data.music import Music
from seqlab.data.ptb import Ptb
from seqlab.data.shapes import Shapes
from seqlab.data.stream import Dataset
from seqlab.data.xml import Xml

__all__ = [
    "CHANNELS",
    "IMAGE_KINDS",
    "KINDS",
    "Arithmetic",
    "DataConfig",
    "Dataset",
    "ImageConfig",
    "ImageDataset",
    "Images",
    "Labelled",
    "Memorisation",
    "Music",
    "Ptb",
    "Shapes",
    "Xml",
    "check",
    "load",
]

KINDS = {
    Arithmetic: arithmetic.load,
    Memorisation: memorisation.load,
    Music: music.load,
    Ptb: ptb.load,
    Xml: xml.load,
}
"""What is read as one long stream per split."""

CHANNELS = {
    Arithmetic: len(arithmetic.SYMBOLS),
    Memorisation: len(memorisation.SYMBOLS),
    Music: music.NOTES,
    Ptb: ptb.VOCABULARY,
    Xml: len(xml.SYMBOLS),
}
"""V or C of each kind, known before anything is loaded."""

IMAGE_KINDS = {Images: images.load_images, Shapes: shapes.load_shapes}
"""What is read as labelled images."""

DataConfig = Arithmetic | Memorisation | Music | Ptb | Xml
ImageConfig = Images | Shapes


@overload
def load(config: DataConfig) -> Dataset: ...
@overload
def load(config: ImageConfig) -> ImageDataset: ...
def load(config: DataConfig | ImageConfig) -> Dataset | ImageDataset:
    """The three splits that a configuration stands for; the same configuration, the same bits.

    Raises:
        InputError: the data is not there or is damaged.
    """
    return {**KINDS, **IMAGE_KINDS}[type(config)](config)


def check(config: DataConfig | ImageConfig) -> None:
    """Raise the InputError that `load` would, without the work."""
    if isinstance(config, Images):
        images.check(config)
    elif isinstance(config, Music):
        music.check(config)
    elif isinstance(config, Ptb):
        ptb.check(config)
