/**
 * Pixels of generated images as guided-diffusion saves them: `(x + 1) * 127.5` in float32, clamped to [0, 255],
 * truncated (0.0 becomes 127). NaN becomes 0.
 *
 * @param values - any shape, [-1, 1]
 */
export function toUint8(values: Float32Array): Uint8Array {
  const out = new Uint8Array(values.length)
  for (let i = 0; i < values.length; i++) {
    const value = Math.fround(Math.fround(values[i]! + 1) * 127.5)
    out[i] = Math.min(255, Math.max(0, value))
  }
  return out
}
