"""Errors reach the page as one sentence, and gradio still sees the handler's own signature."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator

import gradio as gr
import pytest

from grounding.errors import BoxwrightError, BusyError, Cancelled, SettingsError, StaleSaveError, StoreError
from grounding.ui.events import tell


def fail_with(error: Exception) -> None:
    raise error


def test_a_result_passes_through() -> None:
    assert tell(lambda number: number + 1)(2) == 3


@pytest.mark.parametrize(
    ("error", "title"),
    [
        (StoreError("The file is locked."), "Not done"),
        (Cancelled("You stopped it."), "Stopped"),
        (SettingsError("steps=0 is below 1."), "A setting doesn't fit"),
        (StaleSaveError("Ann saved it meanwhile."), "Not saved"),
        (BusyError("The model loads."), "Not just now"),
    ],
)
def test_an_explained_error_shows_its_own_sentence(error: BoxwrightError, title: str) -> None:
    with pytest.raises(gr.Error) as shown:
        tell(fail_with)(error)
    assert shown.value.message == str(error)
    assert shown.value.title == title
    assert shown.value.print_exception is False


def test_a_phrase_inside_a_message_is_escaped_as_gradio_shows_html() -> None:
    with pytest.raises(gr.Error) as shown:
        tell(fail_with)(StoreError("No sample '<img src=x onerror=alert(1)>'."))
    assert "<img" not in shown.value.message
    assert "&lt;img" in shown.value.message


def test_an_unexpected_error_is_logged_with_its_traceback_and_told_honestly(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(gr.Error) as shown:
        tell(fail_with)(ZeroDivisionError("secret detail"))
    assert "ZeroDivisionError" in shown.value.message
    assert "secret detail" not in shown.value.message
    assert "secret detail" in caplog.text
    assert "Traceback" in caplog.text


def test_a_gradio_error_is_left_as_it_is() -> None:
    original = gr.Error("as it is")
    with pytest.raises(gr.Error) as shown:
        tell(fail_with)(original)
    assert shown.value is original


def test_a_generator_stays_one_and_tells_its_error_after_what_it_gave() -> None:
    @tell
    def count() -> Iterator[int]:
        yield 1
        raise StoreError("No more.")

    assert inspect.isgeneratorfunction(count)
    numbers = count()
    assert next(numbers) == 1
    with pytest.raises(gr.Error, match="No more"):
        next(numbers)


def test_the_signature_that_gradio_reads_is_kept() -> None:
    @tell
    def handler(event: gr.EventData, name: str) -> str:
        return name

    assert list(inspect.signature(handler).parameters) == ["event", "name"]
