import { NativeError } from './errors.ts'
import { type Handle, native } from './native.ts'

/** What every object over a native handle shares: it can be disposed of, once or more often. */
export abstract class NativeObject<K extends string> {
  #handle: Handle<K> | undefined
  readonly #name: string

  protected constructor(handle: Handle<K>, name: string) {
    this.#handle = handle
    this.#name = name
  }

  /** The native handle, for this library; throws when the object has been disposed of. */
  get handle(): Handle<K> {
    if (!this.#handle) {
      throw new NativeError(
        `${this.#name}: expected a live object, got one that has been disposed of`,
        'ERR_DISPOSED',
      )
    }
    return this.#handle
  }

  /** Whether `dispose` has been called. */
  get isDisposed(): boolean {
    return this.#handle === undefined
  }

  /** Frees the native memory now instead of at some garbage collection. Work under way finishes first. */
  dispose(): void {
    if (this.#handle) native().handleDispose(this.#handle)
    this.#handle = undefined
  }
}

// Node 20.9 has Symbol.dispose, TypeScript's `using` finds it here.
const disposeSymbol: symbol | undefined = (Symbol as { dispose?: symbol }).dispose
if (disposeSymbol) {
  Object.defineProperty(NativeObject.prototype, disposeSymbol, {
    value(this: NativeObject<string>) {
      this.dispose()
    },
  })
}
