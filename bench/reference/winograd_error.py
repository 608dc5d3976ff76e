"""Rounding error of Winograd's F(4x4, 3x3) for several pairs of points: python winograd_error.py

native/kernels/winograd.h chooses the points +-a, +-b beside 0 and infinity; this shows why 3/4 and 3/2, and what rounding
to bfloat16 at the points costs: too much for the forward pass, which multiplies in float32, also for bfloat16 images. Errors
are root mean squares relative to the exact convolution in float64, of a layer with 128 channels, inputs as after SiLU and
weights as PyTorch initialises them.
"""

import numpy as np

CHANNELS, TILES = 128, 400
PAIRS = (('1', '2'), ('1/2', '1'), ('1/2', '3/2'), ('1/2', '2'), ('5/8', '3/2'), ('2/3', '3/2'), ('3/4', '3/2'))


def fraction(text):
    numerator, _, denominator = text.partition('/')
    return int(numerator) / int(denominator or 1)


def transforms(points, outputs):
    """A^T [outputs, n], G [n, 3] and B^T [n, n] of Toom and Cook's scheme for these points and infinity, n = outputs + 2."""
    last = outputs - 1
    output = [[*(p**i for p in points), float(i == last)] for i in range(outputs)]
    weight, window = [], []
    for p in points:
        others = [q for q in points if q != p]
        weight.append([p**i / np.prod([p - q for q in others]) for i in range(3)])
        window.append([*np.poly(others)[::-1], 0])
    return np.array(output), np.array([*weight, [0, 0, 1]]), np.array([*window, np.poly(points)[::-1]])


def of_pair(pair):
    a, b = map(fraction, pair)
    return transforms((0, a, -a, b, -b), 4)


def direct(images, weights, dtype):
    """[T, C, h + 2, w + 2], [C, 3, 3] -> [T, h, w], summed over channels one by one in `dtype`."""
    images, weights = images.astype(dtype), weights.astype(dtype)
    height, width = images.shape[2] - 2, images.shape[3] - 2
    result = np.zeros((len(images), height, width), dtype)
    for c in range(images.shape[1]):
        for i in range(3):
            for j in range(3):
                result += images[:, c, i : i + height, j : j + width] * weights[c, i, j]
    return result


def winograd(images, weights, down, across, dtype, stored=lambda values: values):
    """The same by Winograd's form with the transforms of columns and rows; `stored` rounds what those of the inputs give."""
    (out_d, weight_d, window_d), (out_a, weight_a, window_a) = down, across
    at_points = stored((weight_d @ weights @ weight_a.T).astype(dtype))
    out_d, out_a, window_d, window_a = (matrix.astype(dtype) for matrix in (out_d, out_a, window_d, window_a))
    windows = stored(window_d @ images.astype(dtype) @ window_a.T)
    products = np.zeros((len(images), *at_points.shape[1:]), dtype)
    for c in range(images.shape[1]):
        products += windows[:, c] * at_points[c]
    return out_d @ products @ out_a.T


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
        np.testing.assert_allclose(winograd(images, weights, of_pair(pair), of_pair(pair), np.float64), exact, atol=1e-12)

    def error(result, expected=exact):
        return np.sqrt(np.mean((result - expected) ** 2) / np.mean(expected**2))

    base = error(direct(images, weights, np.float32))
    print(f'float32              error   of direct\ndirect            {base:.2e}        1.00')
    for pair in PAIRS:
        value = error(winograd(images, weights, of_pair(pair), of_pair(pair), np.float32))
        print(f'{" and ".join(pair):16}  {value:.2e}  {value / base:10.2f}')

    rounded = bfloat16(images)
    base = error(direct(rounded, bfloat16(weights), np.float64))
    print(f'\nbfloat16 images      error   of direct\ndirect            {base:.2e}        1.00   bfloat16 weights, exact sums')
    for title, stored in (('float32 inside', lambda values: values), ('bfloat16 at the points', bfloat16)):
        for pair in (('1', '2'), ('3/4', '3/2')):
            value = error(winograd(rounded, weights, of_pair(pair), of_pair(pair), np.float32, stored))
            print(f'{" and ".join(pair):16}  {value:.2e}  {value / base:10.2f}   {title}')

    four, two = of_pair(('3/4', '3/2')), transforms((0, 1, -1), 2)
    print('\nbfloat16 images, bfloat16 at the points; multiplications of a direct convolution')
    for name, down, across in (('4x4 outputs', four, four), ('4x2', four, two), ('2x2', two, two)):
        (height, points_down), (width, points_across) = down[0].shape, across[0].shape
        part = rounded[:, :, : height + 2, : width + 2]
        expected = direct(part, weights, np.float64)
        value = error(winograd(part, weights, down, across, np.float32, bfloat16), expected)
        print(f'{name:16}  {value:.2e}  {points_down * points_across / (9 * height * width):10.2f}')


if __name__ == '__main__':
    main()
