/** The share of a course of so many steps that is over at a step, in [0, 1]. */
function progress(step: number, stepCount: number): number {
  return stepCount <= 1 ? 1 : Math.min(1, step / (stepCount - 1))
}

/** From one number to another in equal steps; the last one from step `stepCount` - 1 on. */
export function linearCourse(from: number, to: number, stepCount: number): (step: number) => number {
  return (step) => from + (to - from) * progress(step, stepCount)
}

/** From one number to another by equal factors; the last one from step `stepCount` - 1 on. */
export function geometricCourse(from: number, to: number, stepCount: number): (step: number) => number {
  return (step) => from * (to / from) ** progress(step, stepCount)
}
