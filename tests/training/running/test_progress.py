import time

import pytest

from keras_vit.training.running.progress import Progress, duration


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.4, "0 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (3660, "1 h 1 min"),
        (180_000, "2 d 2 h"),
    ],
)
def test_duration_is_formatted_with_two_units(seconds, shown):
    assert duration(seconds) == shown


@pytest.mark.parametrize("verbose", [1, 2])
def test_the_line_shows_the_speed_and_the_remaining_time(monkeypatch, capsys, verbose):
    """Simulate three epochs of four steps of 32 images: half a second per step, except the first, which compiles."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    progress = Progress(batch_size=32, epochs=3, steps=4, total_steps=12, verbose=verbose)
    for epoch in range(2):
        progress.on_epoch_begin(epoch)
        for step in range(4):
            now[0] += 20.0 if step == 0 else 0.5
            progress.on_train_batch_end(step, {"loss": 2.0})
        now[0] += 100.0  # Validation does not count as training time.
        progress.on_epoch_end(epoch, {"loss": 2.0, "val_accuracy": 0.5})
    lines = capsys.readouterr().out.replace("\x1b[K", "").replace("\r", "\n").split("\n")
    assert "Epoch 1/3  step 4/4  64 images/s  4 s left  loss 2.0000  val_accuracy 0.5000" in lines
    assert "Epoch 2/3  step 4/4  64 images/s  2 s left  loss 2.0000  val_accuracy 0.5000" in lines
    assert ("Epoch 1/3  step 3/4  64 images/s  4 s left  loss 2.0000" in lines) == (verbose == 1)


def test_verbose_0_prints_nothing(capsys):
    progress = Progress(1, 1, 1, 1, verbose=0)
    progress.on_epoch_begin(0)
    progress.on_train_batch_end(0, {})
    progress.on_epoch_end(0, {})
    assert capsys.readouterr().out == ""
