import math
import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

from pwcat.errors import TrainingError
from pwcat.signals import TerminatedError
from training.looping.ema import Ema
from training.looping.engine import Engine
from training.looping.faults import building_explained, step_explained, writing_explained
from training.looping.late import Late
from training.looping.optimizer import adamw, parameter_groups
from training.looping.records import Records, Step
from training.looping.saving import Due
from training.looping.schedule import learning_rate
from training.looping.showing import show_training
from training.looping.stopping import Stop, listening
from training.looping.throughput import Meter, Peak, measure_peak, peak_memory_mb
from training.models import build_model
from training.models.satmae import SatMAE
from training.recipe import Checkpoints


def step(number, **values):
    fields = {"total_steps": 1000, "epoch": 0, "loss": 0.5, "lr": 0.1, "grad_norm": 1.0, "samples": 64}
    return Step(step=number, **{**fields, "samples_per_second": 128.0, "wait_share": 0.25, "mfu": 0.5, **values})


def test_schedule_warms_up_and_falls_along_half_a_cosine():
    rates = [learning_rate(step, peak=2.0, warmup_steps=10, total_steps=110) for step in range(111)]
    assert rates[0] == 0
    assert rates[5] == pytest.approx(1.0)
    assert rates[10] == pytest.approx(2.0)
    assert rates[60] == pytest.approx(1.0)
    assert rates[35] == pytest.approx(1 + math.cos(math.pi / 4))
    assert rates[110] == pytest.approx(0, abs=1e-12)


def test_constant_schedule_stays_after_the_warm_up():
    rates = [learning_rate(s, peak=2.0, warmup_steps=4, total_steps=50, schedule="constant") for s in (0, 2, 4, 49)]
    assert rates == [0, 1, 2, 2]


def test_biases_norms_and_scales_do_not_decay_and_frozen_weights_are_left_out():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 4)
            self.images = nn.LayerNorm((4, 5, 5))  # of several axes
            self.scale = nn.Parameter(torch.zeros(()))
            self.token = nn.Parameter(torch.zeros(1, 1, 4))
            self.frozen = nn.Linear(4, 4).requires_grad_(False)

    net = Net()
    decays, plain = parameter_groups(net, weight_decay=0.3)
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    assert [names[id(p)] for p in decays["params"]] == ["linear.weight", "token"]
    assert [names[id(p)] for p in plain["params"]] == ["images.bias", "images.weight", "linear.bias", "scale"]
    assert (decays["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    with pytest.raises(TrainingError, match="every parameter of the model is frozen"):
        adamw(net.requires_grad_(False), lr=1.0, betas=(0.9, 0.9), weight_decay=0.1)


def test_fused_adamw_takes_the_step_of_its_formula():
    weight = nn.Linear(1, 1, bias=False)
    nn.init.constant_(weight.weight, 2.0)
    optimizer = adamw(weight, lr=0.1, betas=(0.9, 0.99), weight_decay=0.5)
    weight.weight.grad = torch.full((1, 1), 4.0)
    optimizer.step()
    # decay first, then lr * m / sqrt(v), which is the sign at the first step
    assert weight.weight.item() == pytest.approx(2.0 * (1 - 0.1 * 0.5) - 0.1, rel=1e-6)


def test_average_of_weights_follows_its_formula(make_recipe):
    model = build_model("satmae", make_recipe().model)
    ema = Ema(model, decay=0.9)
    expected = model.cls_token.detach().clone()
    for number in range(1, 200):
        with torch.no_grad():
            model.cls_token.add_(0.1)
        ema.update(model, step=number)
        stays = min(0.9, (1 + number) / (10 + number))
        expected = stays * expected + (1 - stays) * model.cls_token.detach()
    torch.testing.assert_close(ema.model.cls_token.detach(), expected)
    assert torch.equal(ema.model.pos_embed, model.pos_embed)
    assert not any(p.requires_grad for p in ema.model.parameters())


@pytest.mark.parametrize("ahead", [False, True])
def test_values_come_once_in_order_however_late(ahead):
    late = Late[int](ahead=ahead)
    values = torch.zeros(2)
    told = []
    for number in range(3):
        values.fill_(number)  # what is under way is a copy
        told.append(late.put(values, number))
    told.append(late.take())
    assert [note for _, note in filter(None, told)] == [0, 1, 2]
    assert all(got == [note, note] for got, note in filter(None, told))
    assert (told[0] is None) == ahead
    assert late.take() is None


def test_checkpoints_are_due_by_epochs_steps_time_and_milestones():
    by_epochs = Due(Checkpoints(every_epochs=2), steps_per_epoch=3)
    assert [step for step in range(1, 20) if by_epochs.at(step)] == [6, 12, 18]
    by_steps = Due(Checkpoints(every_epochs=None, every_steps=4, milestones=(1, 5)), steps_per_epoch=3)
    assert [step for step in range(1, 20) if by_steps.at(step)] == [3, 4, 8, 12, 15, 16]
    assert by_steps.milestones == {3, 15}
    by_time = Due(Checkpoints(every_epochs=None, every_minutes=1e-9), steps_per_epoch=3)
    assert by_time.at(1)
    rarely = Due(Checkpoints(every_epochs=None, every_minutes=60), steps_per_epoch=3)
    assert not rarely.at(3)


def test_signals_are_noted_and_raised_when_asked_for():
    before = signal.getsignal(signal.SIGTERM)
    with listening(Stop()) as stop:
        assert not stop.is_due()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.is_due()
        os.kill(os.getpid(), signal.SIGTERM)  # as some batch systems do
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(TerminatedError, match="stopped by SIGTERM, after a checkpoint"):
        stop.raise_for_signal()
    with listening(Stop()):
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt, match="asked to stop twice"):
            os.kill(os.getpid(), signal.SIGINT)
    with listening(Stop(), patient=True) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="stopped by SIGINT, after a checkpoint"):
        stop.raise_for_signal()
    assert Stop(max_minutes=1e-9).is_due()
    assert not Stop(max_minutes=60).is_due()


def test_rates_are_of_the_time_between_readings():
    meter = Meter(flops_per_sample=1000, peak=Peak(flops=1e6, dtype="float32", said=""))
    time.sleep(0.02)
    assert meter.rest(waited=1.0) >= 0.02
    time.sleep(0.02)
    rates = meter.read(samples=8, waited=1.01)
    assert rates.seconds >= 0.02
    assert rates.samples_per_second == pytest.approx(8 / rates.seconds)
    assert rates.wait_share == pytest.approx(0.01 / rates.seconds)
    assert rates.mfu == pytest.approx(8 / rates.seconds * 1000 / 1e6)


def test_the_peak_is_measured_and_says_of_what_it_is():
    peak = measure_peak(torch.device("cpu"), dtype=torch.float32)
    assert peak.flops > 1e8
    assert "products of 512 x 512 matrices, float32" in peak.said
    assert peak_memory_mb(torch.device("cpu")) > 10


def test_records_are_cut_to_the_steps_that_are_kept(tmp_path):
    records = Records(tmp_path, done=0)
    for number in (1, 2, 3):
        records.add(step(number))
    records.close()
    records = Records(tmp_path, done=2)
    records.add(step(3, loss=1 / 3))
    records.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 3
    assert '"loss": 0.3333333333333333' in lines[2]
    assert {*step(1).row()} == {
        "step", "epoch", "loss", "lr", "grad_norm", "samples_per_s", "wait_share", "mfu", "memory_mb",
    }  # fmt: skip


def test_tensorboard_reads_the_same_values_back(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for done, numbers in ((0, (1, 2, 3)), (2, (3, 4))):  # killed after the third, going on after the second
        records = Records(tmp_path, done=done, tensorboard=True)
        for number in numbers:
            records.add(step(number, loss=1 / (number + done)))
        records.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    losses = events.Scalars("loss")
    assert [event.step for event in losses] == [1, 2, 3, 4]
    assert [event.value for event in losses] == pytest.approx([1, 1 / 2, 1 / 5, 1 / 6])
    assert {"samples_per_s", "wait_share", "mfu", "memory_mb", "grad_norm", "lr"} <= set(events.Tags()["scalars"])


def test_a_terminal_sees_a_bar_and_a_log_sees_lines(tmp_path):
    with (tmp_path / "said").open("w") as file:
        clock = iter([0.0, 10.0, 31.0, 31.0, 40.0, 62.0, 62.0]).__next__
        with show_training(Console(file=file), "tiny", clock=clock) as show:
            show.preparing("measuring bands", 256, 1024)
            show.preparing("measuring bands", 1024, 1024)
            show(step(1))
            show(step(250))
    preparing, line = (tmp_path / "said").read_text().splitlines()
    assert preparing == "tiny: measuring bands, 1,024 of 1,024"
    words = (
        "tiny: step 250 of 1,000, epoch 1, loss 0.5000, 128 samples/s, 25% waiting for data, MFU 50%, 6 min 15 s left"
    )
    assert line == words
    console = Console(file=(tmp_path / "bar").open("w"), force_terminal=True, width=80)
    with show_training(console, "tiny") as show:
        show.preparing("reading chips", 512, 1024)
        show(step(250))
    console.file.close()
    told = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", (tmp_path / "bar").read_text())
    assert re.search(r"tiny [━╺╸]+ +250/1000", told)
    assert "loss 0.5000, 128 samples/s, 25% waiting for data, MFU 50%, 6 min 15 s left" in told


def test_memory_that_does_not_suffice_is_told_in_terms_of_the_recipe(make_recipe, tmp_path):
    recipe, cpu = make_recipe(), torch.device("cpu")
    with (
        pytest.raises(TrainingError, match=r"not enough memory for 16 samples.*batch_size 8 with accumulate 2"),
        step_explained(recipe, tmp_path, device=cpu),
    ):
        torch.empty(2**60)
    with pytest.raises(RuntimeError, match="must match"), step_explained(recipe, tmp_path, device=cpu):
        torch.ones(2) + torch.ones(3)


def test_what_cannot_be_written_says_where_and_what_is_kept(tmp_path):
    said = r"The metrics could not be written \(the disk is full; .*No checkpoint was due"
    with (
        pytest.raises(TrainingError, match=said),
        writing_explained(tmp_path, what="The metrics"),
        Path("/dev/full").open("w", buffering=1) as file,
    ):
        file.write("one line\n")


def test_a_model_may_need_an_average_and_a_recipe_another(make_recipe, monkeypatch):
    def decay(**values):
        model = build_model("satmae", make_recipe().model)
        engine = Engine(model, make_recipe(**values), device=torch.device("cpu"))
        return engine.ema.decay if engine.ema else None

    assert decay() is None
    monkeypatch.setattr(SatMAE, "ema_decay", 0.99)
    assert decay() == 0.99
    assert decay(optimizer__ema_decay="0.9") == 0.9


def test_what_cannot_be_compiled_says_how_to_go_without(make_recipe, tmp_path):
    recipe = make_recipe(compile="true")
    with (
        pytest.raises(TrainingError, match=r"cannot be compiled here.*--no-compile"),
        step_explained(recipe, tmp_path, device=torch.device("cpu")),
    ):
        torch.compile(torch.sin, backend="no-such-backend")(torch.ones(2))


def test_a_model_that_does_not_fit_by_itself_is_told():
    said = "the model alone, with its optimiser, takes more memory than cpu has"
    with pytest.raises(TrainingError, match=said), building_explained(torch.device("cpu")):
        torch.empty(2**60)
