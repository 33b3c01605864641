"""A STAC API on loopback that answers with any number of Sentinel-2 items, made as they are asked for from a real one.

    python benchmarks/stac_api.py ITEMS        prints its address, and serves until it is killed

Tiles of 109.8 km over the UTM zones, with 73 dates each. It pages by tokens and knows nothing of areas: every question is
about all of it.
"""

from __future__ import annotations

import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from measured import KIT
from pyproj import Transformer

DATES = 73
SIDE_M = 109_800
RECORDED = KIT / "stac" / "odc-stac" / "site1-20200606-tall-strip-africa.geojson"


class World:
    """Items by number: those of one date are together.

    Attributes:
        size: how many there are.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._tiles = _tiles(-(-size // DATES))
        self._parts = re.split(r'"#([^#"]+)#"|@([A-Z]+)@', _template())

    def item(self, number: int) -> str:
        """One item as JSON: every third part is text, between them are names of numbers and of texts."""
        date, tile = divmod(number, len(self._tiles))
        share = (number * 2_654_435_761) % 100_003 / 100_003
        values = self._values(date, tile, cloud=share * 20)
        out = []
        for place, part in enumerate(self._parts):
            if place % 3 == 0:
                out.append(part)
            elif part is not None:
                out.append(values.get(part) or repr(round(share * place * 37 % 100, 6)))
        return "".join(out)

    def _values(self, date: int, tile: int, *, cloud: float) -> dict[str, str]:
        epsg, left, top, lon, lat = self._tiles[tile]
        day = np.datetime64("2021-01-01") + date * 5
        ring = [[round(x, 7), round(y, 7)] for x, y in zip([*lon, lon[0]], [*lat, lat[0]], strict=True)]
        name, bare = f"T{tile:05d}", str(day).replace("-", "")
        return {
            "ID": f"S2A_MSIL2A_{bare}T{tile % 24:02d}{date % 60:02d}24_R{tile % 143:03d}_{name}_{date:02d}",
            "TILE": name, "DAY": bare, "TIME": f"{day}T10:{tile % 60:02d}:{tile // 60 % 60:02d}.024000Z",
            "epsg": str(epsg), "cloud": repr(round(cloud, 6)), "left": str(left), "top": str(top),
            "ring": json.dumps([ring]), "grid": json.dumps([left, top - SIDE_M, left + SIDE_M, top]),
            "box": json.dumps([min(lon), min(lat), max(lon), max(lat)]),
        }  # fmt: skip

    def page(self, url: str, question: dict[str, Any]) -> bytes:
        """The answer to a search: a token is the number of the item to go on with."""
        start = int(question.get("token", 0))
        end = min(start + int(question.get("limit", 10)), self.size)
        link = {"rel": "next", "href": url, "method": "POST", "merge": True, "body": {"token": str(end)}}
        items, links = ",".join(map(self.item, range(start, end))), json.dumps([link] if end < self.size else [])
        return f'{{"type":"FeatureCollection","features":[{items}],"links":{links}}}'.encode()


def _tiles(count: int) -> list[tuple[int, int, int, list[float], list[float]]]:
    """Zone, upper-left corner and corners in degrees of some tiles that lie in their zone."""
    tiles = []
    for epsg in [*range(32601, 32661), *range(32701, 32761)]:
        to_degrees = Transformer.from_crs(f"EPSG:{epsg}", "EPSG:4326", always_xy=True)
        x, y = (
            v.ravel() for v in np.meshgrid(np.arange(200_000, 900_000, 100_000), np.arange(100_020, 7_900_020, 100_000))
        )
        y = y if epsg < 32700 else 10_000_000 - y
        corners = ((0, 0), (0, SIDE_M), (SIDE_M, SIDE_M), (SIDE_M, 0))
        lon, lat = np.array([to_degrees.transform(x + east, y - south) for east, south in corners]).transpose(1, 2, 0)
        inside = np.flatnonzero((np.abs(lon - ((epsg % 100) * 6 - 183)) <= 3.6).all(axis=1))
        tiles += [(epsg, int(x[k]), int(y[k]), lon[k].tolist(), lat[k].tolist()) for k in inside]
    return [tiles[k] for k in np.random.default_rng(0).permutation(len(tiles))[:count]]


def _template() -> str:
    """A recorded item of the Planetary Computer, with ``@NAME@`` in its texts and ``"#name#"`` for its numbers."""
    item = json.loads(RECORDED.read_text())["features"][0]
    properties, whole = item["properties"], item["id"]
    for key, value in properties.items():
        if key.endswith("percentage"):
            properties[key] = f"#{key}#"
        elif isinstance(value, str):
            properties[key] = value.replace("T35MNM", "@TILE@").replace("20200606", "@DAY@")
    properties |= {"datetime": "@TIME@", "proj:epsg": "#epsg#", "eo:cloud_cover": "#cloud#", "s2:mgrs_tile": "@TILE@"}
    item |= {"geometry": {"type": "Polygon", "coordinates": "#ring#"}, "bbox": "#box#"}
    for asset in item["assets"].values():
        if "proj:transform" in asset:
            asset["proj:transform"][2], asset["proj:transform"][5] = "#left#", "#top#"
        if "proj:bbox" in asset:
            asset["proj:bbox"] = "#grid#"
    return json.dumps(item, separators=(",", ":")).replace(whole, "@ID@").replace("T35MNM", "@TILE@")


def serve(size: int) -> None:
    world = World(size)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_args: object) -> None:
            pass

        def do_GET(self) -> None:
            search = {"rel": "search", "href": f"{url}/search", "method": "POST"}
            self.answer(json.dumps({"type": "Catalog", "id": "world", "links": [search]}).encode())

        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.answer(world.page(f"{url}/search", question))

        def answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    url = f"http://127.0.0.1:{server.server_port}"
    print(url, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
