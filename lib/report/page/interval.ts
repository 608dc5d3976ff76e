import { meanInterval as tInterval } from '../../statistics/paired.ts'

/** The mean of independent values and, of two or more, its 95 % t interval; of runs that went astray, NaN. */
export function meanInterval(values: readonly number[]): { mean: number; low?: number; high?: number } {
  if (!values.every(Number.isFinite)) return { mean: Number.NaN }
  const { mean, low, high } = tInterval(values)
  return values.length < 2 ? { mean } : { mean, low, high }
}
