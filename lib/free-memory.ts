import { readFileSync } from 'node:fs'
import { freemem } from 'node:os'

/** Memory in bytes that new processes can take, within the container's limit where there is one. */
export function freeMemory(): number {
  const available = readText('/proc/meminfo')?.match(/^MemAvailable:\s+(\d+) kB/m)?.[1]
  const free = available === undefined ? freemem() : Number(available) * 1024
  const limit = Number(readText('/sys/fs/cgroup/memory.max') ?? Number.NaN)
  const cache = readText('/sys/fs/cgroup/memory.stat')?.match(/^inactive_file (\d+)/m)?.[1] ?? 0
  const used = Number(readText('/sys/fs/cgroup/memory.current') ?? Number.NaN) - Number(cache)
  return Number.isNaN(limit - used) ? free : Math.min(free, limit - used)
}

function readText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return undefined
  }
}
