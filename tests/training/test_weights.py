import argparse
import io
import json
import os
import pathlib
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from pwcat.errors import TrainingError
from training.checkpoint import load_model_folder
from training.commands.weights import weights as command
from training.models.folder import save_model_folder, weights_hash
from training.models.satmae import SatMAE, SatMAEConfig
from training.normalize import unit_of
from training.weights import import_weights, read_checkpoint, tensors_of
from training.weights.showing import describe

SMALL = {
    "image_size": 16, "patch_size": 4, "dim": 128, "depth": 2, "heads": 2, "group_dim": 32,
    "decoder_dim": 64, "decoder_depth": 1, "decoder_heads": 16, "decoder_group_dim": 16,
}  # fmt: skip
ARGS = {
    "model": "mae_vit_base_patch16", "model_type": "group_c", "dataset_type": "sentinel", "mask_ratio": 0.75,
    "norm_pix_loss": False, "dropped_bands": [0, 9, 10], "grouped_bands": [[0, 1, 2, 6], [3, 4, 5, 7], [8, 9]],
    "output_dir": pathlib.Path("out"), "lr": np.float64(1e-3),
}  # fmt: skip


@pytest.fixture
def model():
    torch.manual_seed(3)
    return SatMAE(SatMAEConfig(**SMALL, head_order="released"))


def save(tmp_path, state, *, name="checkpoint.pth", args=ARGS, **more):
    """A checkpoint as the released training writes it."""
    optimizer = {"state": {0: {"step": 7, "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    held = {"model": state, "optimizer": optimizer, "epoch": 199, "scaler": {"scale": 65536.0}, **more}
    torch.save(held if args is None else {**held, "args": argparse.Namespace(**args)}, tmp_path / name)
    return tmp_path / name


class Touches:
    """Makes a file as soon as it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("as_zip", [True, False], ids=["zip", "before torch 1.6"])
def test_a_file_that_would_run_code_is_refused_and_runs_nothing(tmp_path, as_zip):
    trap, file = tmp_path / "ran", tmp_path / "evil.pth"
    held = {"model": {"weight": torch.ones(2)}, "args": Touches(trap)}
    torch.save(held, file, _use_new_zipfile_serialization=as_zip)
    with pytest.raises(TrainingError, match=r"names code .*(posix|nt)\.system.*nothing of it was run.*Ask its authors"):
        read_checkpoint(file)
    assert not trap.exists()
    torch.load(io.BytesIO(file.read_bytes()), weights_only=False)  # the trap is real
    assert trap.exists()


class OfSomeProject:
    pass


def test_every_foreign_class_is_named(tmp_path):
    torch.save({"a": OfSomeProject(), "b": Touches(tmp_path / "ran")}, tmp_path / "c.pth")
    with pytest.raises(TrainingError, match=r"(posix|nt)\.system, .*test_weights\.OfSomeProject"):
        read_checkpoint(tmp_path / "c.pth")


def test_known_harmless_values_are_read(tmp_path, model):
    read = read_checkpoint(save(tmp_path, model.state_dict()))
    assert read["epoch"] == 199
    assert read["args"].dropped_bands == [0, 9, 10]
    assert read["args"].lr == 1e-3
    assert str(read["args"].output_dir) == "out"
    assert isinstance(read["args"].output_dir, pathlib.PurePath)
    assert not isinstance(read["args"].output_dir, pathlib.Path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.pth", b"", "cannot be read as a checkpoint: EOFError"),
        ("page.pth", b"<!DOCTYPE html><html>not found</html>", "cannot be read as a checkpoint.*Fetch it again"),
        ("text.ckpt", b"weights", "cannot be read as a checkpoint.*Fetch it again"),
        ("text.safetensors", b"weights are not here", "cannot be read as safetensors.*Fetch it again"),
    ],
)
def test_what_is_no_checkpoint_says_so(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TrainingError, match=message):
        read_checkpoint(tmp_path / name)


@pytest.mark.parametrize("as_zip", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_file_says_so(tmp_path, as_zip, share):
    torch.save({"weight": torch.rand(4000)}, tmp_path / "whole.pth", _use_new_zipfile_serialization=as_zip)
    whole = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(TrainingError, match=r"cut\.pth cannot be read as a checkpoint.*Is it whole"):
        read_checkpoint(tmp_path / "cut.pth")


def test_a_path_that_is_no_file_and_a_bare_tensor_are_refused(tmp_path):
    with pytest.raises(TrainingError, match="is no file: give the checkpoint itself"):
        read_checkpoint(tmp_path)
    torch.save(torch.ones(2), tmp_path / "tensor.pt")
    with pytest.raises(TrainingError, match="holds a Tensor, not values by name"):
        read_checkpoint(tmp_path / "tensor.pt")


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "module._orig_mod."])
@pytest.mark.parametrize("key", [None, "model", "state_dict"])
def test_weights_are_found_under_the_usual_keys_without_wrappers_prefixes(prefix, key):
    named = {f"{prefix}a.weight": torch.ones(2), f"{prefix}b": torch.ones(1)}
    assert set(tensors_of({key: named, "epoch": 1} if key else named)) == {"a.weight", "b"}
    with pytest.raises(TrainingError, match="holds no weights: it has epoch"):
        tensors_of({"epoch": 1})


def test_released_satmae_is_imported_to_the_bit(tmp_path, model, subset):
    done = import_weights("satmae", save(tmp_path, model.state_dict()), tmp_path / "model")
    again = load_model_folder(tmp_path / "model")
    assert again.config == done.model.config == model.config
    assert weights_hash(again) == weights_hash(model)
    normalization = again.normalization
    assert normalization.unit == unit_of(subset, model.bands)
    assert normalization.bands == model.bands
    assert (normalization.mean[0], normalization.std[-1]) == (1184.3824625, 1087.6020813)  # B02, B12
    origin = json.loads((tmp_path / "model" / "origin.json").read_text())
    assert origin["file"] == "checkpoint.pth"
    assert len(origin["sha256"]) == 64
    assert again.embed(torch.full((1, 10, 16, 16), 1500, dtype=torch.uint16)).shape == (1, 128)
    assert any(
        "normalised before they were released, by numbers that are not known" in note for note in origin["notes"]
    )


def test_options_of_the_training_become_the_config(tmp_path):
    torch.manual_seed(0)
    bands = ("B02", "B03", "B04", "B08")
    options = {**SMALL, "bands": bands, "groups": (bands[:3], bands[3:]), "norm_pix_loss": True, "mask_ratio": 0.5}
    trained = SatMAE(SatMAEConfig(**options, head_order="released"))
    dropped = [0, 4, 5, 6, 8, 9, 10, 11, 12]
    args = {
        **ARGS,
        "dropped_bands": dropped,
        "grouped_bands": [[0, 1, 2], [3]],
        "norm_pix_loss": True,
        "mask_ratio": 0.5,
    }
    done = import_weights("satmae", save(tmp_path, trained.state_dict(), args=args), tmp_path / "model")
    assert done.model.config == trained.config
    assert done.model.normalization.mean == (1184.3824625, 1120.77120066, 1136.26026392, 1762.59530783)


def test_safetensors_and_wrapped_weights_without_arguments_are_imported(tmp_path, model):
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"model": state}, tmp_path / "wrapped.pth")
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    for number, name in enumerate(("wrapped.pth", "model.safetensors")):
        done = import_weights("satmae", tmp_path / name, tmp_path / str(number))
        assert weights_hash(done.model) == weights_hash(model)


def test_heads_that_the_file_cannot_tell_may_be_given(tmp_path, model):
    done = import_weights("satmae", save(tmp_path, model.state_dict()), tmp_path / "m", overrides={"heads": 4})
    assert done.model.config.heads == 4
    with pytest.raises(TrainingError, match=r"heads 5 must divide dim 128"):
        import_weights("satmae", save(tmp_path, model.state_dict()), tmp_path / "n", overrides={"heads": 5})
    assert not (tmp_path / "n").exists()


def test_missing_unknown_and_other_shapes_are_all_listed(tmp_path, model):
    state = model.state_dict()
    del state["blocks.1.mlp.fc2.bias"]
    state["extra"] = torch.ones(1)
    state["norm.weight"] = torch.ones(5)
    with pytest.raises(
        TrainingError, match=r"blocks\.1\.mlp\.fc2\.bias missing; extra unknown; norm\.weight is \(5,\), not \(128,\)"
    ):
        import_weights("satmae", save(tmp_path, state), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_trained_positions_are_refused(tmp_path, model):
    state = {**model.state_dict(), "pos_embed": model.state_dict()["pos_embed"] + 0.01}
    with pytest.raises(TrainingError, match=r"pos_embed is up to 0\.01 off the fixed code"):
        import_weights("satmae", save(tmp_path, state), tmp_path / "model")


def test_a_finetuned_encoder_is_refused_with_what_to_take(tmp_path, model):
    state = {k: v for k, v in model.state_dict().items() if not k.startswith(("decoder", "mask_token", "norm."))}
    state |= {"head.weight": torch.ones(62, 128), "head.bias": torch.ones(62), "fc_norm.weight": torch.ones(128)}
    with pytest.raises(
        TrainingError, match=r"finetuned encoder, a classifier of 62 classes.*pretrain-vit-base-e199\.pth"
    ):
        import_weights("satmae", save(tmp_path, state), tmp_path / "model")


def test_other_kinds_bands_and_architectures_are_refused(tmp_path, model):
    torch.save({"model": {"patch_embed.proj.weight": torch.ones(8, 3, 4, 4)}}, tmp_path / "plain.pth")
    with pytest.raises(TrainingError, match="only the group-channel kind"):
        import_weights("satmae", tmp_path / "plain.pth", tmp_path / "model")
    file = save(tmp_path, model.state_dict(), args={**ARGS, "dropped_bands": None})
    with pytest.raises(TrainingError, match="weights of 'resnet' cannot be imported; those of satmae"):
        import_weights("resnet", file, tmp_path / "model")
    with pytest.raises(TrainingError, match="holds weights of satmae: `pwcat weights import satmae"):
        import_weights("presto", file, tmp_path / "model")
    file = save(tmp_path, model.state_dict(), args={**ARGS, "grouped_bands": [[0, 1], [2]]})
    with pytest.raises(TrainingError, match=r"groups of 4, 4, 2 bands do not fit its args: groups \[\[0, 1\], \[2\]\]"):
        import_weights("satmae", file, tmp_path / "model")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").touch()
    with pytest.raises(TrainingError, match="holds something already"):
        import_weights("satmae", file, tmp_path / "full")


def test_the_command_imports_and_shows(tmp_path, model):
    file, folder = str(save(tmp_path, model.state_dict())), str(tmp_path / "model")
    done = CliRunner().invoke(command, ["import", "satmae", file, "-o", folder], catch_exceptions=False)
    assert done.exit_code == 0
    assert "measured by its authors on FMoW-Sentinel" in done.output
    parameters = sum(tensor.numel() for tensor in model.state_dict().values())
    for path in (file, folder):
        shown = CliRunner().invoke(command, ["show", path], catch_exceptions=False)
        assert "satmae" in shown.output
        assert f"{parameters:,}" in shown.output
        told = json.loads(CliRunner().invoke(command, ["show", path, "--json"], catch_exceptions=False).output)
        assert told["bands"] == list(model.bands)
        assert told["parameters"] == parameters
    assert told["hash"] == weights_hash(model)


def test_a_file_that_cannot_be_imported_is_shown_with_the_reason(tmp_path):
    torch.save({"state_dict": {"weight": torch.ones(2, 3)}, "epoch": 3}, tmp_path / "other.ckpt")
    told = describe(tmp_path / "other.ckpt")
    assert (told["parameters"], told["holds"]) == (6, ["state_dict", "epoch"])
    assert told["can_be_imported"].startswith("no: its names are those of no known family (satmae, presto, satclip)")
    torch.save({"model": {"patch_embed.0.proj.weight": torch.ones(8, 4, 4, 4)}}, tmp_path / "finetuned.pth")
    assert "no decoder" in describe(tmp_path / "finetuned.pth")["can_be_imported"]


def test_a_checkpoint_of_ours_loads_in_a_fresh_process_that_forbids_unpickling_by_name(run, tmp_path):
    """No code of a checkpoint can run where no name in it is looked up: neither weights nor the optimiser's state need it."""
    code = """
        import sys
        from pathlib import Path
        import torch
        from training.checkpoint import latest_checkpoint, load_model_folder, load_state
        from training.models.folder import weights_hash
        import training.models.satmae, training.normalize

        def forbid(event, args):
            if event in {"pickle.find_class", "os.system", "subprocess.Popen"}:
                raise SystemExit(f"{event} {args}")

        sys.addaudithook(forbid)
        folder = Path(sys.argv[1])
        torch.load(latest_checkpoint(folder) / "state.pt", weights_only=True)
        load_state(latest_checkpoint(folder))
        print(weights_hash(load_model_folder(folder)))
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(run.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == (weights_hash(load_model_folder(run.path)), 0), done.stderr


def test_a_trap_in_a_model_folder_is_not_even_opened(tmp_path, model):
    folder = save_model_folder(model, tmp_path / "model")
    torch.save(Touches(tmp_path / "ran"), folder / "pytorch_model.bin")
    load_model_folder(folder)
    with pytest.raises(TrainingError, match="is a pickle, which can run code"):
        load_model_folder(folder / "pytorch_model.bin")
    assert not (tmp_path / "ran").exists()


def test_values_that_are_no_numbers_or_no_weights_are_refused(tmp_path, model):
    state = {**model.state_dict(), "norm.weight": torch.full((128,), torch.nan), "norm.bias": torch.ones(128).char()}
    with pytest.raises(
        TrainingError, match=r"norm\.weight holds values that are no numbers; norm\.bias is int8, no weight"
    ):
        import_weights("satmae", save(tmp_path, state), tmp_path / "model")
    nowhere = {**model.state_dict(), "pos_embed": torch.full_like(model.pos_embed, torch.nan)}
    with pytest.raises(TrainingError, match="pos_embed is up to nan off the fixed code"):
        import_weights("satmae", save(tmp_path, nowhere), tmp_path / "model")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_are_read_with_exact_codes(tmp_path, golden, model, dtype):
    """What a file of fewer digits rounds is its weights; codes are known, and taken in full."""
    torch.save({name: tensor.to(dtype) for name, tensor in model.state_dict().items()}, tmp_path / "half.pth")
    done = import_weights("satmae", tmp_path / "half.pth", tmp_path / "satmae")
    assert torch.equal(done.model.pos_embed, model.pos_embed)
    assert torch.equal(done.model.norm.weight, model.norm.weight.to(dtype).float())
    assert f"The file keeps numbers in {str(dtype).removeprefix('torch.')}" in done.notes[-1]
    whole = torch.load(golden / "presto_default_model.pt", weights_only=True, map_location="cpu")
    torch.save({name: tensor.to(dtype) for name, tensor in whole.items()}, tmp_path / "presto.pt")
    presto = import_weights("presto", tmp_path / "presto.pt", tmp_path / "presto").model
    torch.testing.assert_close(presto.encoder.pos_embed, whole["encoder.pos_embed"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("args", "weights"),
    [
        ({"mask_ratio": "much"}, {}),
        ({"grouped_bands": 3}, {}),
        ({"dropped_bands": 3}, {}),
        ({}, {"patch_embed.0.proj.weight": torch.ones(8, 4)}),
        ({}, {"pos_embed": torch.ones(8)}),
        ({}, {3: torch.ones(1)}),
    ],
    ids=["mask_ratio", "grouped_bands", "dropped_bands", "embedding", "code", "name"],
)
def test_a_file_of_odd_values_is_refused_in_a_sentence(tmp_path, model, args, weights):
    file = save(tmp_path, {**model.state_dict(), **weights}, args={**ARGS, **args})
    with pytest.raises(TrainingError, match=r"is not what satmae's released checkpoints are: "):
        import_weights("satmae", file, tmp_path / "model")
    assert describe(file)["can_be_imported"].startswith("no: ")
