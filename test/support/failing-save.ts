// A child of checkpoint.test.ts: trains one step beyond a checkpoint and fails to save it; prints the error.
import { saveCheckpoint } from '../../lib/training/checkpoint.ts'
import { checkpointOf } from './one-step.ts'

const [folder = '', mode] = process.argv.slice(2)
const { trainer, run } = await checkpointOf(folder)
// The rights of nobody, for files: root may write everywhere.
if (mode === 'read-only' && process.getuid?.() === 0) process.seteuid?.(65534)
try {
  await saveCheckpoint(trainer, run)
  console.log(JSON.stringify({ name: 'none' }))
} catch (error) {
  const { name, message } = error as Error
  console.log(JSON.stringify({ name, message }))
}
