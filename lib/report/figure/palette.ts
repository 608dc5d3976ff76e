/** Colours by name; `series-0` and on tell lines apart. */
export type Palette = Readonly<Record<string, string>>

/** The light page, and pictures in files. */
export const LIGHT: Palette = {
  ...{ paper: '#fdfdfb', ink: '#1d2126', muted: '#5d6670', rule: '#c9ced4', grid: '#e8ebee' },
  ...{ stripe: '#f0f3f6', panel: '#f5f6f6' },
  ...{ 'series-0': '#005b96', 'series-1': '#c2410c', 'series-2': '#00795c', 'series-3': '#a4347e' },
  ...{ 'series-4': '#8f6b00', 'series-5': '#2b83b4', 'series-6': '#5d6670' },
}

/** The dark page. */
export const DARK: Palette = {
  ...{ paper: '#16191d', ink: '#e6e8ea', muted: '#9aa4af', rule: '#454d56', grid: '#2a3037' },
  ...{ stripe: '#1e242b', panel: '#1d2127' },
  ...{ 'series-0': '#62b6f0', 'series-1': '#ff9a5c', 'series-2': '#3fcf9f', 'series-3': '#f09ad0' },
  ...{ 'series-4': '#e5c04b', 'series-5': '#9bd4f5', 'series-6': '#a7b0ba' },
}

/** A palette as CSS custom properties. */
export function customProperties(palette: Palette): string {
  return Object.entries(palette)
    .map(([name, colour]) => `--${name}: ${colour};`)
    .join(' ')
}

/** An SVG that takes its colours from custom properties, with those of a palette in their place. */
export function coloured(svg: string, palette: Palette): string {
  return svg.replace(/="var\(--([\w-]+)\)"/g, (_, name: string) => `="${palette[name]}"`)
}
