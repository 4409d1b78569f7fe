"""Models as people write them, with what they are: the guesses of `profile` are held against these.

Each case: the model, a batch, its loss, and its true architecture and domain; None for a domain that nothing in the model
and its batch says.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn


@dataclass(frozen=True)
class Case:
    make: Callable[[], nn.Module]
    batch: Callable[[], Any]
    architecture: str
    domain: str | None
    loss: Any = None


def images(channels: int = 3, size: int = 32, n: int = 2) -> tuple[Any, Any]:
    return torch.randn(n, channels, size, size), torch.zeros(n, dtype=torch.long)


def ids(rows: int, *shape: int) -> Any:
    return torch.randint(0, rows, shape)


# convolutional -------------------------------------------------------------------------------------------------------


class LeNet(nn.Module):
    """Written with functions, sizes asked for in the forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2 = nn.Linear(400, 84), nn.Linear(84, 10)

    def forward(self, x: Any) -> Any:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(x.view(x.size(0), -1))))


class VGG(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in (8, "M", 16, 16, "M"):
            if width == "M":
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
                channels = width
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(nn.Linear(16 * 49, 512), nn.ReLU(), nn.Dropout(), nn.Linear(512, 10))

    def forward(self, x: Any) -> Any:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride > 1 or inputs != width:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Any) -> Any:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        out += identity
        return F.relu(out)


class ResNet(nn.Module):
    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(BasicBlock(8, 8), BasicBlock(8, 8))
        self.layer2 = nn.Sequential(BasicBlock(8, 16, 2), BasicBlock(16, 16))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(16, 10)

    def forward(self, x: Any) -> Any:
        x = self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x)))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class InvertedResidual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, 4 * width, 1, bias=False),
            nn.BatchNorm2d(4 * width),
            nn.ReLU6(),
            nn.Conv2d(4 * width, 4 * width, 3, padding=1, groups=4 * width, bias=False),
            nn.BatchNorm2d(4 * width),
            nn.ReLU6(),
            nn.Conv2d(4 * width, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Any) -> Any:
        return x + self.body(x)


def mobilenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        InvertedResidual(8),
        InvertedResidual(8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
    )


class DenseNet(nn.Module):
    """Concatenations, all at one scale."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.layers = nn.ModuleList(nn.Conv2d(8 * (i + 1), 8, 3, padding=1) for i in range(3))
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Any) -> Any:
        found = [self.stem(x)]
        for layer in self.layers:
            found.append(F.relu(layer(torch.cat(found, 1))))
        return self.fc(torch.cat(found, 1).mean((2, 3)))


def double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inc, self.down1, self.down2 = double(3, 8), double(8, 16), double(16, 32)
        self.up1, self.conv1 = nn.ConvTranspose2d(32, 16, 2, 2), double(32, 16)
        self.up2, self.conv2 = nn.ConvTranspose2d(16, 8, 2, 2), double(16, 8)
        self.outc = nn.Conv2d(8, 1, 1)

    def forward(self, x: Any) -> Any:
        a = self.inc(x)
        b = self.down1(F.max_pool2d(a, 2))
        c = self.down2(F.max_pool2d(b, 2))
        x = self.conv1(torch.cat([self.up1(c), b], 1))
        return self.outc(self.conv2(torch.cat([self.up2(x), a], 1)))


class Segmenter(UNet):
    """The same under a name that does not say so."""


class ConvAutoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 3, 4, 2, 1), nn.Sigmoid()
        )

    def forward(self, x: Any) -> Any:
        return self.decoder(self.encoder(x))


# transformers --------------------------------------------------------------------------------------------------------


class ViT(nn.Module):
    def __init__(self, name: str = "") -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 32, 8, 8)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 32))
        self.pos_embed = nn.Parameter(torch.zeros(1, 17, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Any) -> Any:
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        return self.head(self.blocks(x)[:, 0])


class CausalSelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.c_attn, self.c_proj, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads

    def forward(self, x: Any) -> Any:
        n, length, width = x.shape
        q, k, v = self.c_attn(x).split(width, 2)
        q, k, v = (t.view(n, length, self.heads, -1).transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).reshape(n, length, width))


class GPTBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln_1, self.attn, self.ln_2 = nn.LayerNorm(width), CausalSelfAttention(width, 4), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Any) -> Any:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, vocabulary: int = 65) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, 32), nn.Embedding(16, 32)
        self.h = nn.ModuleList(GPTBlock(32) for _ in range(2))
        self.ln_f, self.lm_head = nn.LayerNorm(32), nn.Linear(32, vocabulary, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, idx: Any) -> Any:
        x = self.wte(idx) + self.wpe(torch.arange(idx.shape[1]))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


class BERT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.word_embeddings, self.position_embeddings = nn.Embedding(1200, 32), nn.Embedding(16, 32)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2)
        self.classifier = nn.Linear(32, 2)

    def forward(self, input_ids: Any) -> Any:
        x = self.word_embeddings(input_ids) + self.position_embeddings.weight[: input_ids.shape[1]]
        return self.classifier(self.encoder(x).mean(1))


class Head(nn.Module):
    """Attention from scratch, as in tutorials, under a name that says nothing."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(width, size, bias=False) for _ in range(3))
        self.register_buffer("tril", torch.tril(torch.ones(16, 16)))

    def forward(self, x: Any) -> Any:
        length = x.shape[1]
        weights = self.a(x) @ self.b(x).transpose(-2, -1) / math.sqrt(x.shape[-1])
        weights = weights.masked_fill(self.tril[:length, :length] == 0, float("-inf"))
        return F.softmax(weights, dim=-1) @ self.c(x)


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.places = nn.Embedding(50, 16), nn.Embedding(16, 16)
        self.head, self.ff, self.out = Head(16, 16), nn.Linear(16, 16), nn.Linear(16, 50)

    def forward(self, x: Any) -> Any:
        h = self.table(x) + self.places(torch.arange(x.shape[1]))
        h = h + self.head(h)
        h = h + F.relu(self.ff(h))
        return self.out(h)


class SASRec(nn.Module):
    """The next item of a user: a transformer over ids that are no text."""

    def __init__(self) -> None:
        super().__init__()
        self.item_emb, self.pos_emb = nn.Embedding(2000, 32), nn.Embedding(16, 32)
        self.layer = nn.TransformerEncoderLayer(32, 2, 64, batch_first=True)

    def forward(self, seq: Any) -> Any:
        x = self.layer(self.item_emb(seq) + self.pos_emb(torch.arange(seq.shape[1])))
        return x @ self.item_emb.weight.T


# recurrent -----------------------------------------------------------------------------------------------------------


class LSTMLanguageModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.rnn, self.decoder = nn.Embedding(200, 16), nn.LSTM(16, 32, 2), nn.Linear(32, 200)

    def forward(self, x: Any) -> Any:
        return self.decoder(self.rnn(self.encoder(x))[0])


class Forecast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.out = nn.GRU(5, 16, batch_first=True), nn.Linear(16, 1)

    def forward(self, x: Any) -> Any:
        return self.out(self.gru(x)[0][:, -1])


class CharRNN(nn.Module):
    """A recurrence by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.i2h, self.h2o = nn.Linear(20 + 16, 16), nn.Linear(16, 20)

    def forward(self, x: Any) -> Any:
        h = torch.zeros(len(x), 16)
        for t in range(x.shape[1]):
            h = torch.tanh(self.i2h(torch.cat([x[:, t], h], 1)))
        return self.h2o(h)


# tables --------------------------------------------------------------------------------------------------------------


class DLRM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.EmbeddingBag(n, 8, mode="sum", sparse=True) for n in (1000, 5000, 300))
        self.bottom = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 8), nn.ReLU())
        self.top = nn.Sequential(nn.Linear(8 + 6, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, dense: Any, sparse: Any) -> Any:
        x = self.bottom(dense)
        rows = torch.stack([x, *(table(sparse[:, i : i + 1]) for i, table in enumerate(self.tables))], 1)
        pairs = torch.bmm(rows, rows.transpose(1, 2))
        i, j = torch.tril_indices(4, 4, offset=-1)
        return self.top(torch.cat([x, pairs[:, i, j]], 1)).squeeze(1)


class TwoTower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(3000, 16), nn.Embedding(1500, 16)
        self.query = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16))
        self.candidate = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16))

    def forward(self, user: Any, item: Any) -> Any:
        return (self.query(self.user(user)) * self.candidate(self.item(item))).sum(1)


class MatrixFactorization(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(1000, 8), nn.Embedding(500, 8)

    def forward(self, u: Any, i: Any) -> Any:
        return (self.users(u) * self.items(i)).sum(1)


class Hashed(nn.Module):
    """Logistic regression on hashed ids."""

    def __init__(self) -> None:
        super().__init__()
        self.weights, self.bias = nn.EmbeddingBag(10_000, 1, mode="sum", sparse=True), nn.Parameter(torch.zeros(1))

    def forward(self, x: Any) -> Any:
        return (self.weights(x) + self.bias).squeeze(1)


class EntityEmbeddings(nn.Module):
    """Columns of a table, some of them categories of a few values."""

    def __init__(self) -> None:
        super().__init__()
        self.embeds = nn.ModuleList(nn.Embedding(n, 4) for n in (7, 12, 31))
        self.layers = nn.Sequential(nn.Linear(12 + 6, 64), nn.ReLU(), nn.BatchNorm1d(64), nn.Linear(64, 1))

    def forward(self, categories: Any, numbers: Any) -> Any:
        x = [embed(categories[:, i]) for i, embed in enumerate(self.embeds)]
        return self.layers(torch.cat([*x, numbers], 1))


class TextClassifier(nn.Module):
    """Averaged word vectors and one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.fc = nn.EmbeddingBag(5000, 16), nn.Linear(16, 4)

    def forward(self, text: Any) -> Any:
        return self.fc(self.embedding(text))


# generative ----------------------------------------------------------------------------------------------------------


class VAE(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc_mu, self.fc_logvar = nn.Linear(64, 32), nn.Linear(32, 4), nn.Linear(32, 4)
        self.fc3, self.fc4 = nn.Linear(4, 32), nn.Linear(32, 64)

    def forward(self, x: Any) -> Any:
        h = F.relu(self.fc1(x))
        mu, logvar = self.fc_mu(h), self.fc_logvar(h)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z)))), mu, logvar


class Generator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(16, 8, 4, 1, 0, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(True),
            nn.ConvTranspose2d(8, 3, 4, 4, 0, bias=False),
            nn.Tanh(),
        )

    def forward(self, z: Any) -> Any:
        return self.main(z)


class Discriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(512, 1))

    def forward(self, x: Any) -> Any:
        return self.main(x)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator, self.discriminator = Generator(), Discriminator()

    def forward(self, z: Any) -> Any:
        return self.discriminator(self.generator(z))


class Decoder(nn.Module):
    """Images from vectors: of a VAE, of a GAN, of anything."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.up = nn.Linear(8, 128), nn.ConvTranspose2d(8, 3, 4, 4)

    def forward(self, z: Any) -> Any:
        return self.up(F.relu(self.fc(z)).view(-1, 8, 4, 4))


class Denoiser(nn.Module):
    """A U-Net with an embedding of the time, as in diffusion models."""

    def __init__(self) -> None:
        super().__init__()
        self.time_mlp = nn.Sequential(nn.Linear(16, 16), nn.SiLU(), nn.Linear(16, 16))
        self.down, self.middle = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.out = nn.Conv2d(32, 3, 3, padding=1)

    def forward(self, x: Any, t: Any) -> Any:
        frequencies = torch.exp(-torch.arange(8) / 8)
        clock = t[:, None] * frequencies
        clock = self.time_mlp(torch.cat([clock.sin(), clock.cos()], 1))
        a = F.relu(self.down(x)) + clock[:, :, None, None]
        b = F.interpolate(F.relu(self.middle(F.avg_pool2d(a, 2))), scale_factor=2)
        return self.out(torch.cat([a, b], 1))


# others --------------------------------------------------------------------------------------------------------------


class DQN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))

    def forward(self, state: Any) -> Any:
        return self.net(state)


class ActorCritic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.actor, self.critic = nn.Linear(4, 32), nn.Linear(32, 2), nn.Linear(32, 1)

    def forward(self, x: Any) -> Any:
        h = torch.tanh(self.body(x))
        return self.actor(h), self.critic(h)


class GraphConvolution(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs))

    def forward(self, x: Any, adj: Any) -> Any:
        return torch.spmm(adj, x @ self.weight)


class GCN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gc1, self.gc2 = GraphConvolution(6, 16), GraphConvolution(16, 3)

    def forward(self, x: Any, adj: Any) -> Any:
        return self.gc2(F.relu(self.gc1(x, adj)), adj)


class Nodes(nn.Module):
    """The same of linear layers, under names that say nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 16), nn.Linear(16, 3)

    def forward(self, x: Any, links: Any) -> Any:
        return links @ self.two(F.relu(links @ self.one(x)))


class Messages(nn.Module):
    """Sums over edges."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 16), nn.Linear(16, 3)

    def forward(self, x: Any, pairs: Any) -> Any:
        source, target = pairs
        h = F.relu(self.one(x))
        return self.two(torch.zeros_like(h).index_add_(0, target, h[source]))


def logistic() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def tabular() -> nn.Module:
    return nn.Sequential(
        nn.Linear(20, 64),
        nn.BatchNorm1d(64),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Linear(64, 1),
    )


class ResidualMLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.out = nn.Linear(20, 20), nn.Linear(20, 20), nn.Linear(20, 1)

    def forward(self, x: Any) -> Any:
        x = x + F.relu(self.one(x))
        return self.out(x + F.relu(self.two(x)))


def rows(n: int = 20) -> tuple[Any, Any]:
    return torch.randn(8, n), torch.randn(8, 1)


CE, MSE = nn.CrossEntropyLoss(), nn.MSELoss()
CASES: dict[str, Case] = {
    "LeNet, grey images": Case(LeNet, lambda: images(1, 28), "cnn", "vision", CE),
    "VGG": Case(VGG, images, "cnn", "vision", CE),
    "DenseNet": Case(DenseNet, images, "cnn", "vision", CE),
    "ResNet": Case(ResNet, images, "resnet", "vision", CE),
    "MobileNet blocks in a Sequential": Case(mobilenet, images, "resnet", "vision", CE),
    "UNet": Case(UNet, images, "unet", "vision"),
    "UNet under another name": Case(Segmenter, images, "unet", "vision"),
    "convolutional autoencoder": Case(ConvAutoencoder, lambda: (images()[0],), "cnn", "vision"),
    "ViT": Case(ViT, images, "transformer", "vision", CE),
    "GPT, tied head": Case(GPT, lambda: (ids(65, 2, 16), ids(65, 2, 16)), "transformer", "language"),
    "BERT-like classifier": Case(BERT, lambda: (ids(1200, 2, 8), ids(2, 2)), "transformer", "language", CE),
    "attention from scratch": Case(Tiny, lambda: (ids(50, 2, 8), ids(50, 2, 8)), "transformer", "language"),
    "SASRec (next item)": Case(SASRec, lambda: (ids(2000, 2, 8), ids(2000, 2, 8)), "transformer", "recsys"),
    "LSTM language model": Case(LSTMLanguageModel, lambda: (ids(200, 8, 2), ids(200, 8, 2)), "rnn", "language"),
    "GRU forecast": Case(Forecast, lambda: (torch.randn(2, 9, 5), torch.randn(2, 1)), "rnn", "timeseries", MSE),
    "recurrence by hand": Case(CharRNN, lambda: (torch.randn(2, 5, 20), ids(20, 2)), "rnn", "language", CE),
    "DLRM, sparse": Case(
        DLRM, lambda: (torch.randn(4, 13), ids(300, 4, 3), torch.zeros(4)), "embedding-tower", "recsys"
    ),
    "two towers": Case(TwoTower, lambda: (ids(1500, 4), ids(1500, 4), torch.zeros(4)), "embedding-tower", "recsys"),
    "matrix factorization": Case(
        MatrixFactorization, lambda: (ids(500, 4), ids(500, 4), torch.zeros(4)), "other", "recsys", MSE
    ),
    "logistic regression on hashed ids": Case(
        Hashed, lambda: (ids(10_000, 4, 5), torch.zeros(4)), "linear", "recsys", nn.BCEWithLogitsLoss()
    ),
    "entity embeddings of a table": Case(
        EntityEmbeddings, lambda: (ids(7, 8, 3), torch.randn(8, 6), torch.zeros(8, 1)), "mlp", "tabular", MSE
    ),
    "averaged word vectors": Case(TextClassifier, lambda: (ids(5000, 4, 9), ids(4, 4)), "other", "language", CE),
    "VAE": Case(VAE, lambda: (torch.rand(4, 64), ids(2, 4)), "mlp", "generative"),
    "GAN generator": Case(Generator, lambda: (torch.randn(2, 16, 1, 1), ids(2, 2)), "gan", "generative"),
    "GAN discriminator": Case(Discriminator, lambda: (images(3, 16)[0], torch.zeros(2, 1)), "gan", "generative"),
    "GAN, both": Case(Pair, lambda: (torch.randn(2, 16, 1, 1), torch.zeros(2, 1)), "gan", "generative"),
    "decoder of images": Case(Decoder, lambda: (torch.randn(2, 8), images()[0]), "other", "generative"),
    "diffusion U-Net": Case(
        Denoiser, lambda: (images(3, 16)[0], torch.rand(2), images(3, 16)[0]), "diffusion", "generative"
    ),
    "DQN": Case(DQN, lambda: (torch.randn(8, 4), ids(2, 8)), "policy", "rl"),
    "actor-critic": Case(ActorCritic, lambda: (torch.randn(8, 4), ids(2, 8)), "policy", "rl"),
    "GCN": Case(GCN, lambda: (torch.randn(9, 6), torch.eye(9).to_sparse(), ids(3, 9)), "gnn", "graph"),
    "GCN of linear layers": Case(Nodes, lambda: (torch.randn(9, 6), torch.eye(9), ids(3, 9)), "gnn", "graph"),
    "sums over edges": Case(Messages, lambda: (torch.randn(9, 6), ids(9, 2, 14), ids(3, 9)), "gnn", "graph"),
    "logistic regression": Case(logistic, lambda: (torch.rand(8, 64), ids(10, 8)), "linear", None, CE),
    "MLP for a table": Case(tabular, rows, "mlp", "tabular", MSE),
    "residual MLP": Case(ResidualMLP, rows, "mlp", "tabular", MSE),
}
