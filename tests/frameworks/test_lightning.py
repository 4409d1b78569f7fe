"""Lightning trains by the pair that `config.build_torch` returns, as the recipe in docs/pytorch.md says."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

import optadvisor as oa  # noqa: E402
from optadvisor.kernels.schedules import Schedule  # noqa: E402

pytestmark = pytest.mark.parity
STEPS = 12
ADAMW = oa.OptimizerConfig.of("adamw", {"lr": 0.02, "weight_decay": 0.1}, Schedule("warmup_cosine", 3))
HYBRID = oa.OptimizerConfig.from_dict(
    {
        "schema": 1,
        "optimizer": "hybrid",
        "schedule": {"name": "cosine"},
        "groups": [
            {"role": "embedding", "optimizer": "adagrad", "hyperparameters": {"lr": 0.1}},
            {"role": "dense", "optimizer": "adamw", "hyperparameters": {"lr": 0.01}},
        ],
    }
)
IDS = torch.arange(48).reshape(-1, 1) % 20
DATA = TensorDataset(IDS, IDS[:, 0] % 3)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def lightning() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's own, of loaders without workers and the like
        yield pytest.importorskip("lightning")


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(20, 8), nn.Flatten(), nn.Linear(8, 3))


def module_of(lightning: Any, model: nn.Module, config: oa.OptimizerConfig, watch: bool = False) -> Any:
    class Trained(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: Any, index: int) -> Any:
            return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            optimizer, scheduler = config.build_torch(self, self.trainer.estimated_stepping_batches)
            if watch:
                self.monitor = oa.torch.Monitor(optimizer, self)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    return Trained()


def trainer(lightning: Any, folder: Path, steps: int = STEPS, **options: Any) -> Any:
    return lightning.Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **options,
    )


def by_hand(config: oa.OptimizerConfig, model: nn.Module) -> nn.Module:
    optimizer, scheduler = config.build_torch(model, STEPS)
    for _ in range(STEPS // 3):
        for ids, labels in DataLoader(DATA, batch_size=16):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(ids), labels).backward()
            optimizer.step()
            scheduler.step()
    return model


@pytest.mark.parametrize(
    "config", [ADAMW, HYBRID, oa.OptimizerConfig.of("ftrl", {"lr": 0.1})], ids=lambda c: c.optimizer
)
def test_it_reaches_the_weights_of_a_loop_by_hand(lightning: Any, config: oa.OptimizerConfig, tmp_path: Path):
    model = net()
    module = module_of(lightning, copy.deepcopy(model), config, watch=True)
    trainer(lightning, tmp_path).fit(module, DataLoader(DATA, batch_size=16))
    for one, other in zip(by_hand(config, model).parameters(), module.model.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-6)
    assert module.monitor.steps == STEPS, "a monitor sees the steps that Lightning takes"


def test_a_checkpoint_goes_on_where_it_was(lightning: Any, tmp_path: Path):
    whole = module_of(lightning, net(), HYBRID)
    trainer(lightning, tmp_path).fit(whole, DataLoader(DATA, batch_size=16))

    class Half(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 6:
                trainer.save_checkpoint(tmp_path / "half.ckpt")
                trainer.should_stop = True

    first = module_of(lightning, net(), HYBRID)
    trainer(lightning, tmp_path, callbacks=[Half()]).fit(first, DataLoader(DATA, batch_size=16))
    second = module_of(lightning, net(), HYBRID)
    loader = DataLoader(DATA, batch_size=16)
    trainer(lightning, tmp_path).fit(second, loader, ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    for one, other in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-6)
