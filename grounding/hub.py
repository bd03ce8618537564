"""What the Hugging Face Hub takes for a name, and why it took nothing: one wording for adapters and data sets."""

from __future__ import annotations

import re

from grounding.errors import first_sentence

_REPO_ID = re.compile(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", re.ASCII)


def is_repo_id(text: str) -> bool:
    """Whether it may be the name of a repository there: "owner/name"."""
    return _REPO_ID.fullmatch(text) is not None


def make_repository(repo_id: str, *, private: bool, kind: str = "model") -> str:
    """Make the repository of this kind ("model" or "dataset") where it is missing. Returns "" when files may go up,
    else why not: the Hub leaves one that stands as it is, and nothing that is to be private may go up for everybody.

    Raises what `hub_errors` names.
    """
    from huggingface_hub import HfApi

    hub = HfApi()
    hub.create_repo(repo_id, repo_type=kind, private=private, exist_ok=True)
    if private and not hub.repo_info(repo_id, repo_type=kind).private:
        return (
            "it stands there already and is public, so what goes up would not be private. Nothing was uploaded: take "
            "another name, make it private in its settings on the Hub, or push it as public."
        )
    return ""


def hub_errors() -> tuple[type[Exception], ...]:
    """What the Hub's client raises for a refusal, and for a network that is not there."""
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # httpx2's, of which its own come

    return (HTTPError, OSError, ValueError)


def why_refused(error: Exception, repo_id: str, *, left: str) -> str:
    """What is in the way, and the way out. `left` is a sentence on what now stands there."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    response = error.response if isinstance(error, HfHubHTTPError) else None
    status = response.status_code if response is not None else None
    if isinstance(error, LocalTokenNotFoundError) or status == 401:
        return "nobody is signed in here, or the token is no longer valid. Run `hf auth login` in a terminal."
    if status in (403, 404):
        owner = repo_id.partition("/")[0]
        return (
            f"the token may not write for {owner!r}. Take your own name or an organisation of yours, and a token that "
            "may write (`hf auth login`)."
        )
    return (
        f"{first_sentence(error)}. {left} Check the network, and that somebody is signed in (`hf auth login`), "
        "and push again."
    )
