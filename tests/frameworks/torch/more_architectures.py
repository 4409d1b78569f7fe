"""More models with what they are, written after the rules of the guesses were, to see what they do with what they had not seen.

Short, as sketches are; classes say only what people call them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from .architectures import Case, images

CASES: dict[str, Case] = {}


def case(architecture: str, domain: str | None, batch: Any, loss: Any = None) -> Any:
    """A class as one of the cases."""

    def keep(make: type[nn.Module]) -> type[nn.Module]:
        CASES[make.__name__] = Case(make, batch, architecture, domain, loss)
        return make

    return keep


@case("resnet", "vision", images)
class ConvNeXtTiny(nn.Module):
    class Blk(nn.Module):
        def __init__(self, d):
            super().__init__()
            self.dw = nn.Conv2d(d, d, 7, padding=3, groups=d)
            self.norm = nn.LayerNorm(d)
            self.pw1 = nn.Linear(d, 4 * d)
            self.pw2 = nn.Linear(4 * d, d)
            self.gamma = nn.Parameter(torch.ones(d) * 1e-6)

        def forward(self, x):
            h = self.dw(x).permute(0, 2, 3, 1)
            h = self.pw2(F.gelu(self.pw1(self.norm(h)))) * self.gamma
            return x + h.permute(0, 3, 1, 2)

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, 4)
        self.b = nn.Sequential(self.Blk(16), self.Blk(16))
        self.down = nn.Conv2d(16, 32, 2, 2)
        self.c = self.Blk(32)
        self.head = nn.Linear(32, 5)

    def forward(self, x):
        return self.head(self.c(self.down(self.b(self.stem(x)))).mean((2, 3)))


@case("mlp", "vision", images)
class MLPMixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.p = nn.Conv2d(3, 16, 8, 8)
        self.n1 = nn.LayerNorm(16)
        self.t = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.n2 = nn.LayerNorm(16)
        self.c = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.h = nn.Linear(16, 4)

    def forward(self, x):
        x = self.p(x).flatten(2).mT
        x = x + self.t(self.n1(x).mT).mT
        x = x + self.c(self.n2(x))
        return self.h(x.mean(1))


@case("cnn", "language", lambda: (torch.randint(0, 3000, (2, 20)), torch.zeros(2).long()))
class TextCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(3000, 16)
        self.convs = nn.ModuleList(nn.Conv1d(16, 8, k) for k in (3, 4, 5))
        self.fc = nn.Linear(24, 2)

    def forward(self, x):
        e = self.embedding(x).mT
        return self.fc(torch.cat([F.relu(c(e)).amax(2) for c in self.convs], 1))


@case("rnn", "language", lambda: (torch.randint(0, 500, (2, 7)), torch.randint(0, 600, (2, 6)), torch.zeros(2)))
class Seq2Seq(nn.Module):
    def __init__(self):
        super().__init__()
        self.src = nn.Embedding(500, 16)
        self.tgt = nn.Embedding(600, 16)
        self.enc = nn.GRU(16, 32, batch_first=True)
        self.dec = nn.GRU(16, 32, batch_first=True)
        self.out = nn.Linear(64, 600)

    def forward(self, a, b):
        e, h = self.enc(self.src(a))
        d, _ = self.dec(self.tgt(b), h)
        w = F.softmax(d @ e.mT, -1)
        return self.out(torch.cat([d, w @ e], -1))


@case("resnet", None, lambda: (torch.randn(2, 5, 64), torch.zeros(2, 3)))
class TCN(nn.Module):
    def __init__(self):
        super().__init__()
        self.i = nn.Conv1d(5, 16, 1)
        self.c = nn.ModuleList(nn.Conv1d(16, 16, 3, padding=2**k, dilation=2**k) for k in range(3))
        self.o = nn.Linear(16, 3)

    def forward(self, x):
        x = self.i(x)
        for c in self.c:
            x = x + F.relu(c(x))
        return self.o(x.mean(2))


@case("policy", "rl", lambda: (torch.rand(2, 4, 84, 84), torch.zeros(2).long()))
class QNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = nn.Sequential(nn.Conv2d(4, 16, 8, 4), nn.ReLU(), nn.Conv2d(16, 32, 4, 2), nn.ReLU(), nn.Flatten())
        self.v = nn.Linear(2592, 1)
        self.a = nn.Linear(2592, 6)

    def forward(self, x):
        h = self.f(x)
        a = self.a(h)
        return self.v(h) + a - a.mean(1, keepdim=True)


@case("gnn", "graph", lambda: (torch.randn(9, 6), torch.randint(0, 9, (2, 20)), torch.zeros(2)))
class GAT(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Linear(6, 8)
        self.a = nn.Linear(16, 1)
        self.o = nn.Linear(8, 3)

    def forward(self, x, edge_index):
        i, j = edge_index
        h = self.w(x)
        e = F.leaky_relu(self.a(torch.cat([h[i], h[j]], 1))).exp()
        z = torch.zeros(len(x), 1).index_add(0, j, e)
        return self.o(torch.zeros_like(h).index_add(0, j, h[i] * e) / z.clamp_min(1e-9))


@case("mlp", None, lambda: (torch.rand(64, 2), torch.rand(64, 3)), nn.MSELoss())
class NeRF(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))

    def forward(self, x):
        f = 2.0 ** torch.arange(4)
        p = (x[..., None] * f).flatten(1)
        return self.l(torch.cat([p.sin(), p.cos()], 1))


@case("transformer", "language", lambda: (torch.randint(0, 90, (2, 7)), torch.randint(0, 90, (2, 6)), torch.zeros(2)))
class Translator(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(90, 16)
        self.t = nn.Transformer(16, 2, 1, 1, 32, batch_first=True)
        self.generator = nn.Linear(16, 90)

    def forward(self, a, b):
        return self.generator(self.t(self.e(a), self.e(b)))


@case("unet", "vision", images)
class ResUNetPlus(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(8, 8, 3, padding=1)
        self.d = nn.Conv2d(8, 16, 3, 2, 1)
        self.u = nn.Upsample(scale_factor=2)
        self.e = nn.Conv2d(24, 8, 3, padding=1)
        self.o = nn.Conv2d(8, 2, 1)

    def forward(self, x):
        a = F.relu(self.a(x))
        a = a + self.b(a)
        d = F.relu(self.d(a))
        return self.o(F.relu(self.e(torch.cat([a, self.u(d)], 1))))


@case("embedding-tower", "recsys", lambda: (torch.randint(0, 4000, (8, 6)), torch.zeros(8)))
class WideDeep(nn.Module):
    def __init__(self):
        super().__init__()
        self.wide = nn.Embedding(4000, 1)
        self.deep = nn.Embedding(4000, 8)
        self.mlp = nn.Sequential(nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x):
        return (self.wide(x).sum(1) + self.mlp(self.deep(x).flatten(1))).squeeze(1)


@case("embedding-tower", "recsys", lambda: (torch.randint(0, 4000, (8, 6)), torch.zeros(8)))
class DeepFM(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Embedding(4000, 1)
        self.emb = nn.Embedding(4000, 8)
        self.mlp = nn.Sequential(nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x):
        e = self.emb(x)
        fm = 0.5 * (e.sum(1) ** 2 - (e**2).sum(1)).sum(1, keepdim=True)
        return (self.lin(x).sum(1) + fm + self.mlp(e.flatten(1))).squeeze(1)


@case("diffusion", "generative", lambda: (torch.randn(8, 2), torch.rand(8), torch.randn(8, 2)))
class ScoreNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.time_embed = nn.Sequential(nn.Linear(1, 16), nn.SiLU(), nn.Linear(16, 16))
        self.net = nn.Sequential(nn.Linear(18, 64), nn.SiLU(), nn.Linear(64, 2))

    def forward(self, x, t):
        return self.net(torch.cat([x, self.time_embed(t[:, None])], 1))


@case("rnn", "speech", lambda: (torch.randn(2, 1, 40, 50), torch.zeros(2).long()))
class DeepSpeech(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(1, 8, 3, 2, 1)
        self.r = nn.LSTM(160, 64, 2, batch_first=True, bidirectional=True)
        self.o = nn.Linear(128, 29)

    def forward(self, x):
        h = self.c(x)
        h = h.permute(0, 3, 1, 2).flatten(2)
        return self.o(self.r(h)[0])


@case("transformer", "vision", images)
class SwinLike(nn.Module):
    class WindowAttention(nn.Module):
        def __init__(self, d):
            super().__init__()
            self.qkv = nn.Linear(d, 3 * d)
            self.proj = nn.Linear(d, d)
            self.relative_position_bias_table = nn.Parameter(torch.zeros(49, 4))

        def forward(self, x):
            q, k, v = self.qkv(x).chunk(3, -1)
            return self.proj((q @ k.mT / 4).softmax(-1) @ v)

    def __init__(self):
        super().__init__()
        self.pe = nn.Conv2d(3, 32, 4, 4)
        self.n = nn.LayerNorm(32)
        self.a = self.WindowAttention(32)
        self.m = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))
        self.h = nn.Linear(32, 4)

    def forward(self, x):
        x = self.pe(x).flatten(2).mT
        x = x + self.a(self.n(x))
        x = x + self.m(x)
        return self.h(x.mean(1))


@case("mlp", None, lambda: (torch.randn(8, 2, 64),))
class SimCLRHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.p = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))

    def forward(self, x):
        return F.normalize(self.p(x), dim=-1)


@case("linear", None, lambda: (torch.randn(8, 12), torch.randn(8, 1)), F.mse_loss)
class LinearRegression(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(12, 1))
        self.b = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x @ self.w + self.b


@case("embedding-tower", "recsys", lambda: (torch.randint(0, 900, (8,)), torch.randint(0, 1700, (8,)), torch.zeros(8)))
class NCF(nn.Module):
    def __init__(self):
        super().__init__()
        self.user_emb = nn.Embedding(900, 16)
        self.movie_emb = nn.Embedding(1700, 16)
        self.fc = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, u, m):
        return self.fc(torch.cat([self.user_emb(u), self.movie_emb(m)], 1)).squeeze(1)


@case("cnn", "vision", lambda: images(1, 64))
class SiameseNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Sequential(
            nn.Conv2d(1, 8, 5, 2), nn.ReLU(), nn.Conv2d(8, 8, 5, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.f = nn.Linear(8, 1)

    def forward(self, a, b=None):
        b = a.flip(0) if b is None else b
        return self.f((self.c(a) - self.c(b)).abs())


@case("gan", "generative", lambda: (torch.randn(8, 2), torch.zeros(8, 1)))
class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.n = nn.Sequential(nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))

    def forward(self, x):
        return self.n(x)
