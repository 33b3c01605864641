"""Looking for scenes: in bulk, with patience, going on where a search broke."""

from pwcat.search.collections import require_collection
from pwcat.search.items import Answer, ask, find_items, items_by_id
from pwcat.search.paging import Refused
from pwcat.search.shelf import Shelf

__all__ = ["Answer", "Refused", "Shelf", "ask", "find_items", "items_by_id", "require_collection"]
