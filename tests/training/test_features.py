import multiprocessing
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist

from catalog.subset import load_subset
from pwcat.errors import TrainingError
from training.chance import Chance
from training.features import FeatureLoader
from training.loader import Loader
from training.models import build_model
from training.recipe import Augment

AUGMENT = Augment(blur=True)


def satclip(run, seed=0, **tower):
    torch.manual_seed(seed)
    told = {"origin": str(run.path), "frozen": True, **tower}
    return build_model("satclip", {"degrees": 6, "hidden": 64, "dim": 32, "tower": told})


@pytest.fixture(scope="module")
def model(run):
    return satclip(run)


def chips(subset, model, **options):
    return Loader(subset, bands=model.bands, **{"batch_size": 10, "seed": 3, "window_chips": 16, **options})


def features(subset, model, folder, **options):
    ours = {name: options.pop(name) for name in ("views", "augment", "seed", "dtype") if name in options}
    loader = chips(subset, model, **options)
    return FeatureLoader(loader, model, folder=folder, block=16, **{"views": 2, "augment": AUGMENT, "seed": 0, **ours})


@pytest.fixture(scope="module")
def kept(subset, model, tmp_path_factory):
    """A folder of computed features, and the file they are in."""
    folder = tmp_path_factory.mktemp("features")
    features(subset, model, folder).fill()
    (path,) = folder.iterdir()
    return folder, path


def test_features_are_those_of_the_tower(kept, subset, model):
    held = np.load(kept[1])
    assert (held.dtype, held.shape) == (np.float16, (48, 2, 48))
    batch = next(chips(subset, model, batch_size=48).epoch(0))
    rows = np.argsort(batch.rows)[16:32]
    ours = next(features(subset, model, kept[0], batch_size=48).epoch(0))
    assert ours.features.dtype == torch.float32
    np.testing.assert_array_equal(ours.features.numpy(), held[ours.rows].astype(np.float32))
    chips_of_block = batch.chips[rows, 0]
    seed = int(np.random.SeedSequence([0, 1, 1]).generate_state(1, dtype=np.uint32)[0])
    block = type(batch).of_chips(chips_of_block, bands=model.bands)
    images = model.images(block, tower=model.tower, chance=Chance(seed, total=16), augment=AUGMENT)
    with torch.no_grad():
        expected = model.tower(images).numpy()
    np.testing.assert_allclose(held[16:32, 1], expected, rtol=2e-3, atol=2e-3)
    assert not np.array_equal(held[:, 0], held[:, 1])


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_order_is_that_of_chips(kept, subset, model, ranks):
    for rank in range(ranks):
        share = {"rank": rank, "world_size": ranks}
        ours, theirs = features(subset, model, kept[0], **share), chips(subset, model, **share)
        assert ours.num_batches == theirs.num_batches
        for epoch, start in ((0, 0), (1, 3)):
            pairs = list(zip(ours.epoch(epoch, start_batch=start), theirs.epoch(epoch, start_batch=start), strict=True))
            assert len(pairs) == ours.num_batches - start
            for one, other in pairs:
                np.testing.assert_array_equal(one.rows, other.rows)
                assert torch.equal(one.lonlat, other.lonlat)
                assert torch.equal(one.times, other.times)
                assert one.chips is None
                assert len(one.features) == len(other.chips)
        assert ours.waited > 0


def test_what_is_there_is_not_computed_again(kept, subset, model):
    before = kept[1].stat().st_mtime_ns
    features(subset, model, kept[0]).fill(lambda done, total: pytest.fail("computed again"))
    assert [path.stat().st_mtime_ns for path in kept[0].iterdir()] == [before]


def test_a_killed_computation_goes_on_with_the_blocks_that_are_left(kept, subset, model, tmp_path):
    def kill(done, total):
        if done == 32:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        features(subset, model, tmp_path).fill(kill)
    (blocks,) = tmp_path.iterdir()
    assert sorted(path.name for path in blocks.iterdir()) == ["00000000.npy", "00000001.npy"]
    told = []
    features(subset, model, tmp_path).fill(lambda done, total: told.append((done, total)))
    assert told == [(48, 48)]
    (path,) = tmp_path.iterdir()
    assert path.name == kept[1].name
    assert path.read_bytes() == kept[1].read_bytes()


def fill_in_parts(rank, store, paths):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    subset, origin, folder = load_subset(paths["catalog"]), SimpleNamespace(path=paths["run"]), paths["folder"]
    loader = features(subset, satclip(origin), folder, rank=rank, world_size=2)
    loader.fill()
    next(loader.epoch(0))
    dist.destroy_process_group()


def test_two_processes_share_the_blocks(kept, tiny_catalog, run, tmp_path):
    paths = {"catalog": tiny_catalog / "everywhere", "run": run.path, "folder": tmp_path / "features"}
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=fill_in_parts, args=(rank, tmp_path / "store", paths)) for rank in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    (path,) = paths["folder"].iterdir()
    assert path.name == kept[1].name
    np.testing.assert_allclose(np.load(path), np.load(kept[1]), rtol=2e-3, atol=1e-3)


def test_whatever_bears_on_features_has_a_file_of_its_own(kept, subset, everything, model, run):
    others = [
        features(subset, model, kept[0], seed=1),
        features(subset, model, kept[0], views=3),
        features(subset, model, kept[0], augment=Augment()),
        features(subset, model, kept[0], dtype=torch.bfloat16),
        features(everything, model, kept[0]),
    ]
    other = satclip(run)
    with torch.no_grad():
        other.tower.encoder.norm.weight[0] += 1
    others.append(features(subset, other, kept[0]))
    names = {loader._key() for loader in others}
    assert len(names) == len(others)
    assert kept[1].stem not in names
    assert features(subset, model, kept[0], augment=Augment(blur=True, jitter_deg=1))._key() == kept[1].stem


def test_the_model_knows_that_its_tower_is_not_run(kept, subset, run):
    model = satclip(run)
    from_chips = model.flops_per_sample()
    features(subset, model, kept[0])
    assert model.flops_per_sample() == from_chips - model.tower.flops()


def test_what_cannot_be_cached_is_refused(subset, run, model, tmp_path):
    with pytest.raises(TrainingError, match=r"the image tower trains.*model\.tower\.frozen, or cached_views: 0"):
        features(subset, satclip(run, frozen=False), tmp_path)
    with pytest.raises(TrainingError, match="a satmae has none"):
        FeatureLoader(chips(subset, model), run.load_model(), views=2, augment=AUGMENT, seed=0, folder=tmp_path)


def test_features_beyond_their_type_are_refused(subset, run, tmp_path):
    model = satclip(run)
    model.tower.encoder.norm.weight.data.fill_(1e6)
    with pytest.raises(TrainingError, match=r"beyond 65504, in samples 0 to 15.*cached_views: 0"):
        features(subset, model, tmp_path).fill()
