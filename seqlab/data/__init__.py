"""Data sets by their configuration: `load(config)` for any entry of the six tables of kinds."""

from typing import Any, overload

from seqlab.data import (
    arithmetic,
    characters,
    coco,
    dna,
    hello,
    images,
    memorisation,
    moving_digits,
    music,
    ptb,
    scenes,
    sentiment,
    series,
    shapes,
    speech,
    strokes,
    tagging,
    translation,
    wikitext,
    word_eval,
    xml,
)
from seqlab.data.arithmetic import Arithmetic
from seqlab.data.characters import PtbChar, Shakespeare
from seqlab.data.coco import CocoCaptions
from seqlab.data.dna import Promoters, Splice
from seqlab.data.examples import ExampleDataset, Examples, Ragged
from seqlab.data.hello import Hello
from seqlab.data.images import ImageDataset, Images, Labelled
from seqlab.data.memorisation import Memorisation
from seqlab.data.moving_digits import MovingDigits
from seqlab.data.music import Music
from seqlab.data.ptb import Ptb
from seqlab.data.scenes import (
    CaptionDataset,
    Captioned,
    Captions,
    QuestionDataset,
    Questioned,
    Questions,
)
from seqlab.data.sentiment import MovieReviews, Sst
from seqlab.data.series import SeriesDataset, TimeSeries
from seqlab.data.shapes import Shapes
from seqlab.data.speech import SpokenDigits
from seqlab.data.stream import Dataset
from seqlab.data.strokes import StrokeDataset, Strokes
from seqlab.data.tagging import Ewt
from seqlab.data.translation import Multi30k, Tatoeba
from seqlab.data.wikitext import WikiText2
from seqlab.data.word_eval import WordEval, WordQuestions
from seqlab.data.xml import Xml

__all__ = [
    "CHANNELS",
    "EXAMPLE_KINDS",
    "FRAME_KINDS",
    "IMAGE_KINDS",
    "JUDGEMENT_KINDS",
    "KINDS",
    "SCENE_KINDS",
    "Arithmetic",
    "CaptionDataset",
    "Captioned",
    "Captions",
    "CocoCaptions",
    "Config",
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
    "MovingDigits",
    "Multi30k",
    "Music",
    "Promoters",
    "Ptb",
    "PtbChar",
    "QuestionDataset",
    "Questioned",
    "Questions",
    "Ragged",
    "SeriesDataset",
    "Shakespeare",
    "Shapes",
    "Splice",
    "SpokenDigits",
    "Sst",
    "StrokeDataset",
    "Strokes",
    "Tatoeba",
    "TimeSeries",
    "WikiText2",
    "WordEval",
    "WordQuestions",
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

FRAME_KINDS = {
    MovingDigits: moving_digits.load,
    SpokenDigits: speech.load,
    Strokes: strokes.load,
}
"""What is read as many sequences of measurements: frames of sound or of a film, ways of a pen."""

SCENE_KINDS = {
    Captions: scenes.load_captions,
    CocoCaptions: coco.load,
    Questions: scenes.load_questions,
}
"""Sets of pictures with questions or captions."""

JUDGEMENT_KINDS = {WordEval: word_eval.load}
"""Human judgements of words; nothing is trained on them."""

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
"""Sets of many sequences, each with a class, tags, a translation or a value as its target."""

_CHECKS = {
    Captions: scenes.check,
    CocoCaptions: coco.check,
    Ewt: tagging.check,
    Images: images.check,
    MovieReviews: sentiment.check_movie_reviews,
    MovingDigits: moving_digits.check,
    Multi30k: translation.check_multi30k,
    Music: music.check,
    Promoters: dna.check_promoters,
    Ptb: ptb.check,
    PtbChar: characters.check_ptb_char,
    Questions: scenes.check,
    Shakespeare: characters.check_shakespeare,
    Splice: dna.check_splice,
    SpokenDigits: speech.check,
    Sst: sentiment.check_sst,
    Strokes: strokes.check,
    Tatoeba: translation.check_tatoeba,
    TimeSeries: series.check,
    WikiText2: wikitext.check,
    WordEval: word_eval.check,
}

DataConfig = Arithmetic | Memorisation | Music | Ptb | PtbChar | Shakespeare | WikiText2 | Xml
ImageConfig = Images | Shapes
FrameConfig = MovingDigits | SpokenDigits
SceneConfig = Captions | CocoCaptions | Questions
ExampleConfig = (
    Ewt | Hello | MovieReviews | Multi30k | Promoters | Splice | Sst | Tatoeba | FrameConfig
)
Config = DataConfig | ImageConfig | ExampleConfig | SceneConfig | Strokes | TimeSeries | WordEval


@overload
def load(config: DataConfig) -> Dataset: ...
@overload
def load(config: ImageConfig) -> ImageDataset: ...
@overload
def load(config: ExampleConfig) -> ExampleDataset: ...
@overload
def load(config: TimeSeries) -> SeriesDataset: ...
@overload
def load(config: Strokes) -> StrokeDataset: ...
@overload
def load(config: Questions) -> QuestionDataset: ...
@overload
def load(config: Captions | CocoCaptions) -> CaptionDataset: ...
@overload
def load(config: WordEval) -> WordQuestions: ...
def load(
    config: Config,
) -> (
    Dataset
    | ImageDataset
    | ExampleDataset
    | SeriesDataset
    | StrokeDataset
    | QuestionDataset
    | CaptionDataset
    | WordQuestions
):
    """The three splits that a configuration stands for; the same configuration, the same bits.

    Raises:
        InputError: the data is not there or is damaged.
    """
    tables = (KINDS, IMAGE_KINDS, FRAME_KINDS, SCENE_KINDS, JUDGEMENT_KINDS, EXAMPLE_KINDS)
    found: dict[type, Any] = {kind: read for table in tables for kind, read in table.items()}
    return found[type(config)](config)


def check(config: Config) -> None:
    """Raise the InputError that `load` would, without the work."""
    if type(config) in _CHECKS:  # what is generated is always there
        _CHECKS[type(config)](config)
