"""Looking for scenes: in bulk, with patience, going on where a search broke."""

from pwcat.search.collections import require_collection
from pwcat.search.items import Answer, ask, find_items

__all__ = ["Answer", "ask", "find_items", "require_collection"]
