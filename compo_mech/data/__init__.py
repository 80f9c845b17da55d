"""Tasks, and the strings, tokens and batches that are made of them."""

from compo_mech.data.tasks import Task, Copy, Parity, Polynomial, Automaton, Counter, Dihedral, Symmetric, TaskField
from compo_mech.data.tables import stack_tables, run_tables
from compo_mech.data.layout import Span, Rows, WHOLE_SPANS, Layout
from compo_mech.data.packing import Packing
from compo_mech.data.vocabulary import Vocabulary
from compo_mech.data.tokenizer import Tokenizer, SymbolTokenizer, encoded, pieces
from compo_mech.data.config import DataConfig, Stage
from compo_mech.data.encode import encode, Encoded, Encoder
from compo_mech.data.splits import (
    MIN_SPLIT,
    n_strings,
    is_split,
    string_hash,
    is_test_string,
    all_strings,
    test_strings,
    train_strings,
)
from compo_mech.data.stream import TrainingStream, Batch
from compo_mech.data.mixed_stream import MixedStream, stream_of

__all__ = [
    "Task",
    "Copy",
    "Parity",
    "Polynomial",
    "Automaton",
    "Counter",
    "Dihedral",
    "Symmetric",
    "TaskField",
    "stack_tables",
    "run_tables",
    "Span",
    "Rows",
    "WHOLE_SPANS",
    "Layout",
    "Packing",
    "Vocabulary",
    "Tokenizer",
    "SymbolTokenizer",
    "encoded",
    "pieces",
    "DataConfig",
    "Stage",
    "encode",
    "Encoded",
    "Encoder",
    "MIN_SPLIT",
    "n_strings",
    "is_split",
    "string_hash",
    "is_test_string",
    "all_strings",
    "test_strings",
    "train_strings",
    "TrainingStream",
    "Batch",
    "MixedStream",
    "stream_of",
]
