/** Tells what it is told, but only where so many milliseconds have passed since it was made or told last. */
export function atMostEvery<Arguments extends readonly unknown[]>(
  ms: number,
  tell: (...told: Arguments) => void,
): (...told: Arguments) => void {
  let last = performance.now()
  return (...told) => {
    if (performance.now() - last < ms) return
    last = performance.now()
    tell(...told)
  }
}
