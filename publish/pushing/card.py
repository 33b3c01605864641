"""The Hub's own judgement of a card, asked for before anything is sent."""

from __future__ import annotations

import logging
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.utils import get_session, hf_raise_for_status  # type: ignore[attr-defined]

from publish.pushing.retrying import call
from publish.pushing.target import Kind
from pwcat.errors import PublishError

__all__ = ["check_card"]

logger = logging.getLogger(__name__)

CARD = "README.md"


def check_card(folder: Path, kind: Kind) -> None:
    """Ask the Hub whether it takes the front matter of a card: it refuses a whole commit for it.

    Raises:
        PublishError: It does not; says every fault that it found.
    """
    if not (folder / CARD).is_file():
        return
    content = (folder / CARD).read_text(encoding="utf-8")
    answer = call("have the Hub check the card", lambda: _validated(content, kind))
    for warning in answer.get("warnings", []):
        logger.warning("the Hub says of the card: %s", warning.get("message"))
    if faults := [str(error.get("message")) for error in answer.get("errors", [])]:
        raise PublishError(
            f"the Hub does not take the front matter of {folder / CARD}: {'; '.join(faults)}; correct it and build again"
        )


def _validated(content: str, kind: Kind) -> dict[str, list[dict[str, str]]]:
    # No token is needed for this, so none is sent.
    response = get_session().post(
        f"{constants.ENDPOINT}/api/validate-yaml", json={"content": content, "repoType": kind}
    )
    if response.status_code != 400:  # of faults in the card, which the body lists
        hf_raise_for_status(response)
    answer = response.json()
    return answer if isinstance(answer, dict) else {}
