"""Writes test/fixtures/pillow-crops.json: guided-diffusion's centre crop of small images, by Pillow itself.

Usage: pip install pillow==12.0.0 numpy && python scripts/make-pillow-crops.py
(Pillow 13 resizes tall images in another order of passes, so some values differ by a few levels.)
"""

import json
import pathlib

import numpy as np
import PIL
from PIL import Image


def center_crop(image, size):
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), resample=Image.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), resample=Image.BICUBIC)
    values = np.array(image)
    top, left = (values.shape[0] - size) // 2, (values.shape[1] - size) // 2
    return values[top : top + size, left : left + size]


def formula(height, width, channels):
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(channels), indexing="ij")
    return ((7 * y + 13 * x + 29 * c + 5 * ((y * x) % 17)) % 256).astype(np.uint8)


def to_image(values):
    planes = [Image.fromarray(np.ascontiguousarray(values[..., c])) for c in range(values.shape[2])]
    return Image.merge({1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[len(planes)], planes)


cases = []
for height, width, channels, size in [(131, 97, 3, 4), (9, 14, 1, 5), (40, 23, 2, 6), (33, 70, 4, 5), (5, 4, 3, 6)]:
    crop = center_crop(to_image(formula(height, width, channels)), size)
    cases.append(dict(height=height, width=width, channels=channels, size=size, expected=crop.flatten().tolist()))
image = "(7y + 13x + 29c + 5((yx) mod 17)) mod 256"
made_by = f"scripts/make-pillow-crops.py, Pillow {PIL.__version__}; image value at (y, x, c): {image}"
out = pathlib.Path(__file__).parents[1] / "test/fixtures/pillow-crops.json"
out.write_text(json.dumps({"madeBy": made_by, "cases": cases}) + "\n")
