/** A mark on an axis. */
export interface Tick {
  readonly value: number
  readonly text: string
}

/** Round values (1, 2 or 5 times a power of ten) that divide [min, max] into about `count` parts. */
export function linearTicks(min: number, max: number, count = 6): Tick[] {
  const rough = (max - min) / count
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 5, 10].map((m) => m * power).find((candidate) => candidate >= rough * 0.999)!
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9))
  const first = Math.ceil(min / step - 1e-9)
  const last = Math.floor(max / step + 1e-9)
  return Array.from({ length: last - first + 1 }, (_, i) => {
    const value = (first + i) * step
    return { value, text: numberText(value, decimals, Math.max(Math.abs(min), Math.abs(max))) }
  })
}

/** Powers of ten in [min, max]; with 2 and 5 between them when there are few, and round values where even these are. */
export function logTicks(min: number, max: number): Tick[] {
  const low = Math.floor(Math.log10(min) + 1e-9)
  const high = Math.ceil(Math.log10(max) - 1e-9)
  const span = Math.log10(max / min)
  const mantissas = span <= 1.2 ? [1, 2, 3, 5, 7] : span <= 2.5 ? [1, 2, 5] : [1]
  const every = Math.max(1, Math.ceil(span / 8))
  const ticks: Tick[] = []
  for (let exponent = low; exponent <= high; exponent++) {
    if (mantissas.length === 1 && exponent % every !== 0) continue
    for (const mantissa of mantissas) {
      const value = mantissa * 10 ** exponent
      if (value < min * 0.999 || value > max * 1.001) continue
      ticks.push({ value, text: numberText(value, Math.max(0, -exponent)) })
    }
  }
  return ticks.length > 2 ? ticks : linearTicks(min, max, 4)
}

/** 12000 as 12k and 0.00001 as 1e-5; `largest`, the largest value of the axis, settles the unit of all of them. */
function numberText(value: number, decimals: number, largest = Math.abs(value)): string {
  const clean = Number(value.toPrecision(9))
  if (Math.abs(value) < largest * 1e-9) return '0'
  if (largest >= 1e9 || Math.abs(clean) < 1e-4) return clean.toExponential().replace('e+', 'e')
  if (largest >= 1e6) return `${Number((clean / 1e6).toPrecision(6))}M`
  if (largest >= 1e4) return `${Number((clean / 1e3).toPrecision(6))}k`
  return clean.toFixed(Math.min(decimals, 6))
}
