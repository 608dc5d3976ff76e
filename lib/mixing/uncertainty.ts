import { argumentError, checkInteger, checkNumber } from '../check.ts'
import { Adam } from '../timesteps/adam.ts'
import { type MixContext, perHeadOf } from './mix-context.ts'
import type { HeadPolicy } from './policy.ts'

/** Options of `uncertaintyPolicy`. */
export interface HeadUncertaintyOptions {
  /** Learning rate of Adam; 0.01 by default. */
  readonly lr?: number
  /** Cosines of log snr; 16 by default. */
  readonly features?: number
}

/**
 * Learns how large each head's error is at each noise level, u = log error, and divides by it, with `loss.choose: 'mean'` and
 * `loss.space: 'own'` (math.md, eq. 78; Karras et al. 2024, "Analyzing and Improving", section B.8; Kendall et al. 2018). u is linear in
 * cosines of log snr, so that noise levels share what they learn; its own Adam minimises error exp(-u) + u.
 */
export function uncertaintyPolicy(context: MixContext, options: HeadUncertaintyOptions = {}): HeadPolicy {
  const call = 'uncertaintyPolicy'
  const { lr = 0.01, features = 16 } = options
  checkNumber(call, 'lr', lr, 0)
  checkInteger(call, 'features', features, 1)
  const { heads, logSnr } = context
  const size = heads.length
  const [top, bottom] = [logSnr[0] as number, logSnr.at(-1) as number]
  const basis = Array.from(logSnr, (value) => {
    const place = top === bottom ? 0 : (top - value) / (top - bottom)
    return Float64Array.from(
      { length: features },
      (_, k) => Math.cos(Math.PI * k * place) * (k ? Math.SQRT2 : 1),
    )
  })
  const adam = new Adam(size * features, lr)
  const fields = { theta: adam.values, first: adam.first, second: adam.second }
  const u = (t: number, head: number): number => {
    const row = basis[t] as Float64Array
    return row.reduce((sum, value, k) => sum + value * (fields.theta[head * features + k] as number), 0)
  }
  return {
    name: 'uncertainty',
    decide: (t) => ({ headWeight: perHeadOf(t, size, (at, head) => Math.exp(-u(at, head))) }),
    observe({ t, perHead }) {
      if (!perHead.every(Number.isFinite)) return
      const gradient = new Float64Array(size * features)
      for (let i = 0; i < t.length; i++) {
        const at = t[i] as number
        for (let head = 0; head < size; head++) {
          const slope = (1 - (perHead[i * size + head] as number) * Math.exp(-u(at, head))) / t.length
          for (let k = 0; k < features; k++)
            gradient[head * features + k]! += slope * (basis[at]![k] as number)
        }
      }
      adam.update(gradient)
    },
    state: () => ({
      steps: adam.steps,
      ...Object.fromEntries(Object.entries(fields).map(([name, values]) => [name, Array.from(values)])),
    }),
    restore(state) {
      const stored = (state ?? {}) as { steps?: number } & Record<string, number[] | undefined>
      const fits = Object.entries(fields).every(([name, values]) => stored[name]?.length === values.length)
      if (!fits || typeof stored.steps !== 'number') {
        throw argumentError(`${call}.restore`, 'state', `of ${size} heads and ${features} features`, state)
      }
      adam.steps = stored.steps
      for (const [name, values] of Object.entries(fields)) values.set(stored[name] as number[])
    },
  }
}
