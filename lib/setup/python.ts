// The active Python: its torch may serve as LibTorch, and its pip fetches the wheels with the user's own settings.
import { run } from './run.ts'

/** The Python that `python3` (or `python`) starts. */
export interface Python {
  readonly executable: string
  readonly hasPip: boolean
  /** Folder of its torch package, found without importing it. */
  readonly torchFolder: string | undefined
}

const question = `
import importlib.util, json, sys
def found(name):
    try:
        return importlib.util.find_spec(name)
    except Exception:
        return None
torch = found('torch')
folders = list(torch.submodule_search_locations or []) if torch is not None and torch.origin else []
print(json.dumps({'executable': sys.executable, 'hasPip': found('pip') is not None, 'torchFolder': folders[0] if folders else None}))
`

/** Asks the active Python (about 50 ms); undefined when there is none. */
export async function findPython(
  cwd: string,
  env: NodeJS.ProcessEnv = process.env,
  programs: readonly string[] = process.platform === 'win32' ? ['python', 'py'] : ['python3', 'python'],
): Promise<Python | undefined> {
  for (const program of programs) {
    const finished = await run(program, ['-c', question], { cwd, env, timeoutMs: 30_000 })
    if (finished?.code !== 0) continue
    try {
      const answer = JSON.parse(finished.stdout) as {
        executable: string
        hasPip: boolean
        torchFolder: string | null
      }
      return { ...answer, torchFolder: answer.torchFolder ?? undefined }
    } catch {}
  }
  return undefined
}
