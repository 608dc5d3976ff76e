import { readFile, writeFile } from 'node:fs/promises'
import { DataError } from '../errors.ts'
import { lossCurve, type TimestepLoss } from './timestep-loss.ts'

/** Writes a measured loss over the timesteps as JSON, for `readLossCurve` and the option `lossCurve` of a run. */
export async function writeLossCurve(
  file: string,
  measured: TimestepLoss,
  timestepCount: number,
): Promise<void> {
  const { heads, t, perHead, loss, standardError } = measured
  const json = {
    timestepCount,
    heads,
    t: Array.from(t),
    loss: Array.from(loss),
    perHead: Array.from(perHead),
    standardError: Array.from(standardError),
  }
  await writeFile(file, `${JSON.stringify(json)}\n`)
}

/**
 * The mean loss of each timestep, [T], from a file of `writeLossCurve` (interpolated between measured timesteps) or from
 * a plain JSON list of T numbers.
 *
 * @throws DataError when the file is no loss curve over `timestepCount` timesteps
 */
export async function readLossCurve(file: string, timestepCount: number): Promise<Float64Array> {
  const fail = (what: string, cause?: unknown) =>
    new DataError(
      `readLossCurve: expected ${file} to hold a loss of each of ${timestepCount} timesteps, got ${what}`,
      file,
      {
        cause,
      },
    )
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw fail(error.code ?? error.message, error)
  })
  let json: { timestepCount?: number; t?: number[]; loss?: number[] } | number[]
  try {
    json = JSON.parse(text)
  } catch (error) {
    throw fail('no JSON', error)
  }
  if (Array.isArray(json)) {
    if (json.length !== timestepCount || !json.every(Number.isFinite)) throw fail(`a list of ${json.length}`)
    return Float64Array.from(json)
  }
  const { t, loss } = json ?? {}
  if (json?.timestepCount === undefined) throw fail('something else')
  if (json.timestepCount !== timestepCount) throw fail(`a curve over ${json.timestepCount} timesteps`)
  const fits = Array.isArray(t) && Array.isArray(loss) && t.length === loss.length && t.length > 0
  if (!fits || ![...t, ...loss].every(Number.isFinite)) throw fail('no lists t and loss of the same length')
  const none = new Float64Array(0)
  return lossCurve(
    { heads: [], t: Int32Array.from(t), loss: Float64Array.from(loss), perHead: none, standardError: none },
    timestepCount,
  )
}
