/** Runs `aicortex run`. */
import * as Effect from "effect/Effect"
import type { ChatFlags } from "../chat/flags.js"
import { run as chat } from "../chat/run.js"
import * as Output from "../output.js"
import * as Local from "./ensure.js"
import { baseUrl } from "./names.js"
import { optionsOf, type StartFlags } from "./startOptions.js"

export interface Flags extends StartFlags {
  readonly model: string
  readonly detach: boolean
  readonly port: number | undefined
  readonly json: boolean
}

/** `aicortex chat` with no other flag than its model. */
const chatFlags = (model: string): ChatFlags => ({
  model,
  stream: false,
  noStream: false,
  image: [],
  output: undefined,
  temperature: undefined,
  system: undefined,
  persona: undefined,
  session: undefined,
  continue: false,
  routing: undefined,
  private: undefined,
  deadline: undefined,
  keepAlive: undefined,
  timeout: undefined,
  maxRetries: undefined,
  onInterrupt: undefined,
  hedge: false,
  json: false,
  schema: undefined,
  maxTokens: undefined,
  topP: undefined,
  topK: undefined,
  minP: undefined,
  stop: [],
  seed: undefined,
  frequencyPenalty: undefined,
  presencePenalty: undefined,
  repeatPenalty: undefined,
  think: undefined,
  raw: false,
  suffix: undefined,
  cache: false,
  cacheTtl: undefined,
  noCache: false,
  interactive: process.stdin.isTTY !== true || process.stdout.isTTY !== true,
  noStdin: false,
  verbose: false,
  prompt: []
})

export const run = Effect.fnUntraced(function* (flags: Flags) {
  yield* Local.download(flags.model)
  const status = yield* Local.supervisor(flags.port)
  const name = yield* Local.started(flags.model, optionsOf(flags))
  const url = baseUrl(status)
  if (flags.detach) {
    return yield* flags.json ? Output.writeJson({ model: name, url }) : Output.write(`${url}\n`)
  }
  yield* Output.dimNotice(`${name} is at ${url}; it runs until \`aicortex stop ${name}\``)
  return yield* chat(chatFlags(name))
})
