"""Errors that a user can cause or fix. Each class has an exit code.

A message says where, what was found, what was expected and what to do. The command line prints it without a
traceback. Any other exception is a bug of the toolkit and is printed with its traceback.
"""

import difflib
from collections.abc import Iterable


class PaddlexSegError(Exception):
    """Base of every error that the toolkit raises on purpose."""

    exit_code = 1


class ConfigError(PaddlexSegError):
    """The command line, the configuration file or one of its values is wrong."""

    exit_code = 2


class OutputError(ConfigError):
    """The output folder cannot be written. Only the terminal can tell it."""


class DatasetError(PaddlexSegError):
    """Images or annotations are missing, unreadable or contradict each other."""

    exit_code = 3


class ForeignDataset(DatasetError):
    """A data set as another tool wrote it. It must be converted before it is used."""

    def __init__(self, found: str, command: str, source: str):
        super().__init__(f"{found}. {command}")
        self.found = found  # what it is, without a full stop
        self.source = source  # value of CheckDataset.convert.src_dataset_type that converts it


class UnclearDataset(DatasetError):
    """A place in which no data set was recognised, more than one, or one that cannot be used."""


class WeightsError(PaddlexSegError):
    """A weight file is missing, damaged, unsafe or of another model."""


class BackendError(PaddlexSegError):
    """A device, a runtime or an exported model cannot be used."""


class CertificateError(BackendError):
    """An exported file is not proven to give what its model gives, or is proven not to."""


def with_hint(error: Exception, hint: str) -> Exception:
    """The error to raise in place of ``error`` to add a sentence to its message.

    An error of the toolkit keeps its class. Errors of the system become errors of the toolkit, other ones
    stay unexpected.
    """
    if isinstance(error, PaddlexSegError):
        return type(error)(f"{error} {hint}")
    text = f"{type(error).__name__}: {error}. {hint}" if str(error) else f"{type(error).__name__}. {hint}"
    return PaddlexSegError(text) if isinstance(error, OSError | MemoryError) else RuntimeError(text)


def suggest(word: str, valid: Iterable[str]) -> str:
    """`` Did you mean ...?`` with the most similar word of ``valid``; empty if none is similar."""
    words = {name.lower(): name for name in valid}
    near = difflib.get_close_matches(word.lower(), list(words), n=1, cutoff=0.6)
    return f" Did you mean {words[near[0]]}?" if near else ""
