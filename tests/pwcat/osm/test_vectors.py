import json

import geopandas as gpd
import pytest
import shapely

from pwcat.errors import SourceError
from pwcat.osm.exclusion import Exclusion
from pwcat.osm.features import Losses
from pwcat.osm.schema import OSM_TYPES
from pwcat.osm.vectors import read_vectors

NOTHING = Exclusion(())


def read(path, leave=(), exclude=NOTHING):
    losses = Losses()
    found = {
        (OSM_TYPES[kind], int(number)): (shape, dict(tags))
        for features in read_vectors(path, exclude=exclude, leave=leave, losses=losses)
        for kind, number, tags, shape in zip(
            features.osm_type, features.osm_id, features.tags, features.geometry, strict=True
        )
    }
    return found, losses


def write(path, rows, crs="EPSG:4326", layer=None):
    frame = gpd.GeoDataFrame(rows, crs=crs)
    frame.to_file(path, engine="pyogrio", **({"layer": layer} if layer else {}))
    return path


def test_columns_are_tags_and_nulls_are_none(tmp_path):
    rows = {
        "building": ["yes", None, ""],
        "osm_id": [5, 6, 7],
        "osm_type": ["way", "relation", "way"],
        "höhe": [3.0, 2.5, 1.0],
        "label": [1, 1, 1],
        "geometry": [shapely.box(0, 0, 1, 1), shapely.box(1, 1, 2, 2), shapely.box(2, 2, 3, 3)],
    }
    found, _ = read(write(tmp_path / "map.gpkg", rows), leave=["label"], exclude=Exclusion(("höhe=1",)))
    assert found == {
        ("way", 5): (shapely.box(0, 0, 1, 1), {"building": "yes", "höhe": "3"}),
        ("relation", 6): (shapely.box(1, 1, 2, 2), {"höhe": "2.5"}),
    }


def test_values_of_any_type_become_texts(tmp_path):
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [1, 2, 3]},
            "properties": {"lit": True, "oneway": False, "lanes": 2, "when": "2020-01-02", "uses": ["a", "é"]},
        },
        {"type": "Feature", "geometry": None, "properties": {"lit": True}},
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": {}},
    ]
    (tmp_path / "map.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    found, losses = read(tmp_path / "map.geojson")
    tags = {"lit": "yes", "oneway": "no", "lanes": "2", "when": "2020-01-02", "uses": '["a", "é"]'}
    assert found == {("node", 0): (shapely.Point(1, 2), tags)}
    assert losses.left_out == {"row without a geometry": 1}


def test_columns_of_many_tags(tmp_path):
    rows = {
        "osm_id": ["1", "2"],
        "highway": ["path", None],
        "other_tags": ['"surface"=>"a \\"b\\"","note"=>NULL,"lit"=>"yes"', '{"shop": "kiosk", "level": 0}'],
        "geometry": [shapely.LineString([(0, 0), (1, 1)]), shapely.Point(0, 0)],
    }
    found, _ = read(write(tmp_path / "map.geojson", rows))
    assert {name: tags for name, (_, tags) in found.items()} == {
        ("way", 1): {"highway": "path", "surface": 'a "b"', "lit": "yes"},
        ("node", 2): {"shop": "kiosk", "level": "0"},
    }


def test_names_of_entities(tmp_path):
    points = [shapely.Point(n, 0) for n in range(4)]
    rows = {"osm_id": [-5, 6, None, 8], "amenity": ["bar"] * 4, "geometry": points}
    assert set(read(write(tmp_path / "one.gpkg", rows))[0]) == {("relation", 5), ("node", 6), ("node", 2), ("node", 8)}
    rows = {"@id": ["way/5", "node/6", "relation/7", "?"], "amenity": ["bar"] * 4, "geometry": points}
    assert set(read(write(tmp_path / "two.geojson", rows))[0]) == {
        ("way", 5),
        ("node", 6),
        ("relation", 7),
        ("node", 3),
    }
    rows = {"amenity": ["bar"] * 2, "geometry": [points[0], shapely.box(0, 0, 1, 1)]}
    assert set(read(write(tmp_path / "three.geojson", rows))[0]) == {("node", 0), ("way", 1)}


def test_areas_of_gdals_driver_are_relations_or_ways(tmp_path):
    rows = {
        "osm_id": ["5", None],
        "osm_way_id": [None, "5"],
        "building": ["yes", "yes"],
        "geometry": [shapely.box(0, 0, 1, 1), shapely.box(1, 1, 2, 2)],
    }
    found, _ = read(write(tmp_path / "map.gpkg", rows))
    assert {name: shape.bounds[0] for name, (shape, _) in found.items()} == {("relation", 5): 0, ("way", 5): 1}


def test_all_layers_are_read_and_put_into_degrees(tmp_path):
    path = tmp_path / "map.gpkg"
    place = gpd.GeoSeries([shapely.Point(7.5, 43.5)], crs=4326)
    write(path, {"shop": ["kiosk"], "geometry": place.to_crs(32632)}, crs=32632, layer="shops")
    write(path, {"highway": ["stop"], "geometry": [shapely.Point(8, 44)]}, layer="stops")
    found, _ = read(path)
    assert [tags for _, tags in found.values()] == [{"shop": "kiosk"}, {"highway": "stop"}]
    assert found["node", 0][0].distance(place[0]) < 1e-9


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(SourceError, match=r"none.gpkg cannot be read as a map: there is no such file"):
        read(tmp_path / "none.gpkg")
    (tmp_path / "text.geojson").write_text("words")
    with pytest.raises(SourceError, match=r"text.geojson cannot be read as a map: .*give an .osm.pbf or a vector file"):
        read(tmp_path / "text.geojson")
    path = write(tmp_path / "map.geojson", {"shop": ["kiosk"], "geometry": [shapely.Point(7.5, 43.5)]})
    with pytest.raises(SourceError, match="has no column label to leave; it has shop"):
        read(path, leave=["label"])
