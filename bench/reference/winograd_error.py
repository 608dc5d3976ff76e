"""Rounding error of Winograd's F(4x4, 3x3) for several pairs of points: python winograd_error.py

native/kernels/winograd.h chooses the points +-a, +-b beside 0 and infinity; this shows why 3/4 and 3/2, and why bfloat16
images are transformed and multiplied in float32. Errors are root mean squares relative to the exact convolution in float64,
of a layer with 128 channels, inputs as after SiLU and weights as PyTorch initialises them.
"""

import numpy as np

CHANNELS, TILES = 128, 400
PAIRS = (('1', '2'), ('1/2', '1'), ('1/2', '3/2'), ('1/2', '2'), ('5/8', '3/2'), ('2/3', '3/2'), ('3/4', '3/2'))


def fraction(text):
    numerator, _, denominator = text.partition('/')
    return int(numerator) / int(denominator or 1)


def transforms(a, b):
    """A^T [4, 6], G [6, 3] and B^T [6, 6] of native/kernels/winograd.h, in float64."""
    points = (a, -a, b, -b)
    output = [[float(i == 0), *(p**i for p in points), float(i == 3)] for i in range(4)]
    scales = {p: 1 / (2 * p * p * (p * p - q * q)) for p, q in ((a, b), (-a, b), (b, a), (-b, a))}
    weight = [[1 / (a * b) ** 2, 0, 0], *([scales[p], scales[p] * p, scales[p] * p * p] for p in points), [0, 0, 1]]
    # The row of point p holds the coefficients of x (x - other points), lowest power first; of 0 and infinity, all points.
    ends = [(a * b) ** 2, 0, -(a * a + b * b), 0, 1]
    inner = [[0, -p * q * q, -q * q, p, 1, 0] for p, q in ((a, b), (-a, b), (b, a), (-b, a))]
    return np.array(output), np.array(weight), np.array([[*ends, 0], *inner, [0, *ends]])


def direct(images, weights, dtype):
    """[T, C, 6, 6], [C, 3, 3] -> [T, 4, 4], summed over channels one by one in `dtype`."""
    images, weights = images.astype(dtype), weights.astype(dtype)
    result = np.zeros((len(images), 4, 4), dtype)
    for c in range(images.shape[1]):
        for i in range(3):
            for j in range(3):
                result += images[:, c, i : i + 4, j : j + 4] * weights[c, i, j]
    return result


def winograd(images, weights, pair, dtype, stored=lambda values: values):
    """The same by Winograd's form; `stored` rounds what its two transforms give."""
    output, weight, window = (matrix.astype(dtype) for matrix in transforms(*map(fraction, pair)))
    at_points = stored((weight.astype(np.float64) @ weights @ weight.astype(np.float64).T).astype(dtype))
    windows = stored(window @ images.astype(dtype) @ window.T)
    products = np.zeros((len(images), 6, 6), dtype)
    for c in range(images.shape[1]):
        products += windows[:, c] * at_points[c]
    return output @ products @ output.T


def bfloat16(values):
    """Rounded to the nearest bfloat16, ties to even; as float32."""
    words = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((words + 0x7FFF + ((words >> 16) & 1)) >> 16 << 16).astype(np.uint32).view(np.float32)


def main():
    random = np.random.default_rng(0)
    images = np.maximum(random.standard_normal((TILES, CHANNELS, 6, 6)), -0.2)
    weights = random.uniform(-1, 1, (CHANNELS, 3, 3)) / np.sqrt(9 * CHANNELS)
    exact = direct(images, weights, np.float64)
    for pair in PAIRS:
        np.testing.assert_allclose(winograd(images, weights, pair, np.float64), exact, atol=1e-12)

    def error(result):
        return np.sqrt(np.mean((result - exact) ** 2) / np.mean(exact**2))

    base = error(direct(images, weights, np.float32))
    print(f'float32              error   of direct\ndirect            {base:.2e}        1.00')
    for pair in PAIRS:
        value = error(winograd(images, weights, pair, np.float32))
        print(f'{" and ".join(pair):16}  {value:.2e}  {value / base:10.2f}')

    rounded = bfloat16(images)
    base = error(direct(rounded, bfloat16(weights), np.float64))
    print(f'\nbfloat16 images      error   of direct\ndirect            {base:.2e}        1.00   bfloat16 weights, exact sums')
    for title, stored in (('float32 inside', lambda values: values), ('bfloat16 at the points', bfloat16)):
        for pair in (('1', '2'), ('3/4', '3/2')):
            value = error(winograd(rounded, weights, pair, np.float32, stored))
            print(f'{" and ".join(pair):16}  {value:.2e}  {value / base:10.2f}   {title}')


if __name__ == '__main__':
    main()
