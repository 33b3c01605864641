"""A catalog as a STAC API: what is asked, how it is found, and how it is answered."""

import logging

# stac-fastapi warns, when it is imported, of titles that nobody has set yet; and it logs refused requests as errors.
logging.getLogger("stac_fastapi").setLevel(logging.CRITICAL)
