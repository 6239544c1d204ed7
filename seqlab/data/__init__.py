"""Data sets by their configuration: `load(config)` for any entry of the three tables of kinds."""

from typing import overload

from seqlab.data import (
    arithmetic,
    characters,
    dna,
    hello,
    images,
    memorisation,
    music,
    ptb,
    sentiment,
    series,
    shapes,
    tagging,
    translation,
    wikitext,
    xml,
)
from seqlab.data.arithmetic import Arithmetic
from seqlab.data.characters import PtbChar, Shakespeare
from seqlab.data.dna import Promoters, Splice
from seqlab.data.examples import ExampleDataset, Examples, Ragged
from seqlab.data.hello import Hello
from seqlab.data.images import ImageDataset, Images, Labelled
from seqlab.data.memorisation import Memorisation
from seqlab.data.music import Music
from seqlab.data.ptb import Ptb
from seqlab.data.sentiment import MovieReviews, Sst
from seqlab.data.series import SeriesDataset, TimeSeries
from seqlab.data.shapes import Shapes
from seqlab.data.stream import Dataset
from seqlab.data.tagging import Ewt
from seqlab.data.translation import Multi30k, Tatoeba
from seqlab.data.wikitext import WikiText2
from seqlab.data.xml import Xml

__all__ = [
    "CHANNELS",
    "EXAMPLE_KINDS",
    "IMAGE_KINDS",
    "KINDS",
    "Arithmetic",
    "DataConfig",
    "Dataset",
    "Ewt",
    "ExampleConfig",
    "ExampleDataset",
    "Examples",
    "Hello",
    "ImageConfig",
    "ImageDataset",
    "Images",
    "Labelled",
    "Memorisation",
    "MovieReviews",
    "Multi30k",
    "Music",
    "Promoters",
    "Ptb",
    "PtbChar",
    "Ragged",
    "SeriesDataset",
    "Shakespeare",
    "Shapes",
    "Splice",
    "Sst",
    "Tatoeba",
    "TimeSeries",
    "WikiText2",
    "Xml",
    "check",
    "load",
]

KINDS = {
    Arithmetic: arithmetic.load,
    Memorisation: memorisation.load,
    Music: music.load,
    Ptb: ptb.load,
    PtbChar: characters.load_ptb_char,
    Shakespeare: characters.load_shakespeare,
    WikiText2: wikitext.load,
    Xml: xml.load,
}
"""What is read as one long stream per split."""

CHANNELS = {
    Arithmetic: len(arithmetic.SYMBOLS),
    Memorisation: len(memorisation.SYMBOLS),
    Music: music.NOTES,
    Ptb: ptb.VOCABULARY,
    PtbChar: len(characters.PTB_SYMBOLS),
    Shakespeare: len(characters.SHAKESPEARE_SYMBOLS),
    WikiText2: wikitext.VOCABULARY,
    Xml: len(xml.SYMBOLS),
}
"""V or C of each kind, known before anything is loaded."""

IMAGE_KINDS = {Images: images.load_images, Shapes: shapes.load_shapes}
"""What is read as labelled images."""

EXAMPLE_KINDS = {
    Ewt: tagging.load,
    Hello: hello.load,
    MovieReviews: sentiment.load_movie_reviews,
    Multi30k: translation.load_multi30k,
    Promoters: dna.load_promoters,
    Splice: dna.load_splice,
    Sst: sentiment.load_sst,
    Tatoeba: translation.load_tatoeba,
    TimeSeries: series.load,
}
"""What is read as many sequences and what is to be said of each."""

_CHECKS = {
    Ewt: tagging.check,
    Images: images.check,
    MovieReviews: sentiment.check_movie_reviews,
    Multi30k: translation.check_multi30k,
    Music: music.check,
    Promoters: dna.check_promoters,
    Ptb: ptb.check,
    PtbChar: characters.check_ptb_char,
    Shakespeare: characters.check_shakespeare,
    Splice: dna.check_splice,
    Sst: sentiment.check_sst,
    Tatoeba: translation.check_tatoeba,
    TimeSeries: series.check,
    WikiText2: wikitext.check,
}

DataConfig = Arithmetic | Memorisation | Music | Ptb | PtbChar | Shakespeare | WikiText2 | Xml
ImageConfig = Images | Shapes
ExampleConfig = Ewt | Hello | MovieReviews | Multi30k | Promoters | Splice | Sst | Tatoeba


@overload
def load(config: DataConfig) -> Dataset: ...
@overload
def load(config: ImageConfig) -> ImageDataset: ...
@overload
def load(config: ExampleConfig) -> ExampleDataset: ...
@overload
def load(config: TimeSeries) -> SeriesDataset: ...
def load(
    config: DataConfig | ImageConfig | ExampleConfig | TimeSeries,
) -> Dataset | ImageDataset | ExampleDataset | SeriesDataset:
    """The three splits that a configuration stands for; the same configuration, the same bits.

    Raises:
        InputError: the data is not there or is damaged.
    """
    return {**KINDS, **IMAGE_KINDS, **EXAMPLE_KINDS}[type(config)](config)


def check(config: DataConfig | ImageConfig | ExampleConfig | TimeSeries) -> None:
    """Raise the InputError that `load` would, without the work."""
    if type(config) in _CHECKS:  # what is generated is always there
        _CHECKS[type(config)](config)
