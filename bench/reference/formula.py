"""Weights and images by formula, so that no random generator and no file is needed to have the same ones elsewhere."""

import numpy as np
import torch


def hashed(n):
    """u(n) in [-1, 1), float64, for whole numbers n (array): a 32-bit multiplicative hash."""
    h = (np.asarray(n, dtype=np.uint64) * np.uint64(2654435761)) & np.uint64(0xFFFFFFFF)
    h ^= h >> np.uint64(16)
    h = (h * np.uint64(0x45D9F3B)) & np.uint64(0xFFFFFFFF)
    h ^= h >> np.uint64(16)
    return h.astype(np.float64) / 2**31 - 1


def formula_tensors(shapes):
    """shapes: [(name, shape)] in state-dict order -> {name: float32 tensor}; one running index over all elements."""
    tensors, start = {}, 0
    for name, shape in shapes:
        count = int(np.prod(shape))
        u = hashed(np.arange(start, start + count))
        start += count
        if len(shape) >= 2:
            w = u * np.sqrt(3 / (count / shape[0]))
        else:
            w = 1 + 0.1 * u if name.endswith('weight') else 0.1 * u
        tensors[name] = torch.from_numpy(w.astype(np.float32).reshape(shape))
    return tensors


def fill_by_formula(model):
    """Sets all parameters of the network by formula and returns it."""
    shapes = [(name, tuple(tensor.shape)) for name, tensor in model.state_dict().items()]
    model.load_state_dict(formula_tensors(shapes))
    return model


def formula_images(count, channels, height, width):
    """uint8 [count, channels, height, width]: smooth waves that differ from image to image."""
    n, c, y, x = np.meshgrid(*[np.arange(s) for s in (count, channels, height, width)], indexing='ij')
    wave = np.sin(0.9 * x + 0.37 * n) * np.cos(0.7 * y - 0.23 * n + 1.1 * c)
    return torch.from_numpy(np.floor(127.5 + 127 * wave).astype(np.uint8))


def to_signal(images):
    """uint8 0..255 -> float32 in [-1, 1]."""
    return images.float() / 127.5 - 1
