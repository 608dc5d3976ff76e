"""Random numbers keyed by (seed, purpose, step, sample): Philox4x32-10 (Salmon et al. 2011), as docs/design.md says.

counter = (block, sample, step, purpose), key = the 64-bit seed, low word first. Real arithmetic is float32.
"""

import numpy as np
import torch

NOISE, DROPOUT, WEIGHTS, START_NOISE, STEP_NOISE = 1, 2, 3, 4, 5
MASK = np.uint64(0xFFFFFFFF)


def philox4x32(counter, seed):
    """counter: four arrays of 32-bit words that broadcast -> [..., 4] uint32."""
    a, b, c, d = np.broadcast_arrays(*[np.asarray(w, dtype=np.uint64) for w in counter])
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        product0, product1 = np.uint64(0xD2511F53) * a, np.uint64(0xCD9E8D57) * c
        a, b, c, d = (
            (product1 >> np.uint64(32)) ^ b ^ np.uint64(k0),
            product1 & MASK,
            (product0 >> np.uint64(32)) ^ d ^ np.uint64(k1),
            product0 & MASK,
        )
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([a, b, c, d], axis=-1).astype(np.uint32)


def words(sample_size, seed, purpose, step, sample):
    """[blocks, 4] uint32: enough for `sample_size` values of one sample."""
    blocks = np.arange((sample_size + 3) // 4)
    return philox4x32((blocks, sample, step, purpose), seed)


def keyed_normal(shape, seed, purpose, step, sample):
    """Standard normals of `shape` ([C, H, W]) for one sample, float32 (Box-Muller, cosine first)."""
    w = words(int(np.prod(shape)), seed, purpose, step, sample).astype(np.float32)
    scale, two_pi = np.float32(2.0**-32), np.float32(2 * np.pi)
    radius = np.sqrt(np.float32(-2) * np.log((w[:, 0::2] + np.float32(1)) * scale))
    angle = two_pi * (w[:, 1::2] * scale)
    values = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1).reshape(-1)
    return torch.from_numpy(values[: int(np.prod(shape))].reshape(shape).copy())


def keyed_normals(shape, seed, purpose, step, first_sample=0):
    """[N, C, H, W]: example n is sample first_sample + n."""
    samples = [keyed_normal(shape[1:], seed, purpose, step, first_sample + n) for n in range(shape[0])]
    return torch.stack(samples)


def keyed_dropout(shape, p, layer, seed, step, sample):
    """0 and 1 / (1 - p) for one sample: kept where the word is at least p * 2^32."""
    w = words(int(np.prod(shape)), seed, DROPOUT + 256 * layer, step, sample).reshape(-1)
    kept = w[: int(np.prod(shape))].astype(np.float64) >= p * 2**32
    return torch.from_numpy(np.where(kept, np.float32(1 / (1 - p)), np.float32(0)).reshape(shape))
