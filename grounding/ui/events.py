"""The one place that turns an error into what the page says."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator
from functools import wraps
from html import escape
from typing import Any, NoReturn, TypeVar, cast

import gradio as gr

from grounding.errors import BoxwrightError, BusyError, Cancelled, PictureError, SettingsError, StaleSaveError
from grounding.training.preflight.records import PreflightError

log = logging.getLogger(__name__)

Handler = TypeVar("Handler", bound=Callable[..., Any])

UNEXPECTED = (
    "Something went wrong that Boxwright did not foresee ({kind}). Nothing you saved is lost; "
    "the details stand in the terminal that runs the app."
)


# What a sentence is about, where that can be told by the error's kind; the first that fits counts.
_TITLES: tuple[tuple[type[BoxwrightError], str], ...] = (
    (Cancelled, "Stopped"),
    (PreflightError, "Not started"),
    (SettingsError, "A setting doesn't fit"),
    (StaleSaveError, "Not saved"),
    (BusyError, "Not just now"),
    (PictureError, "The picture can't be used"),
)


def title_of(error: BoxwrightError) -> str:
    """What stands over the sentence of an error in its notice."""
    return next((title for kind, title in _TITLES if isinstance(error, kind)), "Not done")


def tell(handler: Handler) -> Handler:
    """Decorate an event handler, plain or generator, so that its errors reach the page as one sentence.

    A `BoxwrightError` shows its own message, `Cancelled` a quiet notice. Anything else is logged with its
    traceback and shown as one honest sentence. The signature stays as it is: gradio reads it.
    """
    if inspect.isgeneratorfunction(handler):

        @wraps(handler)
        def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
            try:
                yield from handler(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - the edge of the program: every error is shown, none is swallowed
                _show(error, handler.__name__)

        return cast("Handler", stream)

    @wraps(handler)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - as above
            _show(error, getattr(handler, "__name__", "handler"))

    return cast("Handler", call)


def tell_programs(handler: Handler) -> Handler:
    """As `tell`, for a handler that only programs call: they get the sentence as it is, not as HTML."""

    @wraps(handler)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - as above
            _show(error, getattr(handler, "__name__", "handler"), as_html=False)

    return cast("Handler", call)


def _show(error: Exception, handler_name: str, *, as_html: bool = True) -> NoReturn:
    # gradio shows the message as HTML, and messages quote names and phrases that people typed.
    if isinstance(error, gr.Error):
        raise error
    if isinstance(error, BoxwrightError):
        seconds = 5 if isinstance(error, Cancelled) else 15
        sentence = escape(str(error)) if as_html else str(error)
        raise gr.Error(sentence, title=title_of(error), duration=seconds, print_exception=False) from error
    log.error("%s failed", handler_name, exc_info=error)
    sentence = UNEXPECTED.format(kind=type(error).__name__)
    raise gr.Error(sentence, title="Unexpected error", duration=None, print_exception=False) from error
