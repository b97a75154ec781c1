# The public names for editors and type checkers: __init__.py imports them when they are first used.

from feature_cache.cache import FeatureCache as FeatureCache
from feature_cache.errors import LayertapError as LayertapError
from feature_cache.version import __version__ as __version__
from layertap.runs import Run as Run
from layertap.runs import load_run as load_run
from layertap.tracking.track import track as track
from layertap.workflows.compare import compare as compare
from layertap.workflows.drift import drift as drift
from layertap.workflows.evaluate import evaluate as evaluate
from layertap.workflows.explore import explore as explore
from layertap.workflows.export import export as export
from layertap.workflows.extract import extract as extract
from layertap.workflows.feature_map import feature_map as feature_map
from layertap.workflows.fine_tune import fine_tune as fine_tune
from layertap.workflows.load_dataset import load_dataset as load_dataset
from layertap.workflows.predict import predict as predict
from layertap.workflows.review import review as review
from layertap.workflows.search import search as search
from layertap.workflows.sweep import sweep as sweep
from layertap.workflows.train_head import train_head as train_head
from transfer.data.datasets import Dataset as Dataset
from transfer.extraction.extractor import FeatureExtractor as FeatureExtractor
from transfer.extraction.feature_set import FeatureSet as FeatureSet
from transfer.nets.catalogue import Net as Net
