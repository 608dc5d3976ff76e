import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'

/** Whether two paths are of one file, however they are written and whatever links lead there. */
export async function isSameFile(a: string, b: string): Promise<boolean> {
  if (resolve(a) === resolve(b)) return true
  const [first, second] = await Promise.all([a, b].map((path) => stat(path).catch(() => undefined)))
  return first !== undefined && first.dev === second?.dev && first.ino === second.ino
}
