// npm test: set-up, then mocha; the last line counts the tests. Further arguments go to mocha: npm test -- --grep slots
import { spawn, spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'

const setup = spawnSync(process.execPath, ['bin/trislot.js', 'setup'], { stdio: 'inherit' })
if (setup.status !== 0) finish(0, 1, 1)

const argv = process.argv.slice(2)
const files = argv.some((argument) => /\.test\.ts$/.test(argument)) ? [] : ['test/**/*.test.ts']
const mocha = createRequire(import.meta.url).resolve('mocha/bin/mocha.js')
const colour = process.stdout.isTTY ? ['--color'] : []
const child = spawn(process.execPath, [mocha, ...colour, ...argv, ...files], {
  stdio: ['inherit', 'pipe', 'inherit'],
})
let output = ''
child.stdout.setEncoding('utf8').on('data', (text) => {
  process.stdout.write(text)
  output += text
})
child.on('close', (code) => {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours are escape sequences
  const plain = output.replaceAll(/\u001b\[[\d;]*m/g, '')
  const count = (word) => Number(plain.match(new RegExp(`^ +(\\d+) ${word}`, 'm'))?.[1] ?? 0)
  const failed = count('failing')
  // A run that broke off before its summary has failed, whatever it printed.
  finish(count('passing'), code === 0 ? failed : Math.max(1, failed), code ?? 1)
})

function finish(passed, failed, code) {
  console.log(`${passed} passed, ${failed} failed`)
  process.exit(failed > 0 ? code || 1 : code)
}
