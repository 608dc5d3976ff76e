"""Timesteps in proportion to the root mean square of their recent losses (Nichol & Dhariwal 2021, "Improved DDPM", eq. 18).

Writes the fixture of test/timesteps/loss-second-moment.test.ts:

    python loss_second_moment.py --out ../../test/fixtures
"""

import argparse
import json
import pathlib

import numpy as np

from philox import words

TIMESTEPS = 16  # the purpose of the random numbers, as in lib/random.ts


class LossSecondMoment:
    """The arrays of the original: `losses` [T, history] float64, the newest last, `counts` [T]."""

    def __init__(self, timestep_count, history=10, uniform_share=0.001):
        self.losses = np.zeros((timestep_count, history))
        self.counts = np.zeros(timestep_count, dtype=np.int64)
        self.uniform_share = uniform_share

    def weights(self):
        T, history = self.losses.shape
        if not (self.counts == history).all():
            return np.ones(T)
        w = np.sqrt((self.losses**2).mean(axis=1))
        return w / w.sum() * (1 - self.uniform_share) + self.uniform_share / T

    def update(self, t, loss):
        for index, value in zip(t, loss):
            if self.counts[index] == self.losses.shape[1]:
                self.losses[index, :-1] = self.losses[index, 1:]
                self.losses[index, -1] = value
            else:
                self.losses[index, self.counts[index]] = value
                self.counts[index] += 1

    def draw(self, count, seed, step):
        """Inverse CDF of `count` keyed uniform numbers -> timesteps, importance weights 1 / (T p_t) in float32."""
        w = words(2 * count, seed, TIMESTEPS, step, 0).reshape(-1)[: 2 * count].astype(np.float64)
        uniforms = (np.floor(w[0::2] / 2**5) * 2**26 + np.floor(w[1::2] / 2**6)) / 2**53
        p = self.weights() / self.weights().sum()
        cdf = p.cumsum() / p.sum()
        t = cdf.searchsorted(uniforms, side='right')
        return t, (1 / (len(p) * p[t])).astype(np.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=pathlib.Path, required=True)
    out = parser.parse_args().out

    T, seed, step, rng = 20, 7, 260, np.random.default_rng(0)
    sampler = LossSecondMoment(T)
    updates, weights = [], []
    for n in range(260):
        t = rng.integers(0, T, size=2) if n % 3 else rng.integers(0, T, size=3)
        loss = (np.exp(-t / 4) * rng.gamma(2.0, size=len(t))).astype(np.float32).round(4).astype(np.float32)
        sampler.update(t, loss.astype(np.float64))
        updates.append([[int(i), float(str(x))] for i, x in zip(t, loss)])
        if (n + 1) % 20 == 0:
            p = sampler.weights() / sampler.weights().sum()
            weights.append(p.tolist())
    t, weight = sampler.draw(64, seed, step)
    fixture = {
        'madeBy': {'script': 'bench/reference/loss_second_moment.py', 'numpy': np.__version__},
        'timestepCount': T,
        'updates': updates,
        'probabilities': weights,
        'draw': {'count': 64, 'seed': seed, 'step': step, 't': t.tolist(), 'weight': weight.tolist()},
    }
    text = ',\n'.join(f'  {json.dumps(key)}: {json.dumps(value)}' for key, value in fixture.items())
    (out / 'loss-second-moment.json').write_text('{\n' + text + '\n}\n')


if __name__ == '__main__':
    main()
