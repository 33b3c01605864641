"""Which items serve which chip: beside the plain rule written down item by item, and where geometry is awkward."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer

from pwcat.errors import SourceError
from pwcat.providers import OpenSource
from pwcat.sensors.choice import MOST_ITEMS, choose_items
from pwcat.sensors.document import Sensor
from pwcat.sensors.frozen import SENSORS_SCHEMA, write_sensors
from pwcat.sensors.offers import SensorItems, collect_items
from pwcat.sensors.outlines import chip_outlines, item_outline, points_of

NONE, PART, WHOLE = 0, 1, 2
DAY = 86_400.0
CHIP = shapely.box(10, 50, 11, 51)
EAST, WEST = shapely.box(10.5, 49, 12, 52), shapely.box(9, 49, 10.5, 52)
EVERYWHERE = shapely.box(0, 40, 20, 60)


def offers_of(*outlines, start=None, end=None) -> SensorItems:
    start = np.array(start if start is not None else [np.nan] * len(outlines), dtype=float)
    return SensorItems(
        packed=[b""] * len(outlines),
        outlines=np.array(outlines, dtype=object),
        start=start,
        end=start if end is None else np.array(end, dtype=float),
    )


def choose(offers, *, moments=None, within_days=0, chips=(CHIP,), wanted=None):
    chips = np.array(chips, dtype=object)
    given = None if moments is None else np.atleast_2d(np.array(moments, dtype=float))
    wanted = chips if wanted is None else np.array(wanted, dtype=object)
    chosen, share = choose_items(offers, chips, wanted=wanted, moments=given, within_days=within_days)
    return [[[k for k in row if k >= 0] for row in rows] for rows in chosen.tolist()], share.tolist()


def test_a_chip_that_several_hold_is_served_by_the_first_of_them_by_id():
    assert choose(offers_of(EAST, EVERYWHERE, EVERYWHERE)) == ([[[1]]], [[WHOLE]])


def test_a_chip_that_none_holds_is_put_together_from_those_that_add_to_it():
    again = shapely.box(10.6, 49, 11.5, 52)
    assert choose(offers_of(EAST, again, shapely.box(0, 0, 1, 1), WEST)) == ([[[0, 3]]], [[WHOLE]])


def test_no_more_items_are_taken_than_a_chip_is_put_together_from():
    strips = [shapely.box(10 + k / 6, 49, 10 + (k + 1) / 6, 52) for k in range(6)]
    assert choose(offers_of(*strips)) == ([[[0, 1, 2, 3]]], [[PART]])
    assert MOST_ITEMS == 4


def test_what_only_touches_a_chip_does_not_serve_it():
    assert choose(offers_of(shapely.box(11, 50, 12, 51))) == ([[[]]], [[NONE]])
    assert choose(offers_of(shapely.box(11 - 1e-7, 50, 12, 51))) == ([[[]]], [[NONE]])


def test_the_nearest_in_time_serves_and_of_two_as_near_the_first_by_id():
    offers = offers_of(*[EVERYWHERE] * 4, start=[9 * DAY, 12 * DAY, 8 * DAY, 12.5 * DAY])
    assert choose(offers, moments=[10.2 * DAY], within_days=5)[0] == [[[0]]]
    assert choose(offers, moments=[10.5 * DAY], within_days=5)[0] == [[[0]]]  # 1.5 days either way
    assert choose(offers, moments=[11.0 * DAY, 12.4 * DAY, 8 * DAY], within_days=5)[0] == [[[1], [3], [2]]]


def test_one_that_holds_the_chip_goes_before_nearer_ones_that_do_not():
    offers = offers_of(EAST, EVERYWHERE, start=[10 * DAY, 13 * DAY])
    assert choose(offers, moments=[10 * DAY], within_days=5) == ([[[1]]], [[WHOLE]])
    assert choose(offers, moments=[10 * DAY], within_days=2) == ([[[0]]], [[PART]])


def test_days_are_those_of_the_calendar():
    offers = offers_of(EVERYWHERE, start=[10.01 * DAY])
    for moment, days, share in [
        (10.99, 0, WHOLE),
        (9.99, 0, NONE),
        (9.99, 1, WHOLE),
        (8.99, 1, NONE),
        (13.9, 3, WHOLE),
    ]:
        assert choose(offers, moments=[moment * DAY], within_days=days)[1] == [[share]]


def test_a_span_serves_every_day_in_it():
    months = offers_of(*[EVERYWHERE] * 2, start=[0, 31 * DAY], end=[31 * DAY - 1, 59 * DAY - 1])
    days = [0.0, 30.99, 31.0, 58.99, 59.01]
    assert choose(months, moments=[day * DAY for day in days]) == ([[[0], [0], [1], [1], []]], [[2, 2, 2, 2, 0]])


def test_a_span_that_ends_at_midnight_gives_way_to_the_one_that_begins_there():
    months = offers_of(*[EVERYWHERE] * 2, start=[0, 31 * DAY], end=[31 * DAY, 59 * DAY])
    assert choose(months, moments=[31.4 * DAY])[0] == [[[1]]]


def test_more_than_the_chip_is_wanted_but_the_share_is_of_the_chip():
    margin = shapely.buffer(CHIP, 0.1, join_style="mitre")
    left, right = shapely.box(9, 49, 11, 52), shapely.box(11, 49, 13, 52)
    assert choose(offers_of(left, right), wanted=[margin]) == ([[[0, 1]]], [[WHOLE]])
    assert choose(offers_of(left), wanted=[margin]) == ([[[0]]], [[WHOLE]])
    assert choose(offers_of(right), wanted=[margin]) == ([[[]]], [[NONE]])


def by_the_rule(boxes, start, end, chip, moment, within_days):
    """Items of one chip and date, one after the other, as the documentation has it; boxes are of whole numbers."""
    near = []
    for number, (first, last) in enumerate(zip(start, end, strict=True)):
        days = max(first // DAY - moment // DAY, moment // DAY - last // DAY, 0)
        if days <= within_days:
            near.append((max(first - moment, moment - last, 0), number))
    order = [number for _, number in sorted(near)]
    cells = {(x, y) for x in range(chip[0], chip[2]) for y in range(chip[1], chip[3])}
    held = [{(x, y) for x, y in cells if b[0] <= x < b[2] and b[1] <= y < b[3]} for b in boxes]
    for number in order:
        if held[number] == cells:
            return [number], WHOLE
    taken, left = [], set(cells)
    for number in order:
        if left & held[number] and len(taken) < MOST_ITEMS:
            taken.append(number)
            left -= held[number]
    return taken, NONE if not taken else PART if left else WHOLE


corner = st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 4), st.integers(1, 4))
square = corner.map(lambda c: (c[0], c[1], c[0] + c[2], c[1] + c[3]))
hours = st.integers(0, 24 * 6).map(lambda hour: hour * 3600.0)


@given(
    items=st.lists(st.tuples(square, hours, st.integers(0, 72)), min_size=1, max_size=10),
    chips=st.lists(st.tuples(square, hours, hours), min_size=1, max_size=4),
    within_days=st.integers(0, 4),
)
def test_the_choice_is_that_of_the_rule(items, chips, within_days):
    boxes, start, end = ([one[k] for one in items] for k in (0, 1, 2))
    end = [first + 3600 * more for first, more in zip(start, end, strict=True)]
    offers = offers_of(*[shapely.box(*one) for one in boxes], start=start, end=end)
    outlines = [shapely.box(*chip) for chip, *_ in chips]
    chosen, share = choose(offers, moments=[dates for _, *dates in chips], within_days=within_days, chips=outlines)
    for (chip, *dates), numbers, shares in zip(chips, chosen, share, strict=True):
        expected = [by_the_rule(boxes, start, end, chip, date, within_days) for date in dates]
        assert [numbers, shares] == [list(column) for column in zip(*expected, strict=True)]


def test_the_outline_of_a_chip_is_where_its_corners_are():
    (outline,) = chip_outlines(np.array([32632]), np.array([714_000.0]), np.array([5_543_000.0]), side_m=960)
    to_degrees = Transformer.from_crs(32632, 4326, always_xy=True)
    corners = [
        to_degrees.transform(714_000 + dx, 5_543_000 - dy) for dx, dy in [(0, 0), (960, 0), (960, 960), (0, 960)]
    ]
    np.testing.assert_allclose(shapely.get_coordinates(outline)[:-1:2], corners)
    inner = [to_degrees.transform(714_000 + x, 5_543_000 - y) for x in (1, 480, 959) for y in (1, 480, 959)]
    assert shapely.covers(outline, shapely.points(inner)).all()
    (grown,) = chip_outlines(np.array([32632]), np.array([714_000.0]), np.array([5_543_000.0]), side_m=960, grow_m=60)
    assert shapely.area(grown) / shapely.area(outline) == pytest.approx((1080 / 960) ** 2, rel=1e-3)
    assert len(points_of(np.array([outline, outline]))) == 5
    assert len(points_of(np.array([outline, grown]))) == 10


# A chip of 5 km over the antimeridian, in Fiji, in either of the zones that meet there; and footprints as files have them.
FIJI = {"from the west": (32760, 817_000.0), "from the east": (32701, 178_000.0)}
SPLIT = {
    "type": "MultiPolygon",
    "coordinates": [
        [[[179, -18], [180, -18], [180, -16], [179, -16], [179, -18]]],
        [[[-180, -18], [-179, -18], [-179, -16], [-180, -16], [-180, -18]]],
    ],
}
FOOTPRINTS = {
    "cut in two": SPLIT,
    "on beyond 180°": {"type": "Polygon", "coordinates": [[[179, -18], [181, -18], [181, -16], [179, -16], [179, -18]]]},
    "back from -180°": {"type": "Polygon", "coordinates": [[[-181, -18], [-179, -18], [-179, -16], [-181, -16], [-181, -18]]]},
    "with jumping edges": {"type": "Polygon", "coordinates": [[[179, -18], [-179, -18], [-179, -16], [179, -16], [179, -18]]]},
    "the whole Earth": {"type": "Polygon", "coordinates": [[[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]]},
    "the whole Earth to 360°": {"type": "Polygon", "coordinates": [[[0, -90], [360, -90], [360, 90], [0, 90], [0, -90]]]},
}  # fmt: skip


def over_the_antimeridian(side: str):
    epsg, x0 = FIJI[side]
    _, y = Transformer.from_crs(4326, epsg, always_xy=True).transform(180.0, -17.0)
    return chip_outlines(np.array([epsg]), np.array([x0]), np.array([y]), side_m=8_000)


@pytest.mark.parametrize("side", FIJI)
@pytest.mark.parametrize("footprint", FOOTPRINTS)
def test_chips_over_the_antimeridian_are_served_whole(side, footprint):
    (outline,) = over_the_antimeridian(side)
    west, _, east, _ = shapely.bounds(outline)
    assert west < -180 < east or west < 180 < east
    assert east - west < 0.1
    item = item_outline(FOOTPRINTS[footprint], None)
    assert choose(offers_of(item), chips=[outline]) == ([[[0]]], [[WHOLE]])
    assert np.abs(points_of(np.array([outline]))[:, 0]).max() <= 180


def test_two_tiles_that_meet_at_the_antimeridian_make_one_chip():
    tiles = [item_outline(None, [179, -18, 180, -16]), item_outline(None, [-180, -18, -179, -16])]
    for side in FIJI:
        assert choose(offers_of(*tiles), chips=over_the_antimeridian(side)) == ([[[0, 1]]], [[WHOLE]])


def test_a_bounding_box_over_the_antimeridian_is_read_as_one():
    assert shapely.area(item_outline(None, [179, -18, -179, -16])) == pytest.approx(8)  # on both sides of the map
    assert item_outline(None, None) is None
    assert item_outline({"type": "Point", "coordinates": [1, 2]}, None) is None
    assert shapely.area(item_outline(None, [1, 2, -50, 3, 5, 800])) == pytest.approx(6)


SENSOR = Sensor.model_validate(
    {"source": {"provider": "stac", "url": "https://example.org", "collection": "c"}, "bands": ["a"], "within_days": 3}
)
SOURCE = OpenSource(provider="stac", url="https://example.org", collection="c")


def item(name="one", *, asset="a", kind="uint16", href="https://example.org/a.tif", **fields):
    document = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": shapely.geometry.mapping(EVERYWHERE),
        "properties": {"datetime": "2021-06-01T10:00:00Z", "eo:cloud_cover": 3},
        "assets": {
            asset: {"href": href, "bands": [{"name": "x", "data_type": kind, "nodata": "nan"}]},
            "other": {"href": "no"},
        },
    }
    return {**document, **fields}


def collect(*items, sensor=SENSOR):
    return collect_items(items, name="s", sensor=sensor, source=SOURCE)


def test_items_are_kept_by_id_with_what_reading_needs_alone():
    found = collect(item("b"), item("a", geometry=None, bbox=[1, 2, 3, 4]))
    first = found.item(0)
    assert [first["id"], found.item(1)["id"]] == ["a", "b"]
    assert set(first["assets"]) == {"a"}
    assert first["properties"] == {"datetime": "2021-06-01T10:00:00+00:00"}
    assert shapely.equals(shapely.geometry.shape(first["geometry"]), shapely.box(1, 2, 3, 4))
    assert found.start.tolist() == found.end.tolist() == [datetime(2021, 6, 1, 10, tzinfo=UTC).timestamp()] * 2


@pytest.mark.parametrize("field", ["classification:classes", "classification:bitfields"])
@pytest.mark.parametrize("of_the_band", [True, False])
def test_classes_are_not_interpolated(field, of_the_band):
    cover = item()
    (cover["assets"]["a"]["bands"][0] if of_the_band else cover["assets"]["a"])[field] = [{"value": 10, "name": "tree"}]
    with pytest.raises(
        SourceError, match=r"sensors\.s\.resampling: a holds classes or flags.* say `resampling: nearest`"
    ):
        collect(cover)
    assert len(collect(cover, sensor=SENSOR.model_copy(update={"resampling": "nearest"}))) == 1


def test_dates_are_read_however_a_provider_writes_them(tmp_path):
    written = {
        "datetime": None,
        "start_datetime": "2022-01-10 05:09:22.400645+00:00",
        "end_datetime": "2022-01-10T06:09:47",
    }
    found = collect(item("radar", properties=written), item("plain", properties={"datetime": "2022-01-10T05:09:22Z"}))
    assert found.end[1] - found.start[1] == pytest.approx(3624.599, abs=0.001)
    write_sensors(tmp_path, SENSORS_SCHEMA.empty_table(), {"s": [found.item(0), found.item(1)]})
    frozen = pq.read_table(tmp_path / "sensors" / "s.parquet")
    assert frozen["start_datetime"].to_pylist() == [None, datetime(2022, 1, 10, 5, 9, 22, 400645, tzinfo=UTC)]


@pytest.mark.kit
def test_real_items_of_aerial_images_serve_as_they_are(kit, tmp_path):
    real = json.loads((kit / "stac" / "stac-geoparquet" / "naip-pc.json").read_text())
    aerial = Sensor.model_validate(
        {
            "source": {"provider": "planetary-computer", "collection": "naip"},
            "bands": ["red", "nir"],
            "within_days": 900,
        }
    )
    source = OpenSource(provider="planetary-computer", url="https://example.org", collection="naip")
    found = collect_items(real, name="naip", sensor=aerial, source=source)
    assert len(found) == len(real) > 1
    (middle,) = points_of(found.outlines[:1])[-1:]
    assert shapely.intersects_xy(found.outlines, *middle).any()
    write_sensors(
        tmp_path, SENSORS_SCHEMA.empty_table(), {"naip": [found.item(number) for number in range(len(found))]}
    )
    assert len(pq.read_table(tmp_path / "sensors" / "naip.parquet")) == len(real)


@pytest.mark.parametrize(
    ("strange", "why"),
    [
        ({"asset": "b"}, r"no asset for band 'a' \(looked for 'a'\); there are b, other"),
        ({"geometry": None}, "no geometry"),
        ({"properties": {}}, "no date"),
        ({"properties": {"datetime": "yesterday"}}, "no date"),
    ],
)
def test_items_that_cannot_serve_are_left_out_and_told_where_none_can(caplog, strange, why):
    assert len(collect(item("good"), item("bad", **strange))) == 1
    assert "sensors.s: 1 item(s) of c are left out" in caplog.text
    with pytest.raises(SourceError, match=rf"sensors\.s: none of the 2 items of c can serve; 2: {why}"):
        collect(item("bad", **strange), item("worse", **strange))


def test_a_sensor_that_is_the_same_at_every_date_needs_no_date():
    static = SENSOR.model_copy(update={"within_days": None})
    assert np.isnan(collect(item(properties={}), sensor=static).start).all()


def test_numbers_that_the_cube_cannot_hold_need_an_encoding():
    said = r"0 to 65535; say `sensors\.s\.encode\.a: \{scale: \.\.\., offset: \.\.\.\}`, for its numbers"
    with pytest.raises(SourceError, match=rf"{said} are float32"):
        collect(item(kind="float32"))
    with pytest.raises(SourceError, match=rf"{said} are int16"):
        collect(item(kind="int16"))
    with pytest.raises(SourceError, match=rf"{said} may be anything: its item does not say"):
        collect(item(kind=None))
    encoded = Sensor.model_validate({**SENSOR.model_dump(), "encode": {"a": {"scale": 1, "offset": 0}}})
    assert len(collect(item(kind="float32"), sensor=encoded)) == len(collect(item(kind="uint8"))) == 1


def test_files_of_this_computer_are_refused():
    with pytest.raises(SourceError, match=r"sensors\.s: item one of stac: .*file:"):
        collect(item(href="file:///etc/passwd"))
