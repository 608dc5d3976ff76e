"""Metrics by numpy and scipy on random features, and small TorchScript feature networks:
python metrics.py --out ../../test/fixtures

Formulas are those of guided-diffusion's evaluator (FID, Inception score, precision and recall with half-precision distances), of
arXiv 1801.01401 (KID), and of the sliced Wasserstein distance.
"""

import argparse
import pathlib
from typing import Dict, Tuple

import numpy as np
import scipy
import torch
from scipy import linalg, stats

from make_fixtures import VERSIONS, write_json, write_tensors

MADE_BY = {**VERSIONS, 'script': 'bench/reference/metrics.py', 'scipy': scipy.__version__}


def statistics(features):
    return features.mean(0), np.cov(features, rowvar=False)


def frechet(mu1, sigma1, mu2, sigma2):
    root = linalg.sqrtm(sigma1 @ sigma2)
    assert np.isfinite(root).all()
    if np.iscomplexobj(root):
        assert np.abs(np.diagonal(root).imag).max() < 1e-3
        root = root.real
    return float(((mu1 - mu2) ** 2).sum() + np.trace(sigma1) + np.trace(sigma2) - 2 * np.trace(root))


def inception_score(p, split):
    scores = []
    for i in range(0, len(p), split):
        part = p[i : i + split].astype(np.float64)
        kl = part * (np.log(part) - np.log(part.mean(0, keepdims=True)))
        scores.append(np.exp(kl.sum(1).mean()))
    return float(np.mean(scores))


def squared_distances(u, v):
    """Half precision after every operation, sums in single precision; single precision where that overflows."""

    def distances(u, v, round):
        def norm(x):
            return round(round(x * x).astype(np.float32).sum(1))

        product = round(u.astype(np.float32) @ v.astype(np.float32).T)
        two_products = round(2 * product)
        return np.maximum(round(round(norm(u)[:, None] - two_products) + norm(v)[None, :]), 0)

    with np.errstate(over='ignore', invalid='ignore'):
        half = distances(u.astype(np.float16), v.astype(np.float16), lambda x: x.astype(np.float16))
    return half.astype(np.float32) if np.isfinite(half).all() else distances(u, v, lambda x: x)


def precision_recall(reference, samples, k=3):
    def radii(points):
        return np.sort(squared_distances(points, points), axis=1)[:, k]

    between = squared_distances(reference, samples)
    precision = (between <= radii(reference)[:, None]).any(0).mean()
    recall = (between <= radii(samples)[None, :]).any(1).mean()
    return {'precision': float(precision), 'recall': float(recall)}


def kernel_distance(x, y):
    x, y = x.astype(np.float64), y.astype(np.float64)

    def kernel(a, b):
        return (a @ b.T / a.shape[1] + 1) ** 3

    def off_diagonal(k):
        n = len(k)
        return (k.sum() - np.trace(k)) / (n * (n - 1))

    return float(off_diagonal(kernel(x, x)) + off_diagonal(kernel(y, y)) - 2 * kernel(x, y).mean())


def sliced_wasserstein(x, y, directions):
    """By the quantile functions on a grid that holds every jump of both."""
    n, m = len(x), len(y)
    grid = np.lcm(n, m)
    middles = (np.arange(grid) + 0.5) / grid
    squares = []
    for direction in directions / np.linalg.norm(directions, axis=1, keepdims=True):
        a, b = np.sort(x @ direction), np.sort(y @ direction)
        difference = a[(middles * n).astype(int)] - b[(middles * m).astype(int)]
        squares.append((difference**2).mean())
        # scipy knows the distance of order 1: a check of the grid
        assert np.isclose(np.abs(difference).mean(), stats.wasserstein_distance(a, b))
    return float(np.sqrt(np.mean(squares)))


class Trunk(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 6, 3, stride=2)
        self.classes = torch.nn.Linear(6, 5)

    def forward(self, x) -> Tuple[torch.Tensor, torch.Tensor]:
        maps = torch.relu(self.conv((x - 128) / 128))
        return maps.mean((2, 3)), maps


class PoolOnly(Trunk):
    def forward(self, x):
        maps = torch.relu(self.conv((x - 128) / 128))
        return maps.mean((2, 3))


class Everything(Trunk):
    def forward(self, x) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        maps = torch.relu(self.conv((x - 128) / 128))
        pool = maps.mean((2, 3))
        return pool, maps[:, :2, :2, :2], pool @ self.classes.weight.t()


class ByName(Trunk):
    def forward(self, x) -> Dict[str, torch.Tensor]:
        maps = torch.relu(self.conv((x - 128) / 128))
        pool = maps.mean((2, 3))
        return {'pool': pool, 'logits': pool @ self.classes.weight.t()}


class LikeNvidias(Trunk):
    """The arguments of NVIDIA's inception-2015-12-05.pt."""

    def forward(self, img, return_features: bool = False, use_fp16: bool = False, no_output_bias: bool = False):
        maps = torch.relu(self.conv((img - 128) / 128))
        pool = maps.mean((2, 3))
        if return_features:
            return pool
        logits = pool @ self.classes.weight.t()
        if not no_output_bias:
            logits = logits + self.classes.bias
        return logits.softmax(1)


class NoFeatures(Trunk):
    def forward(self, x) -> str:
        return 'no features'


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--out', type=pathlib.Path, required=True)
    out = parser.parse_args().out
    rng = np.random.default_rng(3)
    mix = rng.standard_normal((8, 8))
    a = (rng.standard_normal((60, 8)) @ mix).astype(np.float32)
    b = (1.2 * rng.standard_normal((45, 8)) @ mix + 0.5).astype(np.float32)
    few_a, few_b = (rng.standard_normal((10, 16)).astype(np.float32) for _ in range(2))
    few_a[:, 3] = 0  # singular, with a feature that is always 0
    probabilities = rng.dirichlet(np.full(12, 0.4), 70).astype(np.float32) + 1e-6
    probabilities /= probabilities.sum(1, keepdims=True)
    directions = rng.standard_normal((32, 8)).astype(np.float32)
    rows_a = np.stack([rng.choice(60, 20, replace=False) for _ in range(4)]).astype(np.int32)
    rows_b = np.stack([rng.choice(45, 20, replace=False) for _ in range(4)]).astype(np.int32)
    mu, sigma = statistics(a.astype(np.float64))
    tensors = {
        **{'a': a, 'b': b, 'few_a': few_a, 'few_b': few_b, 'probabilities': probabilities},
        **{'directions': directions, 'rows_a': rows_a, 'rows_b': rows_b, 'mu_a': mu, 'sigma_a': sigma},
    }
    images = rng.integers(0, 256, (4, 3, 16, 16)).astype(np.uint8)
    tensors['images'] = images
    torch.manual_seed(0)
    trunk = Trunk()
    x = torch.from_numpy(images).float()
    with torch.no_grad():
        pool, maps = trunk(x)
        tensors['pool'] = pool.numpy()
        tensors['spatial'] = maps[:, :2, :2, :2].flatten(1).numpy()
        tensors['softmax'] = (pool @ trunk.classes.weight.t()).softmax(1).numpy()
    folder = out / 'feature-networks'
    folder.mkdir(exist_ok=True)
    for name, kind in {
        'pool': PoolOnly,
        'everything': Everything,
        'by-name': ByName,
        'like-nvidias': LikeNvidias,
        'no-features': NoFeatures,
    }.items():
        network = kind()
        network.load_state_dict(trunk.state_dict())
        torch.jit.script(network.eval()).save(str(folder / f'{name}.pt'))
    write_tensors(out / 'metrics.safetensors', {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in tensors.items()})
    double = [x.astype(np.float64) for x in (a, b, few_a, few_b)]
    write_json(out / 'metrics.json', {
        'madeBy': MADE_BY,
        'frechet': frechet(*statistics(double[0]), *statistics(double[1])),
        'frechetSingular': frechet(*statistics(double[2]), *statistics(double[3])),
        'inceptionScore': {str(split): inception_score(probabilities, split) for split in (25, 5000)},
        'precisionRecall': precision_recall(a, b),
        'precisionRecallOverflow': precision_recall(a * 100, b * 100),
        'precisionRecallCoarse': precision_recall(a + np.float32(45), b + np.float32(45)),
        'kernelDistances': [kernel_distance(a[i], b[j]) for i, j in zip(rows_a, rows_b)],
        'slicedWasserstein': sliced_wasserstein(double[0], double[1], directions.astype(np.float64)),
    })


if __name__ == '__main__':
    main()
