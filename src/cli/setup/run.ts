/** Runs `aicortex setup`. */
import { createInterface } from "node:readline"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import { createTwoFilesPatch } from "diff"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { environment } from "../../cortex/environment.js"
import { replaceFile, target } from "../../cortex/writeFile.js"
import { CommandFailed, UsageError } from "../errors.js"
import { gatewayUrl, isVariableName, ownGateway } from "../gatewayAddress.js"
import * as Output from "../output.js"
import { type Program, programs, type Target } from "./programs.js"

/** The parsed flags. */
export interface Flags {
  readonly program: string
  readonly url: string | undefined
  readonly model: string | undefined
  readonly smallModel: string | undefined
  readonly keyEnv: string | undefined
  readonly file: string | undefined
  readonly yes: boolean
  readonly json: boolean
}

/** So long the gateway is waited for when it is asked for its models, in milliseconds. */
const timeout = 3_000

/** Settings of other programs are small. */
const maxBytes = 4 << 20

const usage = (message: string) => new UsageError({ message, command: ["setup"] })

const programOf = (name: string): Either.Either<Program, UsageError> =>
  Either.fromNullable(programs.get(name), () =>
    usage(`PROGRAM must be one of ${[...programs.keys()].join(", ")}, not '${Output.withoutControls(name)}'`)
  )

const urlOf = (input: string): Either.Either<string, UsageError> =>
  Either.mapLeft(gatewayUrl(input), (reason) => usage(`--url: ${reason}`))

const check = Effect.fnUntraced(function* ({ keyEnv, model, smallModel }: Flags) {
  if (keyEnv !== undefined && !isVariableName(keyEnv)) {
    return yield* usage("--key-env must be the name of an environment variable: the key itself is not written")
  }
  for (const [flag, name] of [
    ["--model", model],
    ["--small-model", smallModel]
  ] as const) {
    if (name !== undefined && !/^[^\s\p{Cc}]+$/u.test(name)) return yield* usage(`${flag} must be the name of a model`)
  }
})

/** The names that the gateway has, or why it does not list them. */
const modelsOf = ({ keyEnv, url }: Target): Effect.Effect<ReadonlyArray<string> | string> => {
  const key = keyEnv === undefined ? undefined : environment(keyEnv)
  return Effect.tryPromise(async (signal) => {
    const response = await fetch(`${url}/v1/models`, {
      headers: key === undefined ? {} : { authorization: `Bearer ${key}` },
      redirect: "error",
      signal
    })
    if (response.status === 401) {
      await response.body?.cancel()
      return keyEnv === undefined
        ? "the gateway wants a key: name the variable that holds it with --key-env"
        : `the gateway does not take the key in ${keyEnv}${key === undefined ? ", which is not set here" : ""}`
    }
    if (!response.ok) throw new Error(`HTTP ${response.status}`)
    const { data } = (await response.json()) as { readonly data: ReadonlyArray<{ readonly id: string }> }
    return data.map(({ id }) => id)
  }).pipe(
    Effect.timeout(timeout),
    Effect.catchAll(() => Effect.succeed(`no gateway answers at ${url} now: aicortex serve starts one`))
  )
}

/** What is not as it must be for the program to work later. */
const warnings = Effect.fnUntraced(function* (to: Target) {
  const known = yield* modelsOf(to)
  if (typeof known === "string") return [known]
  return [...new Set([to.model, to.smallModel])]
    .filter((name) => name !== "auto" && !known.includes(name) && !known.includes(`${name}:latest`))
    .map((name) => `the gateway has no model '${name}' now`)
})

const asks = Effect.async<boolean>((resume) => {
  const lines = createInterface({ input: process.stdin, output: process.stderr })
  let answered = false
  lines.once("close", () => {
    if (!answered) resume(Effect.succeed(false))
  })
  lines.once("SIGINT", () => void process.kill(process.pid, "SIGINT"))
  lines.question("Write it? [y/N] ", (answer) => {
    answered = true
    lines.close()
    resume(Effect.succeed(/^\s*y(es)?\s*$/i.test(answer)))
  })
  return Effect.sync(() => lines.close())
})

const difference = (file: string, before: string, after: string): string => {
  const lines = createTwoFilesPatch(file, file, before, after, undefined, undefined, { context: 2 }).split("\n")
  return lines
    .slice(lines.findIndex((line) => line.startsWith("---")))
    .map(Output.withoutControls)
    .map((line) => {
      const style = line.startsWith("+") ? Output.green : line.startsWith("-") ? Output.red : Output.dim
      return line.startsWith(" ") ? line : style(line, process.stdout)
    })
    .join("\n")
}

/** `20261129T200512`, in UTC. */
const stamp = (now: number): string => new Date(now).toISOString().replace(/[-:]|\..*$/g, "")

/** Keeps a copy, with the rights of the file, and never over another copy. */
const backUp = Effect.fnUntraced(function* (file: string) {
  const fs = yield* FileSystem.FileSystem
  const real = yield* target(file)
  const now = stamp(yield* Clock.currentTimeMillis)
  let copy = `${real}.${now}.bak`
  for (let n = 2; yield* fs.exists(copy); n++) copy = `${real}.${now}-${n}.bak`
  yield* fs.copyFile(real, copy)
  return copy
})

/** With its byte order mark: it is written again. */
const textOf = Effect.fnUntraced(function* (file: string) {
  const fs = yield* FileSystem.FileSystem
  const bytes = yield* fs.readFile(file)
  return yield* Effect.try({
    try: () => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes),
    catch: () => new CommandFailed({ message: "it is not text in UTF-8" })
  })
})

const failed = (file: string) => (error: { readonly message: string }) =>
  new CommandFailed({ message: `${file}: ${error.message}` })

export const run = Effect.fnUntraced(function* (flags: Flags) {
  const program = yield* programOf(flags.program)
  yield* check(flags)
  const { json, keyEnv, model = "auto", smallModel = model, yes } = flags
  const url = flags.url === undefined ? (yield* ownGateway).url : yield* urlOf(flags.url)
  const to: Target = { url, model, smallModel, keyEnv }
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const file = path.resolve(flags.file ?? program.file())

  const before = yield* Effect.gen(function* () {
    if (!(yield* fs.exists(file))) return undefined
    const { size, type } = yield* fs.stat(file)
    if (type !== "File") return yield* new CommandFailed({ message: "it is not a file" })
    if (size > maxBytes) return yield* new CommandFailed({ message: "it is too large to be a program's settings" })
    return yield* textOf(file)
  }).pipe(Effect.mapError(failed(file)))
  const after = yield* Effect.try({
    try: () => {
      const text = before ?? ""
      const mark = text.startsWith("\uFEFF") ? "\uFEFF" : ""
      return mark + program.change(text.slice(mark.length), to)
    },
    catch: (cause) =>
      new CommandFailed({
        message: `${file} is not changed: ${(cause as Error).message}`
      })
  })

  const changed = before !== after
  if (!json) {
    if (!changed) yield* Output.write(`${program.title} uses the gateway already: ${file}\n`)
    else yield* Output.write(`${difference(file, before ?? "", after).trimEnd()}\n`)
  }
  for (const warning of yield* warnings(to)) yield* Output.notice(warning)

  const terminal = process.stdin.isTTY === true && process.stderr.isTTY === true
  const write = changed && (yes || (terminal && !json && (yield* asks)))
  let backup: string | undefined
  if (write) {
    yield* Effect.gen(function* () {
      const now = (yield* fs.exists(file)) ? yield* textOf(file) : undefined
      if (now !== before) return yield* new CommandFailed({ message: "another program has changed it since" })
      backup = before === undefined ? undefined : yield* backUp(file)
      const mode = before === undefined ? undefined : (yield* fs.stat(file)).mode & 0o777
      yield* replaceFile(file, after)
      if (mode !== undefined) yield* fs.chmod(file, mode)
    }).pipe(Effect.uninterruptible, Effect.mapError(failed(file)))
  }
  const next = program.next(to)
  if (json) {
    return yield* Output.writeJson({
      program: flags.program,
      file,
      changed,
      written: write,
      backup: backup ?? null,
      text: after,
      next
    })
  }
  if (write) {
    yield* Output.notice(`written: ${file}${backup === undefined ? "" : `; as it was: ${backup}`}`)
  } else if (changed) {
    yield* Output.notice(terminal ? "nothing was written" : "nothing was written: --yes writes it")
  }
  if (write || !changed) for (const line of next) yield* Output.notice(line)
})
