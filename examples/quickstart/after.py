"""Classify scikit-learn's handwritten digits with a small convolutional net."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import optadvisor as oa

EPOCHS, BATCH = 10, 32

torch.manual_seed(0)
images, labels = load_digits(return_X_y=True)
x = torch.tensor(images / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
y = torch.tensor(labels)
order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
train, held, test = order[:1200], order[1200:1400], order[1400:]
loader = DataLoader(TensorDataset(x[train], y[train]), batch_size=BATCH, shuffle=True)


def make_model():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


model = make_model()
steps = EPOCHS * len(loader)
objective = oa.torch.objective(make_model, loader, [(x[held], y[held])], nn.CrossEntropyLoss(), steps=steps)
config = oa.tune(objective, trials=10).best
print(config.optimizer, config.hyperparameters, config.schedule["name"])
optimizer, scheduler = config.build_torch(model, steps)
for epoch in range(EPOCHS):
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        scheduler.step()
    model.eval()
    with torch.no_grad():
        outputs = model(x[test])
        held = nn.functional.cross_entropy(outputs, y[test]).item()
        accuracy = (outputs.argmax(1) == y[test]).float().mean().item()
    print(f"epoch {epoch + 1}: test loss {held:.4f}, accuracy {accuracy:.3f}")
