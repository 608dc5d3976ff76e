/** An axis of a figure. Without limits it fits the data. */
export interface FigureAxis {
  readonly label: string
  /** Shown in brackets after the label. */
  readonly unit?: string
  /** `linear` by default; on `log` values that are not positive are left out. */
  readonly scale?: 'linear' | 'log'
  readonly min?: number
  readonly max?: number
}

/** Noise levels, as every figure over them has them. */
export const NOISE_AXIS: FigureAxis = { label: 'log snr (much noise left, little right)' }

/** Points of one name; a y that is null or not finite interrupts a line. */
export interface FigureSeries {
  /** Written beside its line or in the legend; an empty name is not. */
  readonly name: string
  readonly x: readonly number[]
  readonly y: readonly (number | null)[]
  /** Bounds of an interval around each y. */
  readonly low?: readonly (number | null)[]
  readonly high?: readonly (number | null)[]
  /** `line` by default; `steps` hold their value until the next x. */
  readonly kind?: 'line' | 'points' | 'bars' | 'steps'
  /** Index into the palette, or any SVG colour; the place among the series by default. */
  readonly color?: number | string
  /** 0 to 1. Default 1. */
  readonly opacity?: number
}

/** A stripe behind the data, such as a slot of timesteps; half-open. */
export interface Band {
  readonly begin: number
  readonly end: number
  readonly label?: string
}

/** Lines, points or bars over one axis. */
export interface LineFigure {
  readonly title: string
  readonly kind?: undefined
  readonly x: FigureAxis
  readonly y: FigureAxis
  readonly series: readonly FigureSeries[]
  readonly bands?: readonly Band[]
  /** A sentence below the figure. */
  readonly note?: string
}

/** A matrix of numbers as shades; null is a cell without a value. */
export interface HeatmapFigure {
  readonly title: string
  readonly kind: 'heatmap'
  /** Names of the rows, top to bottom. */
  readonly rows: readonly string[]
  readonly columns: readonly string[]
  /** [rows x columns], flat or a list of rows. */
  readonly values: readonly (number | null)[] | readonly (readonly (number | null)[])[]
  /** What the numbers are. */
  readonly label: string
  /** Whether shades part at 0. */
  readonly diverging?: boolean
  readonly note?: string
}

/** What pages and picture files draw; the plots of an instrument are figures. */
export type Figure = LineFigure | HeatmapFigure

/** Colours of the palette, `--series-0` and on, for light and dark. */
export const SERIES_COLOURS = 7

/** A colour of the palette, by the theme, or one that a series asks for. */
export function seriesColour(index: number | string): string {
  return typeof index === 'string' ? index : `var(--series-${index % SERIES_COLOURS})`
}

/** How a line is drawn whose colour another one has already. */
export function seriesPen(index: number | string): 'solid' | 'dashed' | 'dotted' {
  if (typeof index === 'string') return 'solid'
  return (['solid', 'dashed', 'dotted'] as const)[Math.floor(index / SERIES_COLOURS) % 3]!
}
