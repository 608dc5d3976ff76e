"""What policies of several heads decide, by the formulas of docs/math.md (70 to 79) in float64, over a made-up training of 300 steps;
writes test/fixtures/policies.*.

    python policies.py --out ../../test/fixtures

Averages are sums over the whole history, weights that are bounded come from the boundary itself; nothing is updated in place.
"""

import argparse
import pathlib

import numpy as np
import torch

from formula import hashed
from make_fixtures import write_json, write_tensors

HEADS = ('xStart', 'v', 'eps')
H, T, BATCH, STEPS, BINS = 3, 60, 4, 300, 6
SIGMA_DATA = 0.5
LOG_SNR = 7 - 14 * (np.arange(T) / (T - 1)) ** 1.2
SNR = np.exp(LOG_SNR)
ASKED = [0, 7, 20, 33, 47, 59]  # timesteps at which decisions are wanted
AT = [0, 5, 40, 120, 299]  # before these steps
STOP = 0.24  # win rate at which a softmin stays as it is
PLACES = [6.5, 3.1, 0.2, -2.7, -6.9]  # log snr at which the mixture of (73) is wanted


def history():
    """t [S, B], products of errors in v space [S, B, H, H], errors in the heads' own units [S, B, H]."""
    u = (hashed(7 + np.arange(STEPS * BATCH)).reshape(STEPS, BATCH) + 1) / 2
    t = np.floor(T * u).astype(np.int64)
    t[t > 50] = 50  # the noisiest bin sees little, its end nothing
    r = hashed(50_000 + np.arange(STEPS * BATCH * H * 8)).reshape(STEPS, BATCH, H, 8)
    shared = hashed(900_000 + np.arange(STEPS * BATCH * 8)).reshape(STEPS, BATCH, 1, 8)
    l = LOG_SNR[t][..., None]
    size = np.concatenate([np.exp(l / 6), 0 * l + 0.8, np.exp(-l / 6)], axis=-1)[..., None]  # each is best somewhere
    errors = 0.5 * shared + size * r * (1 + 0.002 * np.arange(STEPS)[:, None, None, None])
    products = (errors @ errors.swapaxes(-1, -2) / 8).astype(np.float32)
    own = np.stack([1 / (1 + SNR), np.ones(T), SNR / (1 + SNR)], axis=-1)  # of v's unit
    per_head = (np.diagonal(products, axis1=-2, axis2=-1) * own[t]).astype(np.float32)
    return t, products, per_head


def edges():
    """Bins of equal width in log snr of at least T / (2 B) timesteps."""
    width, least = (LOG_SNR[0] - LOG_SNR[-1]) / BINS, -(-T // (2 * BINS))
    found = [0]
    for k in range(T):
        wide = LOG_SNR[found[-1]] - LOG_SNR[k] >= width - 1e-9
        if wide and k - found[-1] >= least and T - k >= least and len(found) < BINS:
            found.append(k)
    return found + [T]


def best_weights(c, ridge=1e-3, limits=(-0.2, 1.2)):
    """The least w' C w with sum 1 within limits: inside by Lagrange, or else on the edges of the polygon (three heads)."""
    distance = lambda h, g: c[h, h] + c[g, g] - 2 * c[h, g]
    nearest = [min(max(0, distance(h, g)) for g in range(H) if g != h) for h in range(H)]
    m = c + np.diag(ridge * np.array(nearest) + 1e-9 * min(np.diag(c)))
    low, high = limits
    w = np.linalg.solve(m, np.ones(H))
    w /= w.sum()
    if low <= w.min() and w.max() <= high:
        return w
    candidates = []
    for h in range(H):
        a, b = (g for g in range(H) if g != h)
        for limit in limits:
            rest = 1 - limit  # w_a + w_b; w_a is free between what w_b and its own limits allow
            left, right = max(low, rest - high), min(high, rest - low)
            if left > right:
                continue
            base, move = np.zeros(H), np.zeros(H)
            base[h], base[b] = limit, rest
            move[a], move[b] = 1, -1
            x = np.clip(-(move @ m @ base) / (move @ m @ move), left, right)
            candidates.append(base + x * move)
    return min(candidates, key=lambda one: one @ m @ one)


def memory(count, half_life=500):
    """Weight of each of a bin's observations, in order (70): the c-th halves the weight of those before it in h(c) images."""
    h = np.minimum(half_life, np.maximum(20, np.arange(1, count + 1) / 4))
    kept = 2.0 ** (-1 / h)
    return np.array([kept[i + 1 :].prod() for i in range(count)])


class Bin:
    """What a bin has seen before a step: lists in order."""

    def __init__(self, products, per_head):
        self.products, self.per_head, self.count = products.astype(np.float64), per_head.astype(np.float64), len(products)

    def average(self, values, weight):
        return np.tensordot(weight, values, axes=1) / weight.sum()

    def covariance(self):
        return self.average(self.products, memory(self.count))

    def blue(self):
        return best_weights(self.covariance()) if self.count >= 20 else None


def best_heads(t, products, bins, steps):
    """The best head of each bin after so many steps, with the hysteresis of (71), -1 before 20 images."""
    best = [-1] * (len(bins) - 1)
    seen = [[] for _ in best]
    for s in range(steps):
        touched = set()
        for i in range(BATCH):
            b = np.searchsorted(bins, t[s, i], side='right') - 1
            seen[b].append(products[s, i].astype(np.float64))
            touched.add(b)
        for b in touched:
            if len(seen[b]) < 20:
                continue
            decay = memory(len(seen[b]))
            p = np.array(seen[b])
            errors = np.einsum('i,ihh->h', decay, p) / decay.sum()
            candidate = int(errors.argmin())
            if best[b] == -1:
                best[b] = candidate
            elif candidate != best[b]:
                gap = p[:, best[b], best[b]] - p[:, candidate, candidate]
                mean = decay @ gap / decay.sum()
                variance = max(0, decay @ gap**2 / decay.sum() - mean**2)
                effective = decay.sum() ** 2 / (decay**2).sum()
                if mean > 2 * np.sqrt(variance / max(1, effective - 1)):
                    best[b] = candidate
    return best


def least_win_rates(t, products, bins):
    """After each step, the smallest of the heads' win rates: means over timesteps of the bins' averages (70) of the indicator."""
    seen = [[] for _ in bins[1:]]
    least = []
    for s in range(STEPS):
        for i in range(BATCH):
            wins = np.diagonal(products[s, i]).argmin() == np.arange(H)
            seen[np.searchsorted(bins, t[s, i], side='right') - 1].append(wins)
        known = [(b, np.array(wins, dtype=np.float64)) for b, wins in enumerate(seen) if wins]
        sizes = np.array([bins[b + 1] - bins[b] for b, _ in known])
        rates = np.array([memory(len(wins)) @ wins / memory(len(wins)).sum() for _, wins in known])
        least.append(float((sizes @ rates / sizes.sum()).min()))
    return least


def stopped_temperatures(least, stop):
    """Before each step the temperature of a softmin that stays where the least win rate falls to `stop`, once it was above."""
    above = next(s for s, rate in enumerate(least) if rate > stop)
    end = next((s for s, rate in enumerate(least) if s > above and rate <= stop), STEPS)
    return [0.03 ** (min(1, min(s, end) / 199)) for s in range(STEPS)]


def uncertainties(t, per_head, steps, lr=0.01, features=16):
    """u [T, H] after so many steps of Adam (78)."""
    z = (LOG_SNR[0] - LOG_SNR) / (LOG_SNR[0] - LOG_SNR[-1])
    basis = np.cos(np.pi * np.outer(z, np.arange(features))) * np.where(np.arange(features) > 0, np.sqrt(2), 1)
    theta, first, second = (np.zeros((features, H)) for _ in range(3))
    for s in range(steps):
        leaf = torch.from_numpy(theta).requires_grad_()
        u = torch.from_numpy(basis[t[s]]) @ leaf
        objective = (torch.from_numpy(per_head[s].astype(np.float64)) * torch.exp(-u) + u).sum() / BATCH
        gradient = torch.autograd.grad(objective, leaf)[0].numpy()
        first, second = 0.9 * first + 0.1 * gradient, 0.99 * second + 0.01 * gradient**2
        theta = theta - lr * (first / (1 - 0.9 ** (s + 1))) / (np.sqrt(second / (1 - 0.99 ** (s + 1))) + 1e-8)
    return basis @ theta


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--out', type=pathlib.Path, required=True)
    out = parser.parse_args().out
    t, products, per_head = history()
    bins = edges()
    bin_of = lambda at: int(np.searchsorted(bins, at, side='right') - 1)
    own_of_x = np.stack([SNR**0, 1 + SNR, SNR], axis=-1)
    capped = np.minimum(1, 5 * own_of_x / (SNR + 1 / SIGMA_DATA**2)[:, None])
    signal = np.stack([1 / (1 + SNR), np.ones(T), SNR / (1 + SNR)], axis=-1) / 2
    centres = [LOG_SNR[a:b].mean() for a, b in zip(bins, bins[1:])]
    least = least_win_rates(t, products, bins)
    stopped = stopped_temperatures(least, STOP)
    merge = np.stack([1 / (1 + SNR), SNR / (1 + SNR)], axis=-1)  # of xStart and eps (77)
    rows = []
    for step in AT:
        seen = []
        flat_t = t[:step].reshape(-1)
        for a, b in zip(bins, bins[1:]):
            inside = (flat_t >= a) & (flat_t < b)
            seen.append(Bin(products[:step].reshape(-1, H, H)[inside], per_head[:step].reshape(-1, H)[inside]))
        best = best_heads(t, products, bins, step)
        share, mixture, normalised = [], [], []
        for at in ASKED:
            bin, preferred = seen[bin_of(at)], best[bin_of(at)]
            known = bin.count >= 40 and preferred >= 0  # the warm-up of the test
            share.append([0.8 if h == preferred else 0.1 for h in range(H)] if known else [1 / H] * H)
            mixture.append(list(bin.blue()) if bin.count >= 40 else list(signal[at]))
            weight = (2.0 ** (-np.arange(bin.count) / 100)).sum()
            normalised.append(list(1 / bin.average(bin.per_head, 2.0 ** (-np.arange(bin.count)[::-1] / 100))) if weight >= 20 else [1] * H)
        between = []
        for place in PLACES:
            after = next((k for k, centre in enumerate(centres) if centre <= place), len(centres) - 1)
            before = max(0, after - 1) if centres[after] <= place else after
            pair = [seen[before].blue(), seen[after].blue()]
            if any(one is None for one in pair):
                between.append(None)
            elif before == after:
                between.append(list(pair[0]))
            else:
                x = (centres[before] - place) / (centres[before] - centres[after])
                between.append(list((1 - x) * pair[0] + x * pair[1]))
        rows.append({
            'step': step,
            'best': best,
            'table': share,
            'consensus': mixture,
            'normalised': normalised,
            'uncertainty': np.exp(-uncertainties(t, per_head, step)[ASKED]).tolist(),
            'blueAt': between,
            'floor': 0.3 - 0.2 * min(1, step / 199),
            'temperature': float(0.03 ** min(1, step / 199)),
            'stopped': stopped[step],
            'warmFloor': (H - 1) / H if step < 40 else 0,
        })
    limited = []
    for k in range(24):
        r = hashed(3_000_000 + 100 * k + np.arange(H * 5)).reshape(H, 5) * [[1], [1.3], [1.8]] + 2 * hashed(np.arange(5) + k)
        c = r @ r.T / 5
        limited.append({'products': c.reshape(-1).tolist(), 'weights': best_weights(c).tolist()})
    write_json(out / 'policies.json', {
        'limited': limited,
        'heads': HEADS,
        'logSnr': LOG_SNR.tolist(),
        'binCount': BINS,
        'edges': [int(edge) for edge in bins],
        'asked': ASKED,
        'places': PLACES,
        'capped': capped[ASKED].tolist(),
        'merge': merge[ASKED].tolist(),
        'stop': STOP,
        'stoppedTemperatures': stopped,
        'rows': rows,
    })
    write_tensors(out / 'policies.safetensors', {
        't': torch.from_numpy(t.astype(np.int32)),
        'products': torch.from_numpy(products),
        'perHead': torch.from_numpy(per_head),
    })


if __name__ == '__main__':
    main()
