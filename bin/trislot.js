#!/usr/bin/env node
// Starts the command line: the built files of an installed package, or the sources of a checkout.
import { existsSync } from 'node:fs'

const [major, minor] = process.versions.node.split('.').map(Number)
if (major < 20 || (major === 20 && minor < 17) || major === 21 || (major === 22 && minor < 9)) {
  console.error(`trislot: expected Node 20.17, or 22.9 or newer, got ${process.versions.node}`)
  process.exit(1)
}

// A reader that has gone (`| head`, a terminal that was closed) or a full disk takes neither the result nor the training with it: what is
// printed is lost. Only a result that cannot be written is said and ends with another exit code.
let lost
for (const stream of [process.stdout, process.stderr])
  stream.on('error', (error) => {
    const isGone = error.code === 'EPIPE' || (error.code === 'EIO' && stream.isTTY)
    if (stream === process.stdout && !isGone) lost ??= error
  })
process.on('exit', (code) => {
  if (!lost) return
  console.error(`trislot: expected the output to be written, got ${lost.message}`)
  if (code === 0) process.exitCode = 1
})

// A checkout runs its sources even when dist/ is there, so that no stale build is ever run.
const isCheckout = existsSync(new URL('../lib/setup/commands.ts', import.meta.url))
if (isCheckout) await import('tsx')
const load = (name) =>
  import(new URL(isCheckout ? `../lib/${name}.ts` : `../dist/esm/${name}.js`, import.meta.url).href)

// setup and doctor do not pass through the rest of the command line: they must run when the rest cannot.
const [command, ...rest] = process.argv.slice(2)
if (command === 'setup') process.exitCode = await (await load('setup/commands')).runSetup(rest)
else if (command === 'doctor') process.exitCode = await (await load('setup/commands')).runDoctor(rest)
else process.exitCode = await (await load('cli/main')).main(process.argv.slice(2))
