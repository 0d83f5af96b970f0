/**
 * Where a function of the Promise face was called. What it rejects with was made elsewhere, by a timer or a socket, whose
 * stack says nothing of the caller.
 */
import { raised } from "../chat/toolLoop.js"
import { isChatError } from "../Errors.js"
import { ChatStream } from "./chatStream.js"

interface CallSite {
  readonly stack?: string
}

// biome-ignore lint/suspicious/noExplicitAny: any function.
type AnyFunction = (...args: any) => any

const callSite = (below: AnyFunction): CallSite => {
  // Not every engine has it.
  if (typeof Error.captureStackTrace !== "function") return new Error()
  const site: CallSite = {}
  Error.captureStackTrace(site, below)
  return site
}

/** In characters. One error may reject any number of calls, such as the reason of a signal. */
const maxStack = 20_000

/**
 * The message tells the attempts, those that failed in the same way once. Node prints the fields of an error that nobody
 * catches too, whatever the error says of its printing: there each would stand once more.
 */
const tellOnce = (error: Error): void => {
  const attempts = Object.getOwnPropertyDescriptor(error, "attempts")
  if (isChatError(error) && attempts?.configurable === true) {
    Object.defineProperty(error, "attempts", { ...attempts, enumerable: false })
  }
}

/** JSON, a spread and a structured clone have an error's own properties only, and the message is worked out by a getter. */
const keepMessage = (error: Error): void => {
  if (isChatError(error) && Object.isExtensible(error) && !Object.hasOwn(error, "message")) {
    Object.defineProperty(error, "message", {
      value: error.message,
      enumerable: true,
      configurable: true,
      writable: true
    })
  }
}

/** The same error, whose stack ends with that of the call. */
const locate = (error: unknown, site: CallSite): unknown => {
  if (!(error instanceof Error)) return error
  tellOnce(error)
  keepMessage(error)
  if (site.stack === undefined) return error
  const stack = error.stack ?? ""
  // Its first line is not a frame.
  const frames = site.stack.slice(site.stack.indexOf("\n") + 1)
  if (stack.includes(frames) || stack.length > maxStack) return error
  try {
    error.stack = `${stack}\n${frames}`
  } catch {
    // A frozen error stays as it is.
  }
  return error
}

/**
 * The same function, whose errors say where it was called. The engine tells who awaits it, so that a stack is made for
 * failures and streams only: for each call, it costs more than all that is done with it here.
 */
const located = (call: AnyFunction): AnyFunction => {
  const atSite = async (...args: ReadonlyArray<unknown>): Promise<unknown> => {
    try {
      const result: unknown = await call(...args)
      if (result instanceof ChatStream) {
        const site = callSite(atSite)
        result.failed = (error) => locate(raised(error), site)
      }
      return result
    } catch (error) {
      throw locate(raised(error), callSite(atSite))
    }
  }
  return atSite
}

/**
 * The same functions, also those of objects among them, whose errors say where they were called. What has a symbol for a
 * name stays as it is.
 *
 * @internal
 */
export const withCallSites = <A extends object>(functions: A): A => {
  const all = { ...functions } as Record<string, unknown>
  for (const [name, value] of Object.entries(functions)) {
    if (typeof value === "function") all[name] = located(value)
    else if (typeof value === "object" && value !== null) all[name] = withCallSites(value)
  }
  return all as A
}
