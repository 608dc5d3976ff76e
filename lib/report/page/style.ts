import { customProperties, DARK, LIGHT } from '../figure/palette.ts'

/** The page's style: a narrow column of text, wide figures, colours for light and dark that colour-blind readers can tell apart. */
export const STYLE = `
:root {
  color-scheme: light dark;
  ${customProperties(LIGHT)}
}
@media (prefers-color-scheme: dark) {
  :root {
    ${customProperties(DARK)}
  }
}
* { box-sizing: border-box; }
html { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font-variant-numeric: tabular-nums; }
main { max-width: 1088px; margin: 0 auto; padding: 56px 24px 96px; }
h1 { font-size: 2rem; line-height: 1.2; letter-spacing: -0.015em; font-weight: 650; margin: 0 0 8px; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; line-height: 1.3; letter-spacing: -0.01em; font-weight: 650; margin: 64px 0 12px; overflow-wrap: anywhere; }
h3 { font-size: 1.05rem; font-weight: 650; margin: 36px 0 8px; }
p { max-width: 68ch; margin: 0 0 12px; overflow-wrap: anywhere; }
.lede { font-size: 1.1rem; color: var(--muted); }
nav { margin: 20px 0 0; display: flex; flex-wrap: wrap; gap: 4px 20px; font-size: 0.9rem; }
a { color: var(--series-0); text-underline-offset: 3px; text-decoration-thickness: 1px; }
dl.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 20px 28px; margin: 32px 0 0; }
dl.facts div { border-top: 1px solid var(--rule); padding-top: 8px; min-width: 0; }
dt { font-size: 0.8rem; color: var(--muted); }
dd { margin: 0; font-size: 1.02rem; font-weight: 550; overflow-wrap: anywhere; }
figure { margin: 0; min-width: 0; }
.figures { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 36px 20px; margin: 20px 0 0; }
.figures + .figures { margin-top: 36px; }
.figures .wide { grid-column: 1 / -1; }
figcaption { font-size: 0.95rem; font-weight: 600; margin: 0 0 6px; }
svg.plot { display: block; width: 100%; height: auto; overflow: visible; }
.note { font-size: 0.85rem; color: var(--muted); margin: 8px 0 0; }
code { font: 0.875em ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
p.command { background: var(--panel); padding: 8px 12px; border-radius: 6px; max-width: none; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 18px; list-style: none; margin: 0 0 6px; padding: 0; font-size: 0.82rem; }
.legend i { display: inline-block; width: 18px; height: 0; margin-right: 7px; vertical-align: middle; }
.table { overflow-x: auto; margin: 20px 0 0; }
.figures + .table, .table + .table { margin-top: 40px; }
table { border-collapse: collapse; font-size: 0.88rem; line-height: 1.4; }
caption { text-align: left; font-size: 0.95rem; font-weight: 600; padding: 0 0 8px; }
th, td { text-align: left; vertical-align: baseline; padding: 5px 24px 5px 0; border-bottom: 1px solid var(--grid); max-width: 44ch; overflow-wrap: break-word; }
thead th { font-weight: 500; color: var(--muted); border-bottom-color: var(--rule); }
tbody th { font-weight: 500; min-width: 9em; }
.number { text-align: right; white-space: nowrap; }
details { margin: 20px 0 0; }
summary { cursor: pointer; font-weight: 550; }
.options { columns: 3 280px; column-gap: 36px; margin: 16px 0 0; font-size: 0.86rem; }
.options div { display: flex; justify-content: space-between; gap: 16px; border-bottom: 1px solid var(--grid); padding: 3px 0; break-inside: avoid; }
.options dt { font-size: inherit; flex: none; }
.options dd { font-size: inherit; font-weight: 450; text-align: right; }
.stages { display: flex; flex-wrap: wrap; gap: 20px; margin: 20px 0 0; }
.stages figure { width: min(340px, 100%); }
.stages figcaption { font-weight: 400; color: var(--muted); margin: 6px 0 0; font-size: 0.85rem; }
.stage { display: block; width: 100%; image-rendering: pixelated; border-radius: 4px; }
.slider { display: flex; align-items: center; gap: 10px; margin: 16px 0 4px; max-width: 700px; font-size: 0.88rem; color: var(--muted); }
.slider output { min-width: 5ch; color: var(--ink); font-weight: 600; }
.slider input { flex: 1; accent-color: var(--series-0); }
.film { display: flex; gap: 8px; overflow-x: auto; padding: 10px 0 2px; }
.film figure { flex: 0 0 92px; cursor: pointer; }
.film img { display: block; width: 92px; border-radius: 3px; }
.film figcaption { font-weight: 400; font-size: 0.75rem; color: var(--muted); text-align: center; margin: 2px 0 0; }
.film .current img { outline: 2px solid var(--series-0); outline-offset: 1px; }
.live { font-size: 0.85rem; color: var(--muted); }
.live::before { content: ""; display: inline-block; width: 8px; height: 8px; border-radius: 50%; background: var(--series-2); margin-right: 8px; }
.live.ended::before { background: var(--series-1); }
@media (max-width: 760px) {
  main { padding: 32px 16px 64px; }
  .figures { grid-template-columns: minmax(0, 1fr); }
  .wide { overflow-x: auto; }
  .wide svg.plot { min-width: 640px; }
}
@media print { main { padding: 0; } .slider, .live { display: none; } section { break-inside: avoid-page; } }
`
